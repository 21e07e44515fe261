"""The records about one event, found by its coordinates without reading topics through.

What is written of a partition's events stands in their order: on the stage topics by what batches
cover, on the topics of decisions and dead letters by what first attempts are about. So a record is
found by bisection, from the time on at which its event was published. What later attempts have
left is in no such order; it is read from a time on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.workers import TailReader
from topics.errors import WireError
from topics.pipeline import Topology
from topics.records import Source, StageBatch, buried_offset, decided_offset, decode
from topics.redrive import RedriveBatch, decode_redrive, picked

SLACK_MS = 60_000
"""Clocks of producers and workers may differ by so much."""
_NEAR = 32
"""So few records are read rather than halved again."""
_PROBE = 4
_GROWTH = 8
"""Records that say nothing are passed in steps of so many, each so many times longer."""

Reaches = Callable[[ConsumerRecord], bool | None]


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A record of a stage topic that answers for an event."""

    record: ConsumerRecord
    batch: StageBatch
    """All of it."""
    row: StageBatch
    """The event's row alone."""


@dataclass(frozen=True, slots=True)
class RedriveRecord:
    """A record of the redrive topic that an event travels in, or that says how an attempt ended."""

    record: ConsumerRecord
    batch: RedriveBatch
    """Without outputs."""
    attempt: int

    def outputs_of(self, source: Source) -> dict[str, StageBatch]:
        """Component → its row of the event; nothing where the outputs cannot be read."""
        record = self.record
        try:
            whole = decode_redrive(record.key, record.value, record.headers)
        except WireError:
            return {}
        return {
            name: rows[0]
            for name, batches in whole.outputs.items()
            if (rows := _rows_of(batches, source))
        }


async def first_reaching(
    tail: TailReader, topic: str, partition: int, start: int, reaches: Reaches
) -> ConsumerRecord | None:
    """The first record from offset *start* on that *reaches* says True of; few are read.

    Along the partition it says False, then True, and of any record between them None.
    """
    first, end = await tail.bounds(topic, partition)
    low, high, known = max(first, start), end, None
    while high - low > _NEAR:
        middle = (low + high) // 2
        answer = await _answer(tail, topic, partition, middle, high, reaches)
        if answer is None:
            high = middle
        elif reaches(answer):
            high, known = middle, answer
        else:
            low = answer.offset + 1
    for record in await tail.between(topic, partition, low, high):
        if reaches(record):
            return record
    return known


async def _answer(
    tail: TailReader, topic: str, partition: int, start: int, end: int, reaches: Reaches
) -> ConsumerRecord | None:
    """The first record with an offset in [start, end) that says anything."""
    step = _PROBE
    while start < end:
        for record in await tail.between(topic, partition, start, min(start + step, end)):
            if reaches(record) is not None:
                return record
        start, step = start + step, step * _GROWTH
    return None


class EventRecords:
    """Finds what a pipeline's topics hold of events that are known by their coordinates.

    Where *since_ms* is asked for, milliseconds since 1970, nothing about the event is older; None
    where nobody knows.
    """

    def __init__(self, tail: TailReader, topology: Topology) -> None:
        self._tail, self._topology = tail, topology

    async def at(self, place: Source) -> ConsumerRecord | None:
        """The record at *place*."""
        records = await self._tail.between(
            place.topic, place.partition, place.offset, place.offset + 1
        )
        return records[0] if records else None

    async def decision(self, place: Source, since_ms: int | None) -> ConsumerRecord | None:
        """The decision of the first attempt at the event."""
        return await self._first_end(self._topology.decisions, place, since_ms, decided_offset)

    async def dead_letter(self, place: Source, since_ms: int | None) -> ConsumerRecord | None:
        """The dead letter of the first attempt at the event."""
        return await self._first_end(self._topology.dead_letters, place, since_ms, buried_offset)

    async def stage(
        self, topic: str, place: Source, since_ms: int | None, *,
        partition: int | None = None, lane: int | None = None,
    ) -> StageRecord | None:  # fmt: skip
        """The first record of a stage's *topic* with a row of the event: joins take that one, too.

        On the event's partition, unless another is given; of a *lane*, if one is given.
        """

        def reaches(record: ConsumerRecord) -> bool | None:
            batch = _stage_batch(record)
            if batch is None or batch.topic != place.topic or batch.partition != place.partition:
                return None
            if lane is not None and batch.lane != lane:
                return None
            return batch.covers_to >= place.offset

        partition = place.partition if partition is None else partition
        start = await self.start(topic, partition, since_ms)
        record = await first_reaching(self._tail, topic, partition, start, reaches)
        if record is None or (batch := _stage_batch(record)) is None:
            return None
        rows = _rows_of([batch], place)
        return StageRecord(record, batch, rows[0]) if rows else None

    async def in_any_lane(
        self, name: str, place: Source, since_ms: int | None
    ) -> StageRecord | None:
        """The record of component *name* about the event, whose lane is not known."""
        topic, repartitioned = self._topology.stage(name), name in self._topology.repartitioned
        for lane in range(self._topology.partitions) if repartitioned else [None]:
            if (stage := await self.stage(topic, place, since_ms, lane=lane)) is not None:
                return stage
        return None

    async def redrives(self, place: Source, since_ms: int) -> list[RedriveRecord]:
        """All that the redrive topic holds of the event since then, in the order of its way."""
        topic, redrives = self._topology.redrive, list[RedriveRecord]()
        lanes = range(self._topology.partitions) if self._topology.repartitioned else []
        for partition in {place.partition, *lanes}:
            start = await self.start(topic, partition, since_ms)
            async with aclosing(self._tail.chunks(topic, partition, start)) as chunks:
                async for records in chunks:
                    redrives += [
                        each
                        for record in records
                        if (each := _redrive_record(record, place)) is not None
                    ]
        return sorted(redrives, key=_on_its_way)

    async def start(self, topic: str, partition: int, since_ms: int | None) -> int:
        """The first offset written at *since_ms* or later, or one before it; 0 for None."""
        return 0 if since_ms is None else await self._tail.since(topic, partition, since_ms)

    async def _first_end(
        self, topic: str, place: Source, since_ms: int | None,
        offset_of: Callable[[ConsumerRecord], int | None],
    ) -> ConsumerRecord | None:  # fmt: skip
        def offset_about(record: ConsumerRecord) -> int | None:
            try:
                return offset_of(record)
            except (KeyError, ValueError):  # others' records
                return None

        def reaches(record: ConsumerRecord) -> bool | None:
            offset = offset_about(record)
            return None if offset is None else offset >= place.offset

        # A producer's clock may be wrong: then the whole partition is searched.
        for start in dict.fromkeys([await self.start(topic, place.partition, since_ms), 0]):
            record = await first_reaching(self._tail, topic, place.partition, start, reaches)
            if record is not None and offset_about(record) == place.offset:
                return record
        return None


def _stage_batch(record: ConsumerRecord) -> StageBatch | None:
    """None for a heartbeat, and for what is not ours."""
    try:
        return decode(record.value, dict(record.headers))
    except WireError:
        return None


def _redrive_record(record: ConsumerRecord, place: Source) -> RedriveRecord | None:
    """None where it is not about the event."""
    try:
        batch = decode_redrive(record.key, record.value, record.headers, outputs=False)
    except WireError:
        return None
    if (batch.topic, batch.partition) != (place.topic, place.partition):
        return None
    for event in batch.events:
        if event.offset == place.offset:
            return RedriveRecord(record, batch, event.attempt)
    return None


def _on_its_way(redrive: RedriveRecord) -> tuple[int, bool, int, int]:
    """Of two clocks that disagree an ending stands last all the same."""
    record = redrive.record
    return redrive.attempt, redrive.batch.end is not None, record.timestamp, record.offset


def _rows_of(batches: Collection[StageBatch], place: Source) -> list[StageBatch]:
    """What *batches* say of the event, in batches of one row."""
    offsets = np.array([place.offset], np.int64)
    of_source = [each for each in batches if each.partition == place.partition]
    return picked(of_source, offsets)
