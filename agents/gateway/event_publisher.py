"""Publishing events of many requests: what waits for a partition goes in one record batch.

Each partition is written on its own: one whose leader is away holds up no other. The first event
goes at once; those that come while it is on its way go together behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from agents.gateway.awaited_answers import Answer, AwaitedAnswers
from agents.gateway.event_reader import Event
from agents.process.tasks import first_of
from topics.errors import AnabranchError, BrokerError
from topics.kafka import Headers, Record, write_batches
from topics.pipeline import Topology
from topics.records import REQUEST_HEADER

_MOST_BYTES = 800_000
"""Of one write; a larger event goes alone, so that nobody else's fails if it is refused."""


class LeaseOver(AnabranchError):
    """It is too late to publish an event of a request with a key."""

    def __init__(self) -> None:
        super().__init__("another gateway may publish it by now")


@dataclass(slots=True, eq=False)
class Publication:
    """An event on its way: where it stands once the broker has it, and what it comes to."""

    event: Event
    placed: asyncio.Future[None]
    offset: int | None = None
    answer: asyncio.Future[Answer] | None = None
    written_at: float | None = None
    """By the monotonic clock: from then on it may be on the topic."""
    lease_until: float | None = None
    """By the same clock: it may be published until then, also where nobody waits any more."""

    @property
    def is_leased(self) -> bool:
        """It is published for a key, not for one caller."""
        return self.lease_until is not None

    @property
    def answered(self) -> Answer | None:
        """Its answer, if it has come."""
        if self.answer is None or not self.answer.done() or self.answer.cancelled():
            return None
        return self.answer.result() if self.answer.exception() is None else None

    def give_up(self) -> None:
        """Wait no longer; what is not written yet is not published any more."""
        for future in (None if self.is_leased else self.placed, self.answer):
            if future is None:
                continue
            if not future.cancel() and not future.cancelled():
                future.exception()  # seen: nobody else asks


@dataclass(slots=True)
class _Lane:
    waiting: list[Publication] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    in_hand: list[Publication] = field(default_factory=list)
    """What is being written."""


class EventPublisher:
    """Publishes to the events topic of a pipeline by an idempotent producer."""

    def __init__(
        self, kafka: AIOKafkaProducer, topology: Topology, answers: AwaitedAnswers
    ) -> None:
        self._kafka, self._topic, self._answers = kafka, topology.events, answers
        self._lanes = [_Lane() for _ in range(topology.partitions)]

    def submit(
        self, events: Sequence[Event], *, lease_until: float | None = None
    ) -> list[Publication]:
        """Have *events* published; who gives up cancels their `placed`.

        With a lease (its end by the monotonic clock) they are published whoever gives up, but not
        once it is over.
        """
        loop = asyncio.get_running_loop()
        publications = [
            Publication(event, loop.create_future(), lease_until=lease_until) for event in events
        ]
        for publication in publications:
            lane = self._lanes[publication.event.partition]
            lane.waiting.append(publication)
            lane.wake.set()
        return publications

    async def run(self) -> None:
        """Write until it is cancelled. Raises KafkaError or BrokerError of a failed producer."""
        await first_of(*(partial(self._run, *each) for each in enumerate(self._lanes)))

    def fail(self, error: Exception) -> None:
        """Whatever waits here is not published any more."""
        for lane in self._lanes:
            _fail([*lane.in_hand, *lane.waiting], error)

    async def _run(self, partition: int, lane: _Lane) -> None:
        while True:
            await lane.wake.wait()
            lane.in_hand = batch = self._next(lane)
            if not batch:
                lane.wake.clear()
                continue
            with self._answers.publication():
                try:
                    await self._write(partition, batch)
                except MessageSizeTooLargeError as exc:
                    _fail(batch, exc)
                except (KafkaError, BrokerError) as exc:
                    _fail(batch, exc)
                    raise

    def _next(self, lane: _Lane) -> list[Publication]:
        """What is written next: nothing of those who have given up."""
        batch, size = list[Publication](), 0
        for place, publication in enumerate(lane.waiting):
            if publication.placed.done():
                continue
            if publication.lease_until is not None and time.monotonic() > publication.lease_until:
                publication.placed.set_exception(LeaseOver())
                continue
            bytes_more = len(publication.event.value) + len(publication.event.key)
            if batch and size + bytes_more > _MOST_BYTES:
                del lane.waiting[:place]
                return batch
            batch.append(publication)
            size += bytes_more
        lane.waiting.clear()
        return batch

    async def _write(self, partition: int, batch: Sequence[Publication]) -> None:
        now_ms, now = time.time_ns() // 1_000_000, time.monotonic()
        for publication in batch:
            publication.written_at = now
        records = [
            Record(each.event.key, each.event.value, now_ms, _headers(each.event)) for each in batch
        ]
        runs = await write_batches(self._kafka, self._topic, partition, records)
        offsets = (first + place for first, count in runs for place in range(count))
        for publication, offset in zip(batch, offsets, strict=True):
            publication.offset = offset
            if not publication.placed.done():
                publication.answer = self._answers.expect((partition, offset))
                publication.placed.set_result(None)


def _headers(event: Event) -> Headers:
    return [(REQUEST_HEADER, event.request)] if event.request else []


def _fail(batch: Sequence[Publication], error: Exception) -> None:
    for publication in batch:
        if not publication.placed.done():
            publication.placed.set_exception(error)
