"""The offset-aligned join: rows of several stages side by side, in source order.

`partition_join` holds the protocol: what is answered, what waits, what leaves. `exemptions` says
which inputs are not waited for: what is down, and when it counts again. A `lane` is one input,
`input_bound` says how much of one is held. `stage_rows` puts batches side by side: what a join
hands on, and what components get.
"""

from agents.join.exemptions import Moment
from agents.join.partition_join import PartitionJoin
from agents.join.stage_rows import (
    ERRORS,
    NO_ROWS,
    EventInput,
    JoinedRows,
    ModelRun,
    Reason,
    StageInput,
    StageRows,
    aligned,
    early_of,
    failures_of,
)

__all__ = [
    "ERRORS", "NO_ROWS", "EventInput", "JoinedRows", "ModelRun", "Moment", "PartitionJoin",
    "Reason", "StageInput", "StageRows", "aligned", "early_of", "failures_of",
]  # fmt: skip
