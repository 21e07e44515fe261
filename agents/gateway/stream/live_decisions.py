"""What is decided now, for all callers of the stream at once.

One consumer reads it, whatever the number of callers. A record is looked at once for each filter,
and encoded once; callers with the same filter are given the same bytes, some milliseconds' worth at
a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka.structs import ConsumerRecord

from agents.gateway.stream.stream_events import Block, StreamedRecord
from agents.gateway.stream.stream_filter import StreamFilter
from agents.gateway.stream.stream_outbox import Outbox
from agents.gateway.stream.stream_position import Cursor, Position

_FLUSH_S = 0.05
"""Callers are given what has come so often: each is a task to wake and a write."""


@dataclass(slots=True)
class _Group:
    """Callers with the same filter."""

    outboxes: set[Outbox] = field(default_factory=set)
    pending: list[bytes] = field(default_factory=list)
    """Events since the last block."""


class LiveDecisions:
    """Callers of the stream that are at its end; for one event loop."""

    def __init__(self, id_field: str) -> None:
        self._id_field = id_field
        self._cursor: Cursor | None = None
        self._groups: dict[StreamFilter, _Group] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._opened = asyncio.Event()

    def open(self, position: Position) -> None:
        """What is taken from now on begins at *position*, which names dead letters too."""
        self._cursor = Cursor(position)
        self._opened.set()

    def close(self) -> None:
        """Nothing more is taken; callers have to read what they miss."""
        self._opened.clear()
        self._interrupt()
        self._cursor = None

    async def opened(self) -> None:
        """Return when it is open."""
        await self._opened.wait()

    def position(self, wanted: StreamFilter) -> Position | None:
        """Where it stands, for callers with that filter; None while it is closed."""
        return None if self._cursor is None else _seen_by(wanted, self._cursor.position)

    def join(self, wanted: StreamFilter, outbox: Outbox) -> None:
        """Offer *outbox* all that is wanted of what comes behind the position as it is now."""
        group = self._groups.setdefault(wanted, _Group())
        self._flush_group(wanted, group)
        group.outboxes.add(outbox)

    def leave(self, wanted: StreamFilter, outbox: Outbox) -> None:
        """Offer it nothing more."""
        group = self._groups.get(wanted)
        if group is not None:
            group.outboxes.discard(outbox)
            if not group.outboxes:
                del self._groups[wanted]

    def take(self, partition: int, records: Sequence[ConsumerRecord], *, is_decision: bool) -> None:
        """Records of decisions or dead letters have come, in the order of their partition."""
        cursor = self._cursor
        if cursor is None or not records:
            return
        if not self._groups:
            cursor.advance(partition, records[-1].offset + 1, is_decision=is_decision)
            return
        if records[0].offset != cursor.offset(partition, is_decision=is_decision):
            # The broker has deleted some before they were read: what is missing, they find out.
            self._interrupt()
        for record in records:
            cursor.advance(partition, record.offset + 1, is_decision=is_decision)
            self._take(StreamedRecord(record, self._id_field, is_decision=is_decision), cursor)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)

    def _take(self, record: StreamedRecord, cursor: Cursor) -> None:
        if not record.is_ours:
            return
        ids = dict[bool, bytes]()
        for wanted, group in self._groups.items():
            if record.is_wanted(wanted):
                letters = wanted.dead_letters
                event_id = ids.get(letters)
                if event_id is None:
                    event_id = ids[letters] = cursor.event_id(with_dead_letters=letters)
                group.pending.append(record.encoded(event_id))

    def _flush(self) -> None:
        self._timer = None
        for wanted, group in [*self._groups.items()]:
            self._flush_group(wanted, group)
            if not group.outboxes:
                del self._groups[wanted]

    def _flush_group(self, wanted: StreamFilter, group: _Group) -> None:
        if self._cursor is None:
            return
        content, events = b"".join(group.pending), len(group.pending)
        group.pending.clear()
        block = Block(content, events, _seen_by(wanted, self._cursor.position))
        group.outboxes = {outbox for outbox in group.outboxes if outbox.offer(block)}

    def _interrupt(self) -> None:
        """Give out what has come; then all have to read the past from where they are."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        for group in self._groups.values():
            for outbox in group.outboxes:
                outbox.interrupt()
        self._groups.clear()


def _seen_by(wanted: StreamFilter, position: Position) -> Position:
    return position if wanted.dead_letters else position.of_decisions()
