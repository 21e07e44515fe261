"""Labelled events through a running pipeline, each followed to its decision or dead letter."""

from __future__ import annotations

import asyncio
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

from agents import following, publishing
from agents.ledger import Ledger
from agents.outcomes import OutcomePublisher
from agents.pacing import Labelled, Pace
from agents.supervision import first_of
from agents.tail import readable
from topics.decision import attempt_of
from topics.embedded import MAX_IN_FLIGHT
from topics.ends import buried_offset
from topics.pipeline import Pipeline
from topics.settings import BrokerSettings
from topics.topology import Topology

Ints = NDArray[np.int64]


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
    _decided: array[int] = field(default_factory=lambda: array("q"))
    """Source coordinates of every decision."""
    _began_at: float | None = None
    _last_end_at: float = 0.0

    @abstractmethod
    def decided(self, decision: Mapping[str, Any]) -> None:
        """Keep of a decision record what is wanted: little, a stream has many."""

    @property
    def ended(self) -> int:
        """Events with a decision or a dead letter."""
        return self.ledger.decisions + self.ledger.dead_letters

    @property
    def seconds(self) -> float:
        """From the first publication to the last end."""
        return 0.0 if self._began_at is None else max(0.0, self._last_end_at - self._began_at)

    async def stream(
        self,
        settings: BrokerSettings,
        labelled: Iterable[Labelled],
        *,
        pace: Pace | None = None,
        quiet_s: float,
    ) -> None:
        """Publish all of *labelled* and wait for their ends, until none comes for *quiet_s*.

        Never too far ahead of the decisions; outcomes are published when they are known.
        """
        ready = asyncio.Event()

        async def publish() -> None:
            await ready.wait()
            await self._publish(settings, labelled, pace)
            await self._settle(quiet_s)

        await first_of(lambda: self._follow(settings, ready), publish)

    def places(self) -> Ints:
        """Of each decision so far, which of the published events it is about (N,).

        -1 where it is about none of them: others may publish too.
        """
        return np.array([self._places.get(source, -1) for source in self._decided], np.int64)

    async def _publish(
        self, settings: BrokerSettings, labelled: Iterable[Labelled], pace: Pace | None
    ) -> None:
        topology = Topology.of(self.pipeline)
        outcomes = OutcomePublisher(self.pipeline)
        async with publishing.producer(settings) as kafka:
            async for chunk in publishing.paced(
                outcomes.following(labelled), pace=pace, room=self._room
            ):
                self._began_at = self._began_at or time.monotonic()
                await outcomes.publish_known(kafka)
                runs = await publishing.publish_chunk(
                    kafka, topology.events, topology.partitions, chunk
                )
                for partition, first, events in runs:
                    self.ledger.enter(partition, range(first, first + len(events)))
                    for source, event in enumerate(events, _coordinates(partition, first)):
                        self._places[source] = self.published + event
                self.published += len(chunk)

    async def _room(self) -> int:
        # As many more as have ended: workers that are still warming up get no backlog.
        allowed = min(MAX_IN_FLIGHT, publishing.CHUNK + self.ended)
        return allowed - (self.published - self.ended)

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
                        self.ledger.bury(tp.partition, readable(records, buried_offset))
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
        self._decided.extend([_coordinates(partition, offset) for offset in offsets])

    async def _settle(self, quiet_s: float) -> None:
        """Wait until every published event has ended, or nothing has for *quiet_s*."""
        ended, since = self.ended, time.monotonic()
        while self.ended < self.published and time.monotonic() - since < quiet_s:
            await asyncio.sleep(0.01)
            if self.ended != ended:
                ended, since = self.ended, time.monotonic()


def _coordinates(partition: int, offset: int) -> int:
    """Both as one number; those of a run of offsets are a run."""
    return (partition << 48) + offset
