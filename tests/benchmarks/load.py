"""Events as record batches that are built in advance, and publishing them.

A record batch that was built can be sent again and again: the events topic of a run has the
broker's times (LogAppendTime), so nothing in a batch is of one run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from agents.publish.publisher import partition_of
from tests.benchmarks.broker import Broker

_ROOM_BYTES = 950_000
"""Brokers take record batches of 1 MB by default."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it is published, and its number in what is expected."""

    number: int
    key: bytes
    value: bytes


@dataclass(slots=True)
class Lane:
    """The events of one partition, in order."""

    numbers: list[int] = field(default_factory=list)
    """Offset → number of the event; of a load that repeats, for its first round."""
    batches: list[BatchBuilder] = field(default_factory=list)


class Load:
    """Events dealt out to partitions as Kafka's default partitioner does, in full batches."""

    def __init__(self, events: Iterator[Event], partitions: int, batch_events: int) -> None:
        """*events* has no end; every record batch holds *batch_events*."""
        self._events = events
        self.batch_events = batch_events
        self.lanes = [Lane() for _ in range(partitions)]
        self._open: list[list[Event]] = [[] for _ in range(partitions)]

    def per_round(self) -> int:
        """Events in one batch of every partition."""
        return self.batch_events * len(self.lanes)

    def ensure(self, batches: int) -> None:
        """Build as many batches of every partition as that; those that exist stay."""
        while any(len(lane.batches) < batches for lane in self.lanes):
            event = next(self._events)
            partition = partition_of(event.key, len(self.lanes))
            waiting = self._open[partition]
            waiting.append(event)
            if len(waiting) == self.batch_events:
                self.lanes[partition].numbers += [each.number for each in waiting]
                self.lanes[partition].batches.append(built(waiting))
                waiting.clear()

    def slices(self, start: int, stop: int) -> list[Sequence[BatchBuilder]]:
        """Batches *start* to *stop* of every partition."""
        self.ensure(stop)
        return [lane.batches[start:stop] for lane in self.lanes]

    def number_at(self, partition: int, offset: int) -> int:
        """Which event is at that offset of a topic that holds this load alone."""
        return self.lanes[partition].numbers[offset]


class RepeatedLoad(Load):
    """A few batches of every partition, over and over: large events would fill the memory."""

    def __init__(
        self, events: Iterator[Event], partitions: int, batch_events: int, *, batches: int
    ) -> None:
        super().__init__(events, partitions, batch_events)
        self._batches = batches

    def slices(self, start: int, stop: int) -> list[Sequence[BatchBuilder]]:
        """Batches *start* to *stop* of every partition, were they all there."""
        self.ensure(self._batches)
        first = start % self._batches
        return [
            list(islice(cycle(lane.batches[: self._batches]), first, first + stop - start))
            for lane in self.lanes
        ]

    def number_at(self, partition: int, offset: int) -> int:
        """Which event is at that offset of a topic that holds this load alone."""
        in_round = offset % (self._batches * self.batch_events)
        return self.lanes[partition].numbers[in_round]


def built(events: Sequence[Event]) -> BatchBuilder:
    """A closed record batch."""
    size = sum(len(event.value) + len(event.key) + 64 for event in events) + 128
    if size > _ROOM_BYTES:
        raise ValueError(f"{len(events)} events of {size} bytes do not fit a record batch")
    batch = BatchBuilder(size, 0)
    for event in events:
        if batch.append(timestamp=0, key=event.key, value=event.value) is None:
            raise ValueError("a record batch was full too soon")
    batch.close()
    return batch


@asynccontextmanager
async def producer(broker: Broker, **settings: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A producer, started."""
    made = AIOKafkaProducer(
        bootstrap_servers=broker.address, acks="all", max_request_size=32 * 2**20, **settings
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def publish(
    kafka: AIOKafkaProducer, topic: str, slices: Sequence[Sequence[BatchBuilder]]
) -> None:
    """Publish the batches of every partition in order; returns when the broker has all."""

    async def lane(partition: int, batches: Sequence[BatchBuilder]) -> None:
        for batch in batches:
            await (await kafka.send_batch(batch, topic, partition=partition))

    await asyncio.gather(*(lane(partition, each) for partition, each in enumerate(slices)))
