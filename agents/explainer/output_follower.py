"""What a component said of events, read in the order of their decisions.

Decisions of a partition stand in the order of their events, and so do stage batches: a topic is
read once, along with them. Of a repartitioned component only those of one lane do; what has been
read of other lanes ahead is kept, and beyond a bound read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing

from aiokafka.structs import ConsumerRecord

from agents.workers import TailReader
from topics.errors import WireError
from topics.pipeline import Topology
from topics.records import HEARTBEAT_HEADER, StageBatch, decode

_MOST_KEPT = 256
"""Batches that were read, and are of later events."""
_FAR = 10_000
"""Events that lie further ahead are looked for by time."""


class OutputFollower:
    """One component's topic, in one partition."""

    def __init__(
        self, tail: TailReader, topology: Topology, component: str, partition: int
    ) -> None:
        self._tail, self._partition = tail, partition
        self._topic, self._events = topology.stage(component), topology.events
        lanes = range(topology.partitions) if component in topology.repartitioned else [None]
        self._covered: dict[int | None, int] = dict.fromkeys(lanes, -1)
        """Lane → the highest source offset that it has answered, as far as it was read."""
        self._position: int | None = None
        self._last = -1
        self._kept: list[tuple[int, StageBatch]] = []
        """What was read ahead, each with its offset on the topic."""

    async def rows(self, offsets: Sequence[int], since_ms: int) -> dict[int, StageBatch]:
        """Source offset → what was said first of that event, of *offsets*, which ascend.

        They lie behind those that were asked for before. Nothing about them was written before
        *since_ms*, milliseconds since 1970. What is not there is left out.
        """
        await self._go_to(offsets[0], since_ms)
        wanted, rows = {*offsets}, dict[int, StageBatch]()
        kept, self._kept = self._kept, []
        for at, batch in kept:
            self._take(at, batch, wanted, rows, offsets[-1])
        while len(rows) < len(wanted) and min(self._covered.values()) < offsets[-1]:
            if not await self._read_on(wanted, rows, offsets[-1]):
                break
        self._last = offsets[-1]
        self._go_back()
        return rows

    async def _go_to(self, offset: int, since_ms: int) -> None:
        if self._position is None or offset - self._last > _FAR:
            start = await self._tail.since(self._topic, self._partition, since_ms)
            self._position = max(start, self._position or 0)

    async def _read_on(self, wanted: set[int], rows: dict[int, StageBatch], last: int) -> bool:
        """Read what one fetch brings; False at the end of the topic."""
        position = self._position or 0
        chunks = self._tail.chunks(self._topic, self._partition, position)
        async with aclosing(chunks):
            async for records in chunks:
                for record in records:
                    self._position = record.offset + 1
                    if (batch := self._batch(record)) is not None:
                        self._take(record.offset, batch, wanted, rows, last)
                if records:
                    return True
        return False

    def _batch(self, record: ConsumerRecord) -> StageBatch | None:
        """None for a heartbeat, and for what is not ours: workers say so."""
        headers = dict(record.headers)
        if HEARTBEAT_HEADER in headers:
            return None
        try:
            batch = decode(record.value, headers)
        except WireError:
            return None
        is_ours = (batch.topic, batch.partition) == (self._events, self._partition)
        return batch if is_ours and batch.lane in self._covered else None

    def _take(
        self, at: int, batch: StageBatch, wanted: set[int], rows: dict[int, StageBatch], last: int
    ) -> None:
        self._covered[batch.lane] = max(self._covered[batch.lane], batch.covers_to)
        for row, offset in _found(batch, wanted):
            rows.setdefault(offset, batch[row : row + 1])
        if batch.covers_to > last:
            self._kept.append((at, batch))

    def _go_back(self) -> None:
        """Keep no more than the bound; the rest is read again when it is asked for."""
        if len(self._kept) > _MOST_KEPT:
            self._position = self._kept[_MOST_KEPT][0]
            del self._kept[_MOST_KEPT:]
            self._covered = dict.fromkeys(self._covered, -1)


def _found(batch: StageBatch, wanted: set[int]) -> Iterator[tuple[int, int]]:
    """Rows of a batch, and their source offsets, that are wanted."""
    for row, offset in enumerate(batch.rows.offsets.tolist()):
        if offset in wanted:
            yield row, offset
