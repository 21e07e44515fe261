"""How many events of a pipeline have no decision or dead letter yet, by its topics' ends.

What is redriven meanwhile ends twice and makes the count too small: there is a little more room.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import aiokafka
from aiokafka.structs import TopicPartition

from agents.audit import Audit, audit_topics
from agents.broker import follower, offsets_consumer, read_to_end
from topics.errors import BrokerError, WireError
from topics.pipeline import Topology
from topics.redrive import decode_redrive
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_FRESH_S = 0.02
_STILL_S = 10.0
"""After so long without any end the topics are looked at: is there one to come?"""


class NoEndToCome(BrokerError):
    """Events are counted as in flight that will never end."""

    def __init__(self, topology: Topology, audit: Audit, events: int) -> None:
        total = audit.total
        known = {
            "lost": total.lost, "dropped by the broker before they were read": total.expired_unread,
        }  # fmt: skip
        reasons = ", ".join(f"{number:,} {what}" for what, number in known.items() if number)
        super().__init__(
            f"{topology.events}: {events:,} events have no decision and will get none"
            f"{f' ({reasons})' if reasons else ''}, so there is no room for more behind them; "
            f"`anabranch audit {topology.pipeline}` says more. An embedded broker is emptied by "
            "starting it anew (`anabranch run`); on another, leave --max-in-flight out"
        )


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
        self._redriven: dict[int, int] | None = None
        self._counts: dict[int, int] = {}
        self._counted_at = float("-inf")
        self._moved_at = time.monotonic()

    @classmethod
    @asynccontextmanager
    async def of(cls, settings: BrokerSettings, topology: Topology) -> AsyncIterator[InFlight]:
        """The count for the pipeline of *topology*."""
        async with offsets_consumer(settings) as consumer:
            yield cls(consumer, topology, settings)

    async def count(self) -> int:
        """Events in flight, now or a moment ago. Raises NoEndToCome."""
        if time.monotonic() - self._counted_at > _FRESH_S:
            await self.by_partition()
        return sum(self._counts.values())

    async def by_partition(self) -> Mapping[int, int]:
        """Events in flight now, by partition. Raises NoEndToCome."""
        ends = await self._consumer.end_offsets(self._partitions)
        if self._redriven is None:
            self._redriven = await _redriven(self._settings, self._topology)
        counts = {p: self._redriven.get(p, 0) for p in range(self._topology.partitions)}
        for tp, end in ends.items():
            counts[tp.partition] += end if tp.topic == self._topology.events else -end
        self._counted_at = time.monotonic()
        if counts != self._counts or not any(counts.values()):
            self._moved_at = self._counted_at
        self._counts = counts
        if self._counted_at - self._moved_at > _STILL_S:
            await self._look()
        return counts

    async def _look(self) -> None:
        """Raise NoEndToCome where the topics say that waiting is no use."""
        audit = await audit_topics(self._settings, self._topology, None)
        count = sum(self._counts.values())
        if audit.total.in_flight < count:
            raise NoEndToCome(self._topology, audit, count - audit.total.in_flight)
        log.warning(
            "%s: %d events wait for their decision, and none has come for %.0f s: does every "
            "component run?", self._topology.events, count, _STILL_S,
        )  # fmt: skip
        self._moved_at = time.monotonic()

    def room(self, limit: int) -> Callable[[], Awaitable[int]]:
        """A function that says how many more events fit under *limit*; it raises NoEndToCome."""

        async def room() -> int:
            left = limit - await self.count()
            self._counted_at = float("-inf")  # what is published next is not in the count
            return left

        return room


async def _redriven(settings: BrokerSettings, topology: Topology) -> dict[int, int]:
    """Ends of later attempts, by partition: those of their events are counted already."""
    endings = dict[int, int]()
    topics = (topology.redrive,)
    async with follower(settings, topics, topology.partitions, from_start=True) as consumer:
        async for _, records in read_to_end(consumer):
            for record in records:
                with suppress(WireError):  # not ours
                    batch = decode_redrive(record.key, record.value, record.headers, outputs=False)
                    if batch.end is not None:
                        endings[batch.partition] = endings.get(batch.partition, 0) + len(batch)
    return endings
