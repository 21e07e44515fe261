"""How many events of a pipeline have no decision or dead letter yet, by its topics' ends.

What is redriven meanwhile ends twice and makes the count too small: there is a little more room.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aiokafka
from aiokafka.structs import TopicPartition

from agents.following import follower, read_until
from topics.clients import close
from topics.connection import client_options
from topics.errors import WireError
from topics.redrive import about_of
from topics.settings import BrokerSettings
from topics.topology import Topology

_FRESH_S = 0.02


class InFlight:
    """Counts by end offsets: what was ever published, minus what ever ended."""

    def __init__(
        self, consumer: aiokafka.AIOKafkaConsumer, topology: Topology, settings: BrokerSettings
    ) -> None:
        self._consumer = consumer
        self._topology = topology
        self._partitions = [
            TopicPartition(topic, partition)
            for topic in (topology.events, topology.decisions, topology.dead_letters)
            for partition in range(topology.partitions)
        ]
        self._settings = settings
        self._redriven: int | None = None
        self._count = 0
        self._counted_at = float("-inf")

    @classmethod
    @asynccontextmanager
    async def of(cls, settings: BrokerSettings, topology: Topology) -> AsyncIterator[InFlight]:
        """The count for the pipeline of *topology*."""
        # No assignment: fetches that wait for records would hold up what is asked here.
        consumer = aiokafka.AIOKafkaConsumer(
            **client_options(settings), isolation_level="read_committed"
        )
        await consumer.start()
        try:
            yield cls(consumer, topology, settings)
        finally:
            await close(consumer)

    async def count(self) -> int:
        """Events in flight now."""
        if time.monotonic() - self._counted_at > _FRESH_S:
            ends = await self._consumer.end_offsets(self._partitions)
            if self._redriven is None:
                self._redriven = await _redriven(self._settings, self._topology)
            self._count = self._redriven + sum(
                end if tp.topic == self._topology.events else -end for tp, end in ends.items()
            )
            self._counted_at = time.monotonic()
        return self._count

    def room(self, limit: int) -> Callable[[], Awaitable[int]]:
        """A function that says how many more events fit under *limit*."""

        async def room() -> int:
            left = limit - await self.count()
            self._counted_at = float("-inf")  # what is published next is not in the count
            return left

        return room


async def _redriven(settings: BrokerSettings, topology: Topology) -> int:
    """Ends of later attempts: those of their events are counted already."""
    notes = 0
    topics = (topology.redrive,)
    async with follower(settings, topics, topology.partitions, from_start=True) as consumer:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
        async for _, records in read_until(consumer, ends):
            for record in records:
                with suppress(WireError):  # not ours
                    notes += about_of(record.headers).end is not None
    return notes
