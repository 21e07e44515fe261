"""Redriving: a dead letter's event on its way through the pipeline again.

`record` states the protocol: what stands on the redrive topic, who answers, how an attempt ends.
`outputs` is what a redrive record carries of its event's stages, `endings` which attempts of a
partition have ended. What workers and the command do about it is in `agents.redrive`.
"""

from topics.redrive.endings import (
    MOST_ENDINGS,
    Endings,
    EndingSummary,
    decode_summary,
    encode_summary,
    is_summary,
)
from topics.redrive.outputs import RedriveOutputs, batches_of, contents_of
from topics.redrive.record import (
    Ending,
    RedriveHeader,
    RedriveRecord,
    RedriveRoute,
    encode_redrive,
    next_component,
    open_redrive,
    producer_headers,
    redrive_header,
)

__all__ = [
    "MOST_ENDINGS", "Ending", "EndingSummary", "Endings", "RedriveHeader", "RedriveOutputs",
    "RedriveRecord", "RedriveRoute", "batches_of", "contents_of", "decode_summary",
    "encode_redrive", "encode_summary", "is_summary", "next_component", "open_redrive",
    "producer_headers", "redrive_header",
]  # fmt: skip
