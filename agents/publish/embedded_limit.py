"""Room for events on the embedded broker, in bytes: no row may be dropped before it is read.

It keeps the newest 5 MiB of a topic's partition. A row is needed, on every topic that it goes
through, until its event has ended; so what is in flight must fit there, as wide as it is on the
widest topic. Events are as wide as they are. How wide a row is on the others shows once there are
some (columns, windows, codec): until then a row is taken for _GUESS events, and no more than
_FIRST_ROWS are let in, which fit if they are 16 KiB wide. A fifth of the 5 MiB is left for rows
that are wider than the last ones, and for the batches' own bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiokafka.structs import TopicPartition

from agents.broker import LogReader
from agents.publish.in_flight import InFlight
from agents.publish.publisher import partition_of
from topics.errors import WireError
from topics.kafka import KEPT_BYTES
from topics.pipeline import Topology
from topics.records import decode
from topics.settings import BrokerSettings

Event = tuple[bytes, bytes]
"""Key and value."""
Chunks = Callable[[list[Event], asyncio.Event], AsyncIterator[list[Event]]]
"""Divides events, in order, into chunks for each of which there is room; none once stopped."""

BUDGET = KEPT_BYTES * 4 // 5
"""Bytes that may be in flight on a partition of a topic."""
_SHARE = 4
"""A chunk takes so much less than the budget."""
_GUESS, _FIRST_ROWS = 4, 256
_RECORD_BYTES = 30
"""Of a record beyond its key and value, at least."""
_MEASURE_S = 2.0
_AGAIN_S = 0.02


class EmbeddedLimit:
    """Lets events through as the pipeline ends those before them.

    *in_flight* says how many events of each partition have no end now, *row_bytes* how wide the
    widest row is on the topics behind the events', 0 where that is not known yet.
    """

    def __init__(
        self,
        partitions: int,
        in_flight: Callable[[], Awaitable[Mapping[int, int]]],
        row_bytes: Callable[[], Awaitable[float]],
    ) -> None:
        self._partitions = partitions
        self._in_flight = in_flight
        self._measure = row_bytes
        self._row_bytes = 0.0
        self._measured_at = float("-inf")
        self._sizes: dict[int, deque[int]] = {p: deque() for p in range(partitions)}
        """Of each partition the bytes of the events that were published here and are in flight."""

    async def chunks(
        self, events: list[Event], stopping: asyncio.Event
    ) -> AsyncIterator[list[Event]]:
        """The events in order, in chunks, each when there is room for it; none once *stopping*."""
        chunk, sizes = list[Event](), dict[int, list[int]]()
        for event in events:
            partition = partition_of(event[0], self._partitions)
            size = len(event[0]) + len(event[1]) + _RECORD_BYTES
            wanted = [*sizes.get(partition, ()), size]
            if chunk and not self._fits(wanted, 0.0, len(wanted), BUDGET // _SHARE):
                if not await self._admitted(sizes, stopping):
                    return
                yield chunk
                chunk, sizes = [], {}
            chunk.append(event)
            sizes.setdefault(partition, []).append(size)
        if chunk and await self._admitted(sizes, stopping):
            yield chunk

    async def _admitted(self, sizes: Mapping[int, list[int]], stopping: asyncio.Event) -> bool:
        """Wait until there is room for events of these sizes; False when stopped before."""
        while not stopping.is_set():
            if time.monotonic() - self._measured_at > _MEASURE_S:
                self._row_bytes = await self._measure()
                self._measured_at = time.monotonic()
            in_flight = await self._in_flight()
            if all(self._has_room(p, in_flight[p], more) for p, more in sizes.items()):
                for partition, more in sizes.items():
                    self._sizes[partition].extend(more)
                return True
            await asyncio.sleep(_AGAIN_S)
        return False

    def _has_room(self, partition: int, in_flight: int, more: list[int]) -> bool:
        ours = self._sizes[partition]
        while len(ours) > in_flight:
            ours.popleft()
        if not in_flight:
            return True  # however wide: it can only go alone
        every = [*ours, *more]
        others = (in_flight - len(ours)) * sum(every) / len(every)  # somebody else's
        return self._fits(every, others, in_flight + len(more), BUDGET)

    def _fits(self, sizes: list[int], others: float, rows: int, budget: int) -> bool:
        events = sum(sizes) + others
        if self._row_bytes:
            return events <= budget and rows * self._row_bytes <= budget
        return rows <= _FIRST_ROWS and events * _GUESS <= budget


async def widest_row(reader: LogReader, topology: Topology) -> float:
    """Bytes of the widest of the last rows on the topics behind the events'.

    0 until each component has written one: the widest may be to come.
    """
    stages = [topology.stage(name) for name in topology.components]
    keyed = [topology.keyed(name) for name in topology.repartitioned]
    widths = [await _width(reader, topic, topology.partitions) for topic in (*stages, *keyed)]
    if not all(widths[: len(stages)]):
        return 0.0
    ends = (topology.decisions, topology.dead_letters)
    return max(*widths, *[await _width(reader, topic, topology.partitions) for topic in ends])


async def _width(reader: LogReader, topic: str, partitions: int) -> float:
    """Bytes of a row in the last records of a topic; 0 where there is none."""
    ends = await reader.bounds([TopicPartition(topic, p) for p in range(partitions)], "end")
    last = {tp: end - 1 for tp, end in ends.items() if end}
    widest = 0.0
    for read in (await reader.fetch(last)).values() if last else ():
        for record in read.batches[-1].records()[-1:] if read.batches else ():
            headers = dict(record.headers)
            try:
                rows = len(decode(record.value, headers).rows)
            except WireError:  # a decision, or none of ours
                rows = 1
            size = _RECORD_BYTES + len(record.key or b"") + len(record.value or b"")
            size += sum(len(name) + len(content or b"") for name, content in headers.items())
            widest = max(widest, size / max(rows, 1))
    return widest


@asynccontextmanager
async def chunks_that_fit(
    settings: BrokerSettings, topology: Topology, in_flight: InFlight
) -> AsyncIterator[Chunks]:
    """How events are divided: on the embedded broker by its room, on others not at all."""
    if not settings.embedded:
        yield _whole
        return
    async with LogReader.of(settings) as reader:

        async def row_bytes() -> float:
            return await widest_row(reader, topology)

        yield EmbeddedLimit(topology.partitions, in_flight.by_partition, row_bytes).chunks


async def _whole(events: list[Event], stopping: asyncio.Event) -> AsyncIterator[list[Event]]:
    if not stopping.is_set():
        yield events
