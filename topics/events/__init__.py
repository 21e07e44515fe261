"""Events from outside, hostile until validated; the valid ones as columns.

`source_decoder` is the way in: records to events, their times and keys held to the pipeline file.
Under it are `event` (JSON to columns), `cloudevents`, `rfc3339`, `float32` and `record_keys`; what
is said of an event that is refused comes of `invalid_reasons` and `foreign_formats`.
"""

from topics.events.event import DecodedEvents, EventDecoder
from topics.events.float32 import LARGEST, BeyondFloat32, singles
from topics.events.invalid_reasons import MISSING, field_reasons
from topics.events.record_keys import KeyPlacement, is_own
from topics.events.rfc3339 import milliseconds
from topics.events.source_decoder import (
    CLOCKS_APART_MS,
    FUTURE_EVENT_TIME,
    SourceDecoder,
    SourceRecord,
    progress_ms,
)

__all__ = [
    "CLOCKS_APART_MS", "FUTURE_EVENT_TIME", "LARGEST", "MISSING", "BeyondFloat32",
    "DecodedEvents", "EventDecoder", "KeyPlacement", "SourceDecoder", "SourceRecord",
    "field_reasons", "is_own", "milliseconds", "progress_ms", "singles",
]  # fmt: skip
