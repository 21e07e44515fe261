"""Publishing events and outcomes: by key, at a rate, never too far ahead of their ends.

`publisher` with its `schedule`; `in_flight`, `byte_limit` and `embedded_limit` hold it back;
`outcome_publisher` follows with the labels.
"""

from agents.publish.byte_limit import ByteLimit, bytes_about_event
from agents.publish.embedded_limit import chunks_that_fit
from agents.publish.in_flight import InFlight
from agents.publish.outcome_publisher import OutcomePublisher
from agents.publish.publisher import encoded, partition_of
from agents.publish.schedule import EventAndOutcome, Schedule, scheduled

__all__ = [
    "ByteLimit", "EventAndOutcome", "InFlight", "OutcomePublisher", "Schedule",
    "bytes_about_event", "chunks_that_fit", "encoded", "partition_of", "scheduled",
]  # fmt: skip
