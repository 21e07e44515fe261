"""The control topic, and the reports topic beside it: read, and written by one operator at a time.

`topic` reads and writes, `writing` keeps two operators apart, `errors` says why a version is
refused.
"""

from agents.control.errors import (
    FixedWeights,
    IsChampion,
    NoChallenger,
    NothingToRollBack,
    SamePolicy,
)
from agents.control.topic import WORKER, ControlTopic, now, now_ms

__all__ = [
    "WORKER", "ControlTopic", "FixedWeights", "IsChampion", "NoChallenger", "NothingToRollBack",
    "SamePolicy", "now", "now_ms",
]  # fmt: skip
