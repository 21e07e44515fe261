"""What a monitor reads: partitions from positions of its own, as much as a fetch brings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.structs import TopicPartition

from agents.broker import LogReader, RecordBatch

log = logging.getLogger(__name__)


class FetchedRecords(NamedTuple):
    """Records of a partition, in order: with offset, timestamp, key, value and headers."""

    topic: str
    partition: int
    records: Sequence[Any]


class TopicFeed:
    """Reads partitions on and on."""

    def __init__(self, reader: LogReader, positions: Mapping[TopicPartition, int]) -> None:
        self._reader = reader
        self.positions = dict(positions)
        """The offset of the next record of each partition."""
        self.ends: dict[TopicPartition, int] = {}
        """Where the partitions ended when `look` was called last."""
        self.missed = 0
        """Records that were deleted before they were read."""

    @classmethod
    async def at(
        cls, reader: LogReader, topics: Iterable[str], known: Mapping[str, Mapping[int, int]]
    ) -> TopicFeed:
        """A feed of *topics* at *known* positions; where none is known, at the beginning.

        Raises TopicMissing, NotAuthorized, KafkaError.
        """
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in range(await reader.partitions(topic))
        ]
        firsts = await reader.bounds(partitions, "first")
        positions = {tp: known.get(tp.topic, {}).get(tp.partition, firsts[tp]) for tp in partitions}
        return cls(reader, positions)

    async def look(self) -> None:
        """Ask where the partitions end now. Raises KafkaError."""
        self.ends = await self._reader.bounds(self.positions, "end")

    @property
    def has_caught_up(self) -> bool:
        """All is read that was there when `look` was called last."""
        return all(position >= self.ends.get(tp, 0) for tp, position in self.positions.items())

    def lag(self) -> dict[str, int]:
        """Topic → records that are still to be read."""
        lag = dict.fromkeys((tp.topic for tp in self.positions), 0)
        for tp, position in self.positions.items():
            lag[tp.topic] += max(0, self.ends.get(tp, 0) - position)
        return lag

    async def fetch(self) -> list[FetchedRecords]:
        """What the brokers give now; nothing after a moment without any. Raises KafkaError."""
        fetched: list[FetchedRecords] = []
        for tp, result in (await self._reader.fetch(self.positions)).items():
            position = self.positions[tp]
            if result.dropped:
                first = (await self._reader.bounds([tp], "first"))[tp]
                self.missed += max(0, first - position)
                log.warning(
                    "%s[%d]@%d is not there: the monitor reads on at %d, and what was between them "
                    "is not counted", tp.topic, tp.partition, position, first,
                )  # fmt: skip
                self.positions[tp] = first
            elif result.batches:
                records = await asyncio.to_thread(_records, result.batches, position)
                self.positions[tp] = result.batches[-1].next_offset
                if records:
                    self.missed += _missed(tp, records[0].offset, position, result.batches)
                    fetched.append(FetchedRecords(tp.topic, tp.partition, records))
        return fetched

    async def again(
        self, starts: Mapping[TopicPartition, int]
    ) -> AsyncIterator[list[FetchedRecords]]:
        """The records from *starts* on that are before the positions. Raises KafkaError."""
        stops = {tp: self.positions[tp] for tp in starts}
        before = TopicFeed(self._reader, starts)
        while before.positions:
            parts = await before.fetch()
            yield [
                part._replace(records=[
                    record for record in part.records
                    if record.offset < stops[TopicPartition(part.topic, part.partition)]
                ])
                for part in parts
            ]  # fmt: skip
            before.positions = {
                tp: position for tp, position in before.positions.items() if position < stops[tp]
            }


def _records(batches: Sequence[RecordBatch], position: int) -> list[Any]:
    return [record for batch in batches for record in batch.records() if record.offset >= position]


def _missed(tp: TopicPartition, first: int, position: int, batches: Sequence[RecordBatch]) -> int:
    """Records that the embedded broker has dropped without a word: others say so."""
    gap = max(0, batches[0].offset - position)
    if gap:
        log.warning(
            "%s[%d]: %d records from @%d on were deleted before they were read, and are not "
            "counted", tp.topic, tp.partition, min(gap, first - position), position,
        )  # fmt: skip
    return gap
