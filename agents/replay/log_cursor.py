"""Partitions read forward, side by side, with a look at the next record."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.replay.read_ahead import ReadAhead
from topics.settings import BrokerSettings

OffsetOf = Callable[[ConsumerRecord], int | None]


@dataclass(slots=True)
class RecordsAbout:
    """Records about events up to one, as they stand on a partition."""

    first: dict[int, ConsumerRecord] = field(default_factory=dict)
    """Source offset → the first about it."""
    repeated: list[tuple[int, ConsumerRecord]] = field(default_factory=list)
    """Those behind the first, each with its source offset."""
    later_attempts: int = 0
    """Records about events that were redriven."""
    foreign: int = 0
    """Records that are about no event of the partition."""
    goes_on: bool = False
    """A record about a later event stands behind them."""


@dataclass(slots=True)
class LogCursor:
    """A partition of a topic, read forward to what was its end when reading began."""

    logs: ReadAhead
    tp: TopicPartition
    end: int
    _ahead: deque[ConsumerRecord] = field(default_factory=deque)

    async def first(self) -> ConsumerRecord | None:
        """The next record, which stays the next; None at the end."""
        return self._ahead[0] if self._ahead or await self._more() else None

    async def some(self, most: int, before: int) -> list[ConsumerRecord]:
        """At most so many records, with offsets below *before*; none at the end."""
        records: list[ConsumerRecord] = []
        while len(records) < most and (self._ahead or await self._more()):
            if self._ahead[0].offset >= before:
                break
            records.append(self._ahead.popleft())
        return records

    async def up_to(self, last: int, offset_of: OffsetOf, end: int) -> RecordsAbout:
        """Records about events up to source offset *last*; there are events before offset *end*.

        *offset_of* says nothing of a record about a redriven event.
        """
        records = RecordsAbout()
        while self._ahead or await self._more():
            record = self._ahead[0]
            try:
                about = offset_of(record)
            except (KeyError, ValueError):  # no such record
                about = end
            if about is not None and last < about < end:
                records.goes_on = True
                break
            self._ahead.popleft()
            if about is None:
                records.later_attempts += 1
            elif about >= end:
                records.foreign += 1
            elif records.first.setdefault(about, record) is not record:
                records.repeated.append((about, record))
        return records

    async def next(self) -> ConsumerRecord | None:
        """The next record; None at the end."""
        return self._ahead.popleft() if self._ahead or await self._more() else None

    async def _more(self) -> bool:
        self._ahead.extend(await self.logs.records(self.tp))
        return bool(self._ahead)

    def seek(self, offset: int) -> None:
        """Read on from there."""
        self._ahead.clear()
        self.logs.seek(self.tp, offset)


@asynccontextmanager
async def open_logs(
    settings: BrokerSettings, positions: Mapping[TopicPartition, int],
    ends: Mapping[tuple[str, int], int],
) -> AsyncIterator[Mapping[TopicPartition, LogCursor]]:  # fmt: skip
    """Cursors at *positions* that read up to *ends*, on one connection outside any group."""
    own_ends = {tp: ends[tp.topic, tp.partition] for tp in positions}
    async with ReadAhead.of(settings, positions, own_ends) as logs:
        yield {tp: LogCursor(logs, tp, end) for tp, end in own_ends.items()}


def source_offset(record: ConsumerRecord, offset_of: OffsetOf) -> int | None:
    """What a record is about; None for one that is no such record."""
    try:
        return offset_of(record)
    except (KeyError, ValueError):  # no such record
        return None
