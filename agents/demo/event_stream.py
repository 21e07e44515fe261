"""Labelled events through a running pipeline, each followed to its decision or dead letter."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from agents.audit import Ledger
from agents.broker import log_follower as following
from agents.process.child_process import WorkerProcess
from agents.process.tasks import first_of
from agents.publish import ByteLimit, EventAndOutcome, OutcomePublisher, Schedule, bytes_about_event
from agents.publish import publisher as publishing
from agents.workers import readable
from topics.kafka import MAX_IN_FLIGHT
from topics.pipeline import Pipeline, Topology
from topics.records import attempt_of, buried_offset
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

Ints = NDArray[np.int64]
Event = tuple[bytes, bytes]
"""Key and value."""

PATIENCE_S = 600
"""A stream of which nothing moves for this long is given up."""
_LOOK_S = 1.0
_TOLD_AFTER_S = 60


@dataclass(slots=True)
class Stream(ABC):
    """A stream in progress: what was published, and how it ended."""

    pipeline: Pipeline
    ledger: Ledger = field(default_factory=Ledger)
    published: int = 0
    degraded: int = 0
    """Decisions that lack a stage."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _places: dict[int, int] = field(default_factory=dict)
    """Source coordinates → which of the published events it is."""
    _sizes: array[int] = field(default_factory=lambda: array("q"))
    """Of each published event, its bytes."""
    _ended: set[int] = field(default_factory=set)
    """Source coordinates that have an end, whoever published there."""
    _in_flight: int = 0
    _room: ByteLimit = field(init=False)
    _decided: array[int] = field(default_factory=lambda: array("q"))
    """Source coordinates of every decision."""
    _dead: array[int] = field(default_factory=lambda: array("q"))
    """Source coordinates of every dead letter."""
    _began_at: float | None = None
    _last_end_at: float = 0.0

    def __post_init__(self) -> None:
        self._room = ByteLimit(bytes_about_event(self.pipeline))

    @abstractmethod
    def decided(self, decision: Mapping[str, Any]) -> None:
        """Keep of a decision record what is wanted: little, a stream has many."""

    @property
    def ended(self) -> int:
        """Events of this stream with a decision or a dead letter."""
        return self.published - self._in_flight

    @property
    def seconds(self) -> float:
        """From the first publication to the last end."""
        return 0.0 if self._began_at is None else max(0.0, self._last_end_at - self._began_at)

    async def stream(
        self,
        settings: BrokerSettings,
        labelled: Iterable[EventAndOutcome],
        workers: WorkerProcess,
        *,
        schedule: Schedule | None = None,
        patience_s: int = PATIENCE_S,
    ) -> None:
        """Publish all of *labelled* and wait for their ends, however slow *workers* are.

        Never too far ahead of the ends; outcomes are published when they are known. Gives up when
        events wait and nothing has moved for *patience_s*. Raises WorkersEnded as soon as they do.
        """
        ready = asyncio.Event()

        async def publish() -> None:
            await ready.wait()
            await self._publish(settings, labelled, schedule)
            while self._in_flight:  # noqa: ASYNC110  # what comes is counted, not announced
                await asyncio.sleep(0.01)

        await first_of(
            lambda: self._follow(settings, ready),
            publish,
            lambda: self._until_it_stands_still(workers, patience_s),
            workers.ended,
        )

    def places(self) -> Ints:
        """Of each decision so far, which of the published events it is about (N,).

        -1 where it is about none of them: others may publish too.
        """
        return self._places_of(self._decided)

    def dead_places(self) -> Ints:
        """Of each dead letter so far, which of the published events it is about (N,), or -1."""
        return self._places_of(self._dead)

    def _places_of(self, coordinates: Iterable[int]) -> Ints:
        return np.array([self._places.get(source, -1) for source in coordinates], np.int64)

    async def _publish(
        self,
        settings: BrokerSettings,
        labelled: Iterable[EventAndOutcome],
        schedule: Schedule | None,
    ) -> None:
        topology = Topology.of(self.pipeline)
        outcomes = OutcomePublisher(self.pipeline)
        async with publishing.producer(settings) as kafka:
            async for chunk in publishing.due_chunks(
                outcomes.following(labelled), schedule=schedule, room=self._free
            ):
                self._began_at = self._began_at or time.monotonic()
                await outcomes.publish_known(kafka)
                rest = chunk
                while rest:
                    part = await self._fitting(rest)
                    runs = await publishing.publish_chunk(
                        kafka, topology.events, topology.partitions, part
                    )
                    self._enter(part, runs)
                    rest = rest[len(part) :]

    async def _free(self) -> int:
        # As many more as have ended: workers that are still warming up get no backlog.
        allowed = min(MAX_IN_FLIGHT, publishing.CHUNK + self.ended)
        return allowed - self._in_flight

    async def _fitting(self, events: list[Event]) -> list[Event]:
        """The first of *events* for which there is room, as soon as there is any."""
        count = self.pipeline.partitions
        sizes = [
            (publishing.partition_of(key, count), len(key) + len(value)) for key, value in events
        ]
        while not (fitting := self._room.fitting(sizes)):  # noqa: ASYNC110  # ends are counted
            await asyncio.sleep(0.01)
        return events[:fitting]

    def _enter(self, events: Sequence[Event], runs: Iterable[publishing.PartitionRun]) -> None:
        """The broker has taken *events*; some may have ended meanwhile."""
        self._sizes.extend([len(key) + len(value) for key, value in events])
        for partition, first, indices in runs:
            self.ledger.enter(partition, range(first, first + len(indices)))
            for source, index in enumerate(indices, _coordinates(partition, first)):
                place = self._places[source] = self.published + index
                if source not in self._ended:
                    self._in_flight += 1
                    self._room.enter(partition, self._sizes[place])
        self.published += len(events)

    async def _follow(self, settings: BrokerSettings, ready: asyncio.Event) -> None:
        """Read decisions and dead letters as they come, for ever."""
        topology = Topology.of(self.pipeline)
        topics = (topology.decisions, topology.dead_letters)
        async with following.follower(
            settings, topics, topology.partitions, from_start=False
        ) as consumer:
            ready.set()
            while True:
                fetched = await consumer.getmany(timeout_ms=200)
                for tp, records in fetched.items():
                    if tp.topic == topology.decisions:
                        self._take(tp.partition, records)
                    else:
                        self._bury(tp.partition, readable(records, buried_offset))
                    self._last_end_at = time.monotonic()

    def _take(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        offsets = []
        for record in records:  # one by one: many decoded at a time cost half as much again
            if attempt_of(record.headers) > 1:
                continue  # its dead letter was its end in this stream
            decision = orjson.loads(record.value)
            offsets.append(decision["source"]["offset"])
            self.degraded += decision["degraded"]
            self.decided(decision)
        self.ledger.decide(partition, offsets)
        self._decided.extend(self._leave(partition, offsets))

    def _bury(self, partition: int, offsets: Sequence[int]) -> None:
        self.ledger.bury(partition, offsets)
        self._dead.extend(self._leave(partition, offsets))

    def _leave(self, partition: int, offsets: Sequence[int]) -> list[int]:
        """These source records have ended; their coordinates."""
        sources = [_coordinates(partition, offset) for offset in offsets]
        for source in sources:
            if source not in self._ended:
                self._ended.add(source)
                place = self._places.get(source)
                if place is not None:
                    self._in_flight -= 1
                    self._room.leave(partition, self._sizes[place])
        return sources

    async def _until_it_stands_still(self, workers: WorkerProcess, patience_s: int) -> None:
        """Return when events wait, and neither they nor the workers have moved for that long.

        Looks are counted rather than seconds: while this process gets no time, nor do others.
        """
        known: object = None
        still_s = 0.0
        while still_s < patience_s:
            await asyncio.sleep(_LOOK_S)
            seen = (self.published, self.ended, workers.progress())
            still_s = still_s + _LOOK_S if self._in_flight and seen == known else 0.0
            known = seen
            if still_s == _TOLD_AFTER_S:
                behind = ", ".join(f"{name} {lag:,}" for name, lag in workers.lags().items())
                log.warning(
                    "nothing has moved for %d s: %d events wait, and in front of components: %s; "
                    "giving up after %d s", _TOLD_AFTER_S, self._in_flight,
                    behind or "nothing", patience_s,
                )  # fmt: skip


def _coordinates(partition: int, offset: int) -> int:
    """Both as one number; those of a run of offsets are a run."""
    return (partition << 48) + offset
