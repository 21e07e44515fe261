"""Events from outside, hostile until validated; the valid ones as columns.

`source_decoder` is the way in: records to events, their times and keys held to the pipeline file;
`outcome_decoder` does the same for outcomes, and ranks them. Under them are `event_decoder` (JSON
to columns), `cloudevents`, `rfc3339`, `float32` and `record_keys`; what is said of an event that is
refused comes of `invalid_reasons` and `foreign_formats`.
"""

from topics.events.event_decoder import DecodedEvents, EventDecoder
from topics.events.float32 import LARGEST_FLOAT32, BeyondFloat32, as_float32
from topics.events.invalid_reasons import FIELD_MISSING, field_reasons
from topics.events.outcome_decoder import DecodedOutcomes, OutcomeDecoder
from topics.events.record_keys import KeyPlacement, is_own
from topics.events.rfc3339 import LONGEST_TIME, epoch_ms
from topics.events.source_decoder import (
    CLOCKS_APART_MS,
    FUTURE_EVENT_TIME,
    SourceDecoder,
    SourceRecord,
    progress_ms,
    without,
)

__all__ = [
    "CLOCKS_APART_MS", "FIELD_MISSING", "FUTURE_EVENT_TIME",
    "LARGEST_FLOAT32", "LONGEST_TIME", "BeyondFloat32", "DecodedEvents", "DecodedOutcomes",
    "EventDecoder", "KeyPlacement", "OutcomeDecoder", "SourceDecoder", "SourceRecord",
    "as_float32", "epoch_ms", "field_reasons", "is_own", "progress_ms", "without",
]  # fmt: skip
