"""Sending errands at a rate, and following each to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import aiokafka
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from agents.broker.log_follower import follower
from agents.publish import publisher as publishing
from agents.redrive.dead_letter_index import Identity
from agents.redrive.dead_letter_writer import write_while_they_fit
from agents.redrive.live_latency import LiveLatency
from agents.redrive.live_pace import LOOK_S, LivePace
from agents.workers import TailReader
from topics.errors import WireError
from topics.kafka import Record, write_batches
from topics.pipeline import Pipeline, Topology
from topics.redrive import End, Errand, ErrandRoute, about_of, next_of
from topics.redrive.record import encoded
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

DEFAULT_RATE = 5000
DEFAULT_SLOWER = 0.1
_AT_ONCE_S = 0.05
_TICK_S = 0.02
_LOOK_S = 0.2
_MOST_UNDER_WAY = 10_000
_MOST_UNDER_WAY_EMBEDDED = 300
"""The embedded broker drops what is older than its last 5 MiB, errands too."""

Attempt = tuple[Identity, int]
T = TypeVar("T")


@dataclass(slots=True)
class Sent:
    """What became of errands."""

    gone: set[Attempt] = field(default_factory=set)
    """Those that are on the redrive topic."""
    refused: list[tuple[Errand, str]] = field(default_factory=list)
    """Those that it does not take, and why."""
    noted: dict[Attempt, End] = field(default_factory=dict)
    """How attempts have ended, also those that somebody else sends at the same time."""
    ended: int = 0
    """How many of those that have gone."""

    @property
    def under_way(self) -> int:
        """Errands that have not ended."""
        return len(self.gone) - self.ended

    @property
    def ends(self) -> dict[Attempt, End]:
        """Of those that have gone, how they have ended."""
        return {at: end for at, end in self.noted.items() if at in self.gone}

    def going(self, attempts: set[Attempt]) -> int:
        """These go, or are about to; how many of them have ended already."""
        new = attempts - self.gone
        self.gone |= new
        ended = len(new & self.noted.keys())
        self.ended += ended
        return ended

    def end(self, at: Attempt, end: End) -> bool:
        """An attempt has ended; True when it is one of those that have gone, and had not yet."""
        if at in self.noted:
            return False
        self.noted[at] = end
        self.ended += at in self.gone
        return at in self.gone


class ErrandSender:
    """Writes errands to the redrive topic."""

    def __init__(self, kafka: AIOKafkaProducer, pipeline: Pipeline, sent: Sent) -> None:
        self._kafka = kafka
        self._topic = Topology.of(pipeline).redrive
        self._route = ErrandRoute(pipeline)
        self._sent = sent

    async def send(self, errands: Sequence[Errand]) -> int:
        """Write errands; returns when the broker has them, but for those that it refuses.

        The result is how many have ended already: somebody else has sent them, too.
        """
        by_partition = defaultdict[int, list[Errand]](list)
        for errand, partition in zip(errands, self._route.partitions(errands), strict=True):
            by_partition[partition].append(errand)
        ended = self._sent.going({_attempt(it) for it in errands})  # before: it may end at once
        await asyncio.gather(*(self._write(at, some) for at, some in by_partition.items()))
        return ended

    async def _write(self, partition: int, errands: Sequence[Errand]) -> None:
        async def write(records: Sequence[Record]) -> None:
            await write_batches(self._kafka, self._topic, partition, records)

        now_ms = int(time.time() * 1000)
        records = [encoded(errand, now_ms) for errand in errands]
        at = 0
        while (at := at + await write_while_they_fit(write, records[at:])) < len(records):
            why = (
                f"with what is known of it, it has {records[at].size:,} bytes, more than "
                f"{self._topic} takes: raise the topic's max.message.bytes"
            )
            self._sent.refused.append((errands[at], why))
            self._sent.gone.discard(_attempt(errands[at]))
            at += 1


async def send_and_follow(
    settings: BrokerSettings,
    pipeline: Pipeline,
    parts: AsyncIterator[Sequence[Errand]],
    *,
    rate: float = DEFAULT_RATE,
    slower: float = DEFAULT_SLOWER,
    quiet_s: float | None,
    stopping: asyncio.Event | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Sent:
    """Write errands, *rate* a second, and wait for their ends, until none comes for *quiet_s*.

    They go at a lower rate while live events are *slower* than without them by more than that.
    Without *quiet_s* they are only written. When *stopping* is set no more are written, and the
    ends are not waited for. `advance` is told how many more have ended (or gone, without waiting).
    """
    sent, topology = Sent(), Topology.of(pipeline)
    topics, stopping = (topology.redrive,), stopping or asyncio.Event()
    most = _MOST_UNDER_WAY_EMBEDDED if settings.embedded else _MOST_UNDER_WAY
    async with (
        follower(settings, topics, topology.partitions, from_start=False) as consumer,
        publishing.producer(settings) as kafka,
    ):
        watch = _Watch(sent, advance if quiet_s is not None else lambda _: None)
        pace = LivePace(rate, slower)
        following = asyncio.create_task(watch.follow(consumer))
        looking = asyncio.create_task(_look(settings, topology, pace, sent))
        try:
            sender = ErrandSender(kafka, pipeline, sent)
            async for part in parts:
                left = part
                while left and not stopping.is_set() and not watch.is_quiet(quiet_s):
                    room = len(left) if quiet_s is None else most - sent.under_way
                    n = min(len(left), room, pace.due(), int(rate * _AT_ONCE_S) + 1)
                    if n <= 0:
                        if looking.done():
                            looking.result()
                        await asyncio.sleep(_TICK_S)
                        continue
                    before = len(sent.gone)
                    if not sent.under_way:
                        watch.begin()
                    ended = await sender.send(left[:n])
                    pace.gave(n)
                    left = left[n:]
                    advance(len(sent.gone) - before if quiet_s is None else ended)
                if left:
                    break
            while quiet_s is not None and sent.under_way and not stopping.is_set():
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
    return sent


async def _look(
    settings: BrokerSettings, topology: Topology, pace: LivePace, sent: Sent
) -> NoReturn:
    """Tell *pace* again and again what live events take, for ever."""
    tail, looked, told = TailReader(settings), False, False
    live = LiveLatency(tail, topology)
    try:
        await tail.start()
        while True:
            latencies_ms: list[float] = []
            try:
                latencies_ms = await live.look()
            except KafkaError as exc:
                if not told:
                    log.warning("what live events take cannot be looked at: %s", exc)
                told = True
            if looked:  # the first look only tells where decisions end
                pace.look(latencies_ms, sent.under_way)
            looked = True
            await asyncio.sleep(LOOK_S)
    finally:
        await tail.stop()


class _Watch:
    """Notes how errands end."""

    def __init__(self, sent: Sent, advance: Callable[[int], None]) -> None:
        self._sent = sent
        self._advance = advance
        self._last_at = time.monotonic()

    def begin(self) -> None:
        """Nothing is under way: ends are waited for from now on."""
        self._last_at = time.monotonic()

    def is_quiet(self, quiet_s: float | None) -> bool:
        """Some are under way, and for *quiet_s* none has ended; without it, none is waited for."""
        if quiet_s is None:
            return False
        return bool(self._sent.under_way) and time.monotonic() - self._last_at > quiet_s

    async def follow(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        """Read the redrive topic, for ever."""
        while True:
            fetched = await consumer.getmany(timeout_ms=int(_LOOK_S * 1000))
            more = sum(self._note(record) for records in fetched.values() for record in records)
            if more:
                self._last_at = time.monotonic()
                self._advance(more)

    def _note(self, record: ConsumerRecord) -> bool:
        """Take in the end that a record tells of; True when it is of one that has gone."""
        if next_of(record.headers) is not None:
            return False
        try:
            about = about_of(record.headers)
        except WireError:
            return False
        at = (Identity(about.source.partition, about.source.offset), about.attempt)
        return about.end is not None and self._sent.end(at, about.end)


def _attempt(errand: Errand) -> Attempt:
    return Identity(errand.partition, errand.offset), errand.about.attempt


async def prepared_ahead(parts: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same parts; each is prepared while the one before is dealt with."""
    following = asyncio.ensure_future(anext(parts, None))
    try:
        while (part := await following) is not None:
            following = asyncio.ensure_future(anext(parts, None))
            yield part
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
