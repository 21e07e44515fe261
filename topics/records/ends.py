"""How source records end, read off the headers of decisions and dead letters.

An event's ordinary end is its first attempt's. When its dead letter is redriven, it gets a later
end, out of the order of the source: whoever follows the stream by its ends leaves those out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from topics.records import dead_letter as dead_letters
from topics.records import decision


class Headed(Protocol):
    """The part of a Kafka record that says what it is about."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Names and values, in order."""


def attempt_at(record: Headed, *, is_decision: bool) -> tuple[int, int]:
    """The source offset that a decision or a dead letter is about, and which attempt it ended.

    Raises KeyError or ValueError when the record is none.
    """
    of = decision if is_decision else dead_letters
    return of.source_of(record.headers)[2], of.attempt_of(record.headers)


def decided_offset(record: Headed) -> int | None:
    """The source offset that a decision is about; None when it is of a redriven event.

    Raises KeyError or ValueError when the record is not a decision.
    """
    offset, attempt = attempt_at(record, is_decision=True)
    return offset if attempt == 1 else None


def buried_offset(record: Headed) -> int | None:
    """The source offset that a dead letter is about; None when it is of a redriven event.

    Raises KeyError or ValueError when the record is not a dead letter.
    """
    offset, attempt = attempt_at(record, is_decision=False)
    return offset if attempt == 1 else None
