"""The control topic, and the reports topic beside it: read, and written by one operator at a time.

`control_topic` reads and writes, `exclusive_writer` keeps two operators apart, `errors` says why a
version is refused. What is done with it is in `agents.service.hot_swap`.
"""

from agents.control.control_topic import WORKER, ControlTopic, now, now_ms, user
from agents.control.errors import (
    FixedWeights,
    IsChampion,
    NoChallenger,
    NothingToRollBack,
    SamePolicy,
)

__all__ = [
    "WORKER", "ControlTopic", "FixedWeights", "IsChampion", "NoChallenger", "NothingToRollBack",
    "SamePolicy", "now", "now_ms", "user",
]  # fmt: skip
