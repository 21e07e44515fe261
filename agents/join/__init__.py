"""The offset-aligned join: rows of several stages side by side, in source order.

`partition_join` holds the protocol: what is answered, what waits, when a stage is down or late. A
`lane` is one input of it, `stage_rows` puts batches side by side, `stage_input` is what components
get.
"""

from agents.join.partition_join import Joined, Moment, PartitionJoin
from agents.join.stage_input import Decoded, Given
from agents.join.stage_rows import ERRORS, StageRows, aligned, failures_of

__all__ = [
    "ERRORS", "Decoded", "Given", "Joined", "Moment", "PartitionJoin", "StageRows", "aligned",
    "failures_of",
]  # fmt: skip
