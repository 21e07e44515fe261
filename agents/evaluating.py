"""Streaming labelled events through a running pipeline, and what its decisions topic says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from agents import following, publishing
from agents.evaluation_data import LabelledEvent
from agents.ledger import Ledger
from agents.outcomes import OutcomePublisher
from agents.supervision import first_of
from models.evaluation import EvaluationError
from topics import dead_letters
from topics.embedded import MAX_IN_FLIGHT
from topics.pipeline import Pipeline
from topics.settings import BrokerSettings
from topics.topology import Topology

COMPOSED = "composed"
"""The row of the weighted score, beside one row for each stage's signal."""

_QUIET_S = 60.0
"""The evaluation ends without the rest when nothing has ended for this long."""


class NotDecided(EvaluationError):
    """The stream ended before every event had."""

    def __init__(self, missing: int, waited_s: float) -> None:
        super().__init__(
            f"{missing:,} events have neither a decision nor a dead letter, and for "
            f"{waited_s:.0f} s nothing has ended; is another worker in the pipeline's groups?"
        )


@dataclass(slots=True)
class Evaluation:
    """A stream in progress: what was published, and what was decided about it."""

    pipeline: Pipeline
    events: Sequence[LabelledEvent]
    ledger: Ledger = field(default_factory=Ledger)
    published: int = 0
    degraded: int = 0
    """Decisions that lack a stage, whose signal then counts as 0."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _rows: dict[tuple[int, int], int] = field(default_factory=dict)
    """Source partition and offset → place in `events`."""
    _said: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)
    """Source partition and offset → score and signals of its decision."""

    @property
    def ended(self) -> int:
        """Events with a decision or a dead letter."""
        return self.ledger.decisions + self.ledger.dead_letters

    async def run(self, settings: BrokerSettings, progress: Callable[[int], None]) -> None:
        """Publish all events and wait for their ends; `progress(ended)` is told how many ended.

        Raises NotDecided.
        """
        ready = asyncio.Event()
        await first_of(
            lambda: self._follow(settings, ready, progress),
            lambda: self._publish_and_settle(settings, ready),
        )

    async def _publish_and_settle(self, settings: BrokerSettings, ready: asyncio.Event) -> None:
        await ready.wait()
        await self._publish(settings)
        ended, since = self.ended, time.monotonic()
        while self.ended < len(self.events):
            if time.monotonic() - since > _QUIET_S:
                raise NotDecided(len(self.events) - self.ended, _QUIET_S)
            await asyncio.sleep(0.01)
            if self.ended != ended:
                ended, since = self.ended, time.monotonic()

    async def _publish(self, settings: BrokerSettings) -> None:
        topology = Topology.of(self.pipeline)

        async def room() -> int:
            # As many more as have ended: workers that are still warming up get no backlog.
            allowed = min(MAX_IN_FLIGHT, publishing.CHUNK + self.ended)
            return allowed - (self.published - self.ended)

        outcomes = OutcomePublisher(self.pipeline)
        pairs = outcomes.following((orjson.loads(it.value), it.label) for it in self.events)
        async with publishing.producer(settings) as kafka:
            async for chunk in publishing.paced(pairs, rate=None, room=room):
                first = self.published
                await outcomes.publish_known(kafka)
                runs = await publishing.publish_chunk(
                    kafka, topology.events, topology.partitions, chunk
                )
                for partition, offset, indices in runs:
                    self.ledger.enter(partition, range(offset, offset + len(indices)))
                    for at, index in enumerate(indices, offset):
                        self._rows[partition, at] = first + index
                self.published += len(chunk)

    async def _follow(
        self, settings: BrokerSettings, ready: asyncio.Event, progress: Callable[[int], None]
    ) -> None:
        topology = Topology.of(self.pipeline)
        topics = (topology.decisions, topology.dead_letters)
        async with following.follower(
            settings, topics, topology.partitions, from_start=False
        ) as consumer:
            ready.set()
            while True:
                fetched = await consumer.getmany(timeout_ms=200)
                for tp, records in fetched.items():
                    for record in records:
                        if tp.topic == topology.decisions:
                            self._decided(record.value)
                        else:
                            _, partition, offset = dead_letters.source_of(record.headers)
                            self.ledger.bury(partition, [offset])
                progress(self.ended)

    def _decided(self, value: bytes) -> None:
        record = orjson.loads(value)
        source = record["source"]["partition"], record["source"]["offset"]
        signals = {name: part["signal"] for name, part in record["contributions"].items()}
        self.degraded += record["degraded"]
        self._said[source] = {COMPOSED: record["score"], **signals}
        self.ledger.decide(source[0], [source[1]])

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """What was said of each event (N,): the composed score, and each stage's signal.

        0 where nothing was said: an event that became a dead letter alarms nobody.
        """
        names = [COMPOSED, *self.pipeline.weighting.inputs]
        columns = {name: np.zeros(len(self.events)) for name in names}
        for source, said in self._said.items():
            if (row := self._rows.get(source)) is not None:
                for name, value in said.items():
                    columns[name][row] = value
        return columns
