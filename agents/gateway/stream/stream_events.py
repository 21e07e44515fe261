"""Decisions and dead letters as server-sent events: encoded once, for however many callers.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka.structs import ConsumerRecord

from agents.gateway.stream.stream_filter import StreamFilter
from agents.gateway.stream.stream_position import Gap, Position
from agents.redrive import DeadLetter
from topics.records import attempt_at, source_id
from topics.records import dead_letter as dead_letters

RETRY_MS = 2000
"""So long a caller waits before it connects again."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some events, as they are sent; perhaps none, and only the position has moved."""

    content: bytes
    events: int
    position: Position
    """Right behind it."""


class StreamedRecord:
    """A record of decisions or dead letters, on its way to callers.

    What filters look at is parsed, and what is sent encoded, when it is first asked for.
    """

    def __init__(self, record: ConsumerRecord, id_field: str, *, is_decision: bool) -> None:
        self._record, self._id_field, self._is_decision = record, id_field, is_decision
        self._fields: Mapping[str, Any] | None = None
        self._body = b""

    @property
    def is_ours(self) -> bool:
        """It is a decision or a dead letter; anybody who may write there can write other things."""
        try:
            if self._is_decision:
                attempt_at(self._record, is_decision=True)
            else:
                self._fields = self._dead_letter()
        except (KeyError, ValueError):
            return False
        return not self._is_decision or bool(self._record.value)

    def is_wanted(self, wanted: StreamFilter) -> bool:
        """Whether it passes a filter."""
        if not self._is_decision:
            return wanted.dead_letters and wanted.wants_dead_letter(self._parsed())
        return wanted.wants_all_decisions or wanted.wants_decision(self._parsed())

    def encoded(self, event_id: bytes) -> bytes:
        """The event, with that id."""
        if not self._body:
            name = b"decision" if self._is_decision else b"dead-letter"
            value = self._record.value if self._is_decision else orjson.dumps(self._parsed())
            self._body = b"event: %b\n%b\n\n" % (name, _data(value))
        return b"id: %b\n%b" % (event_id, self._body)

    def _parsed(self) -> Mapping[str, Any]:
        if self._fields is None:
            self._fields = self._decision()
        return self._fields

    def _decision(self) -> Mapping[str, Any]:
        try:
            content = orjson.loads(self._record.value)
        except orjson.JSONDecodeError:
            return {}
        return content if isinstance(content, dict) else {}

    def _dead_letter(self) -> Mapping[str, Any]:
        letter = DeadLetter.of(self._record, self._id_field, payload=False)
        source = dead_letters.source_of(self._record.headers)
        return {
            "event_id": letter.event_id, "source": source_id(*source),
            "stage": letter.stage, "error": letter.error, "reason": letter.reason,
            "attempt": letter.attempt, "dead_letter": letter.place,
        }  # fmt: skip


def gap_event(event_id: bytes, gaps: Sequence[Gap]) -> bytes:
    """What tells a caller that something is missing before what comes next."""
    missing = [
        {"topic": gap.topic, "partition": gap.partition, "from": gap.start, "to": gap.end,
         "because": gap.because}
        for gap in gaps
    ]  # fmt: skip
    data = orjson.dumps({"missing": missing})
    return b"id: %b\nevent: gap\ndata: %b\n\n" % (event_id, data)


def shed_event(behind: Position | None, skipped: int) -> bytes:
    """The last event for a caller that reads too slowly: it may go on behind that position."""
    data = orjson.dumps({"skipped": skipped})
    return b"%bevent: shed\ndata: %b\n\n" % (_id_line(behind), data)


def greeting(position: Position | None) -> bytes:
    """What a stream begins with: who sees no event at all can resume, too."""
    return b"retry: %d\n%b\n" % (RETRY_MS, _id_line(position))


def heartbeat(position: Position | None) -> bytes:
    """A comment, and where the stream is: what was passed over is not read again."""
    return b": heartbeat\n%b\n" % _id_line(position)


def _id_line(position: Position | None) -> bytes:
    return b"" if position is None else b"id: %b\n" % str(position).encode()


def _data(value: bytes) -> bytes:
    if b"\n" in value or b"\r" in value:  # not ours; it must not end the event
        value = b"\ndata: ".join(value.splitlines())
    return b"data: %b" % value
