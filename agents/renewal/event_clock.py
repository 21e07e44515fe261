"""The clock of everything that is measured in days here: event time, as far as it has come.

A topic that is published at a hundred times its pace has a hundred days in one, and one that stands
still has none; wall clocks have no say in it. One event with a time of next year moves nothing: of
each partition the median of the newest events counts, and of partitions the one that is furthest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.explanations import first_reaching
from agents.replay.recorded_range import SourceRange
from agents.workers import TailReader
from topics.events import EventDecoder
from topics.pipeline import Pipeline, Topology, duration_ms
from topics.records import decided_offset

_NEWEST = 15
"""Events of a partition whose median is its time."""


class EventClock:
    """Tells event time of a pipeline by its events topic, and where on it a time is."""

    def __init__(self, pipeline: Pipeline, tail: TailReader) -> None:
        self._pipeline, self._tail = pipeline, tail
        self._topology, self._decoder = Topology.of(pipeline), EventDecoder(pipeline.event)
        self._slack_ms = duration_ms(pipeline.event.lateness)

    async def now_ms(self) -> int | None:
        """Event time, in ms since 1970; None where there is no valid event yet."""
        times = [
            time
            for partition in range(self._topology.partitions)
            if (time := await self._newest_ms(partition)) is not None
        ]
        return max(times, default=None)

    async def range_ms(self, start_ms: int, end_ms: int) -> list[SourceRange]:
        """Source offsets that hold all events of [start, end) in event time, and a few others.

        Events are in the order of their times but for `event: lateness`.
        """
        ranges = []
        for partition in range(self._topology.partitions):
            first, end = await self._tail.bounds(self._topology.events, partition)
            begin = await self._offset_at(partition, start_ms - self._slack_ms, end)
            stop = await self._offset_at(partition, end_ms + self._slack_ms, end)
            if stop > max(first, begin):
                ranges.append(SourceRange(partition, max(first, begin), stop))
        return ranges

    async def last_decided(self, length_ms: int) -> tuple[list[SourceRange], int]:
        """The source offsets of the last decided events, and the event time that they begin at.

        Of each partition they reach back *length_ms* from the newest event that is decided; what is
        behind it is in flight.
        """
        ends, newest = dict[int, int](), list[int]()
        for partition in range(self._topology.partitions):
            decided = await self._tail.last_read(
                self._topology.decisions, partition, decided_offset
            )
            if not decided:
                continue
            ends[partition] = max(decided) + 1
            newest += await self._event_times(partition, ends[partition])
        if not newest:
            return [], 0
        since_ms = max(newest) - length_ms
        ranges = []
        for partition, end in ends.items():
            begin = await self._offset_at(partition, since_ms, end)
            if begin < end:
                ranges.append(SourceRange(partition, begin, end))
        return ranges, since_ms

    async def _event_times(self, partition: int, end: int) -> list[int]:
        """The median event time of the last events before offset *end*, in ms; none of none."""
        topic = self._topology.events
        times = self._times(await self._tail.between(topic, partition, end - _NEWEST, end))
        return [int(np.median(times))] if times else []

    async def _offset_at(self, partition: int, time_ms: int, end: int) -> int:
        def reaches(record: ConsumerRecord) -> bool | None:
            times = self._times([record])
            return None if not times else times[0] >= time_ms

        first, _ = await self._tail.bounds(self._topology.events, partition)
        record = await first_reaching(self._tail, self._topology.events, partition, first, reaches)
        return end if record is None else int(record.offset)

    async def _newest_ms(self, partition: int) -> int | None:
        newest: list[int] = []
        async for start, end in self._tail.backwards(self._topology.events, partition):
            records = await self._tail.between(self._topology.events, partition, start, end)
            newest = self._times(records) + newest
            if len(newest) >= _NEWEST:
                break
        return int(np.median(newest[-_NEWEST:])) if newest else None

    def _times(self, records: Sequence[ConsumerRecord]) -> list[int]:
        """Event times of the valid events among *records*, in ms."""
        times: list[int] = self._decoder.decode(records).columns[self._pipeline.event.time].tolist()
        return times
