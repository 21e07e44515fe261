"""What Faust 0.15 has no public name for: every reach into its private parts.

Our consumer, producer and app override hooks of Faust that have private names; which ones, and that
Faust still calls them, is checked in tests/unit/test_faust_fixes.py together with what is here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from faust.transport.consumer import Consumer, ensure_TPset
from faust.transport.drivers.aiokafka import Producer
from faust.types import TP
from mode import Service

from topics.kafka import aiokafka_fixes


def committed_offset(consumer: Consumer, tp: TP) -> int:
    """Where reading began after the assignment, or what was committed since; 0 if neither is known.

    Faust keeps it to itself, though it decides by it what has to be committed.
    """
    return consumer._committed_offset[tp] or 0


def active_partitions(consumer: Consumer) -> set[TP]:
    """The assigned partitions that are not paused."""
    return consumer._get_active_partitions()


def client_of(producer: Producer) -> AIOKafkaProducer:
    """The aiokafka producer below Faust's, which has no other way to write whole batches."""
    return producer._ensure_producer()


def on_crash(service: Service, tell: Callable[[BaseException], None]) -> None:
    """Call *tell* with the cause when *service*, or one below it, gives up.

    mode goes on to stop everything above it; it has no callback for that.
    """
    crash = service._crash

    def tell_and_crash(reason: BaseException) -> None:
        tell(reason)
        crash(reason)

    service._crash = tell_and_crash  # type: ignore[method-assign]  # of this one


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Tells a Faust consumer of rebalances; Faust's own is made for a consumer in a thread."""

    def __init__(self, consumer: Consumer, kafka: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._kafka = kafka

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> Awaitable[None]:
        """Partitions are taken away; the app knows before anything is awaited."""
        self._consumer.app.on_rebalance_start()
        giving_back: Awaitable[None] = self._consumer.on_partitions_revoked(ensure_TPset(revoked))
        return giving_back

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """A new generation of the group begins with these partitions."""
        generation = aiokafka_fixes.generation_of(self._kafka)
        self._consumer.app.consumer_generation_id = generation
        await self._consumer.on_partitions_assigned(ensure_TPset(assigned), generation)
