"""The offset-aligned join: rows of several stages side by side, in source order.

`partition_join` holds the protocol: what is answered, what waits, when a stage is down or late. A
`lane` is one input of it, `stage_rows` puts batches side by side: what a join hands on, and what
components get.
"""

from agents.join.partition_join import Moment, PartitionJoin
from agents.join.stage_rows import (
    ERRORS,
    EventInput,
    JoinedRows,
    StageInput,
    StageRows,
    aligned,
    failures_of,
)

__all__ = [
    "ERRORS", "EventInput", "JoinedRows", "Moment", "PartitionJoin", "StageInput", "StageRows",
    "aligned", "failures_of",
]  # fmt: skip
