"""Redriving: a dead letter's event on its way through the pipeline again.

`record` states the protocol: what stands on the redrive topic, who answers, how an attempt ends.
`wire` is its bytes, `single_event` those of the version before; `route` says who is next, `outputs`
picks rows, and `endings` sums up which attempts of a partition have ended. What workers and the
command do about it is in `agents.redrive`.
"""

from topics.redrive.endings import (
    MOST_ENDINGS,
    Endings,
    EndingSummary,
    decode_summary,
    encode_summary,
    is_summary,
)
from topics.redrive.outputs import merged, picked
from topics.redrive.record import MOST_ATTEMPTS, Ending, RedriveBatch, RedrivenEvent
from topics.redrive.route import RedriveRoute
from topics.redrive.single_event import producer_headers
from topics.redrive.wire import decode_redrive, encode_redrive, next_component

__all__ = [
    "MOST_ATTEMPTS", "MOST_ENDINGS", "Ending", "EndingSummary", "Endings", "RedriveBatch",
    "RedriveRoute", "RedrivenEvent", "decode_redrive", "decode_summary", "encode_redrive",
    "encode_summary", "is_summary", "merged", "next_component", "picked", "producer_headers",
]  # fmt: skip
