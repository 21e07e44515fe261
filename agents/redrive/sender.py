"""Sending redrive records at a rate, and following each to its end.

The protocol is in `topics.redrive.record`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import aiokafka
import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from agents.broker import follower
from agents.publish import publisher as publishing
from agents.redrive.dead_letter_index import Coordinates
from agents.redrive.live_pace import LOOK_S, LiveLatency, LivePace
from agents.redrive.redrive_writer import write_redrives
from agents.workers import TailReader
from topics.errors import WireError
from topics.kafka import Record, write_batches
from topics.pipeline import Pipeline, Topology
from topics.redrive import (
    Ending,
    RedriveBatch,
    RedrivenEvent,
    RedriveRoute,
    decode_redrive,
    encode_redrive,
    next_component,
)
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

DEFAULT_RATE = 5000
DEFAULT_SLOWER = 0.1
_TICK_S = 0.02
_LOOK_S = 0.2
_MOST_UNDER_WAY = 10_000
_MOST_UNDER_WAY_EMBEDDED = 300
"""The embedded broker drops what is older than its last 5 MiB, redrive records too."""

Attempt = tuple[Coordinates, int]
T = TypeVar("T")


@dataclass(slots=True)
class RedriveProgress:
    """What became of redrive records."""

    sent: set[Attempt] = field(default_factory=set)
    """Those that are on the redrive topic."""
    refused: list[tuple[RedrivenEvent, str]] = field(default_factory=list)
    """Those that it does not take, and why."""
    known: dict[Attempt, Ending] = field(default_factory=dict)
    """How attempts have ended, also those that somebody else sends at the same time."""
    ended: int = 0
    """How many of those that were sent."""

    @property
    def under_way(self) -> int:
        """Redrive records that have not ended."""
        return len(self.sent) - self.ended

    @property
    def endings(self) -> dict[Attempt, Ending]:
        """Of those that were sent, how they have ended."""
        return {attempt: end for attempt, end in self.known.items() if attempt in self.sent}

    def add_sent(self, attempts: set[Attempt]) -> int:
        """These go, or are about to; how many of them have ended already."""
        new = attempts - self.sent
        self.sent |= new
        ended = len(new & self.known.keys())
        self.ended += ended
        return ended

    def add_refused(self, event: RedrivenEvent, why: str) -> None:
        """The topic has not taken it after all."""
        self.refused.append((event, why))
        attempt = _attempt(event)
        if attempt in self.sent:
            self.sent.remove(attempt)
            self.ended -= attempt in self.known

    def add_ending(self, attempt: Attempt, end: Ending) -> bool:
        """An attempt has ended; True when it is one of those that were sent, and had not yet."""
        if attempt in self.known:
            return False
        self.known[attempt] = end
        self.ended += attempt in self.sent
        return attempt in self.sent


class RedriveSender:
    """Writes redriven events to the redrive topic."""

    def __init__(
        self, kafka: AIOKafkaProducer, pipeline: Pipeline, progress: RedriveProgress
    ) -> None:
        self._kafka = kafka
        self._topic = Topology.of(pipeline).redrive
        self._route = RedriveRoute(pipeline)
        self._progress = progress

    async def send(self, batch: RedriveBatch) -> int:
        """Write events; returns when the broker has them, but for those that it refuses.

        The result is how many have ended already: somebody else has sent them, too.
        """
        # Before they are written: one may end at once.
        ended = self._progress.add_sent({_attempt(event) for event in batch.events})
        partitions = self._route.partitions(batch)
        await asyncio.gather(*(
            self._write(partition, batch.picked(np.flatnonzero(partitions == partition)))
            for partition in np.unique(partitions).tolist()
        ))  # fmt: skip
        return ended

    async def _write(self, partition: int, batch: RedriveBatch) -> None:
        async def write(records: Sequence[Record]) -> None:
            await write_batches(self._kafka, self._topic, partition, records)

        for refused in await write_redrives(write, batch):
            size = encode_redrive(refused, 0).size
            why = (
                f"with what is known of it, it has {size:,} bytes, more than {self._topic} takes: "
                "raise the topic's max.message.bytes"
            )
            (event,) = refused.events
            self._progress.add_refused(event, why)


async def send_and_follow(
    settings: BrokerSettings,
    pipeline: Pipeline,
    batches: AsyncIterator[RedriveBatch],
    *,
    rate: float = DEFAULT_RATE,
    slower: float = DEFAULT_SLOWER,
    quiet_s: float | None,
    stopping: asyncio.Event | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> RedriveProgress:
    """Write records, *rate* a second, and wait for their ends, until none comes for *quiet_s*.

    They go at a lower rate while live events are *slower* than without them by more than that.
    Without *quiet_s* they are only written. When *stopping* is set no more are written, and the
    ends are not waited for. `advance` is told how many more have ended (or, without waiting, gone).
    """
    progress, topology = RedriveProgress(), Topology.of(pipeline)
    topics, stopping = (topology.redrive,), stopping or asyncio.Event()
    most = _MOST_UNDER_WAY_EMBEDDED if settings.embedded else _MOST_UNDER_WAY
    async with (
        follower(settings, topics, topology.partitions, from_start=False) as consumer,
        publishing.producer(settings) as kafka,
    ):
        watch = _EndingWatch(progress, advance if quiet_s is not None else lambda _: None)
        pace = LivePace(rate, slower)
        following = asyncio.create_task(watch.follow(consumer))
        looking = asyncio.create_task(_look(settings, topology, pace, progress))
        try:
            sender = RedriveSender(kafka, pipeline, progress)
            async for batch in batches:
                left: RedriveBatch | None = batch
                while left is not None and not stopping.is_set() and not watch.is_quiet(quiet_s):
                    room = len(left) if quiet_s is None else most - progress.under_way
                    n = min(len(left), room, pace.due())
                    if n <= 0:
                        if looking.done():
                            looking.result()
                        await asyncio.sleep(_TICK_S)
                        continue
                    before = len(progress.sent)
                    if not progress.under_way:
                        watch.begin()
                    now, left = left.split(n)
                    ended = await sender.send(now)
                    pace.gave(n)
                    advance(len(progress.sent) - before if quiet_s is None else ended)
                if left is not None:
                    break
            while quiet_s is not None and progress.under_way and not stopping.is_set():
                if watch.is_quiet(quiet_s):
                    break
                await asyncio.sleep(_TICK_S)
        finally:
            for task in (following, looking):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await following
            with suppress(asyncio.CancelledError):
                await looking
    return progress


async def _look(
    settings: BrokerSettings, topology: Topology, pace: LivePace, progress: RedriveProgress
) -> NoReturn:
    """Tell *pace* again and again what live events take, for ever.

    Where that cannot be looked at the rate stays as it is: a broker that does not answer in time is
    no sign that there are no live events. Only what is to be measured is taken for none.
    """
    tail, has_looked, has_failed = TailReader(settings), False, False
    live = LiveLatency(tail, topology)
    try:
        await tail.start()
        while True:
            latencies_ms: list[float] | None = None
            try:
                latencies_ms = await live.look()
            except KafkaError as exc:
                if not has_failed:
                    log.warning("what live events take cannot be looked at: %s", exc)
                has_failed = True
            # The first look only tells where decisions end.
            if has_looked and (latencies_ms is not None or pace.measures):
                pace.look(latencies_ms or [], progress.under_way)
            has_looked = True
            await asyncio.sleep(LOOK_S)
    finally:
        await tail.stop()


class _EndingWatch:
    """Follows how redrive records end."""

    def __init__(self, progress: RedriveProgress, advance: Callable[[int], None]) -> None:
        self._progress = progress
        self._advance = advance
        self._last_at = time.monotonic()

    def begin(self) -> None:
        """Nothing is under way: ends are waited for from now on."""
        self._last_at = time.monotonic()

    def is_quiet(self, quiet_s: float | None) -> bool:
        """Some are under way, and for *quiet_s* none has ended; without it, none is waited for."""
        if quiet_s is None:
            return False
        return bool(self._progress.under_way) and time.monotonic() - self._last_at > quiet_s

    async def follow(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        """Read the redrive topic, for ever."""
        while True:
            fetched = await consumer.getmany(timeout_ms=int(_LOOK_S * 1000))
            more = sum(self._note(record) for records in fetched.values() for record in records)
            if more:
                self._last_at = time.monotonic()
                self._advance(more)

    def _note(self, record: ConsumerRecord) -> int:
        """Take in the ends that a record tells of; how many are of events that were sent."""
        if next_component(record.headers) is not None:
            return 0
        try:
            batch = decode_redrive(record.key, record.value, record.headers, outputs=False)
        except WireError:
            return 0
        if batch.end is None:
            return 0
        return sum(self._progress.add_ending(_attempt(event), batch.end) for event in batch.events)


def _attempt(event: RedrivenEvent) -> Attempt:
    return Coordinates(event.partition, event.offset), event.attempt


async def prepared_ahead(batches: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same batches; each is prepared while the one before is dealt with."""
    following = asyncio.ensure_future(anext(batches, None))
    try:
        while (batch := await following) is not None:
            following = asyncio.ensure_future(anext(batches, None))
            yield batch
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
