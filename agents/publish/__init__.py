"""Publishing events and outcomes: by key, at a rate, never too far ahead of their ends.

`publisher` with its `pacing`; `in_flight`, `byte_limit` and `embedded_limit` hold it back;
`outcome_publisher` follows with the labels.
"""

from agents.publish.byte_limit import ByteRoom, bytes_about_event
from agents.publish.embedded_limit import parts_in_bytes
from agents.publish.in_flight import InFlight
from agents.publish.outcome_publisher import OutcomePublisher
from agents.publish.pacing import Labelled, Pace, paced_by

__all__ = [
    "ByteRoom", "InFlight", "Labelled", "OutcomePublisher", "Pace", "bytes_about_event",
    "paced_by", "parts_in_bytes",
]  # fmt: skip
