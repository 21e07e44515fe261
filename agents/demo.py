"""The demo: simulated events through the whole pipeline, every one followed to its end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict

from agents import following, publishing
from agents.ledger import Ledger
from agents.outcomes import OutcomePublisher
from models.simulators import CALM, SIMULATORS, LabelledEvent, Scenario, Simulator
from topics import dead_letters
from topics.embedded import MAX_IN_FLIGHT
from topics.errors import AnabranchError
from topics.pipeline import Pipeline
from topics.settings import BrokerSettings
from topics.topology import Topology

_SHOWN = 8
_QUIET_S = 30.0
"""The demo ends without the rest when nothing has ended for this long."""


class NoSimulator(AnabranchError):
    """Nothing simulates the events of the pipeline."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"pipeline {pipeline} has no simulator, so no demo; run it with `anabranch run "
            "PIPELINE`, and send it events of your own with `anabranch publish PIPELINE FILE`; "
            f"simulated are {', '.join(sorted(SIMULATORS))}"
        )


def simulator_of(pipeline: Pipeline) -> Simulator:
    """The simulator of the pipeline's events. Raises NoSimulator."""
    if pipeline.name not in SIMULATORS:
        raise NoSimulator(pipeline.name)
    return SIMULATORS[pipeline.name]


class Latency(BaseModel):
    """Milliseconds from an event's publication to its decision."""

    p50: float | None
    p99: float | None


class Summary(BaseModel):
    """What a demo came to."""

    model_config = ConfigDict(frozen=True)

    pipeline: str
    events: int
    decisions: int
    dead_letters: int
    unaccounted: int
    duplicates: int
    throughput_eps: float
    latency_ms: Latency
    auc: float | None
    average_precision: float | None


@dataclass(slots=True)
class Demo:
    """The state of a demo in progress: what was published, and how it ended."""

    pipeline: Pipeline
    ledger: Ledger = field(default_factory=Ledger)
    published: int = 0
    degraded: int = 0
    by_decision: Counter[str] = field(default_factory=Counter)
    recent: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _labels: dict[tuple[int, int], bool] = field(default_factory=dict)
    _scored: list[tuple[int, int, float, float]] = field(default_factory=list)
    _started_at: float = 0.0
    _last_end_at: float = 0.0

    @property
    def ended(self) -> int:
        """Events with a decision or a dead letter."""
        return self.ledger.decisions + self.ledger.dead_letters

    @property
    def seconds(self) -> float:
        """From the first publication to the last end."""
        return max(0.0, self._last_end_at - self._started_at)

    async def publish(
        self,
        settings: BrokerSettings,
        events: int,
        rate: float | None,
        seed: int,
        scenario: Scenario = CALM,
    ) -> None:
        """Publish *events* simulated events, never too far ahead of their decisions.

        Raises NoSimulator.
        """
        simulate = simulator_of(self.pipeline)
        topology = Topology.of(self.pipeline)
        labels: list[bool] = []

        outcomes = OutcomePublisher(self.pipeline)

        def simulated() -> Iterator[LabelledEvent]:
            for labelled in islice(simulate(seed, scenario=scenario), events):
                labels.append(labelled.label)
                yield labelled

        async def room() -> int:
            # As many more as have ended: workers that are still warming up get no backlog.
            allowed = min(MAX_IN_FLIGHT, publishing.CHUNK + self.ended)
            return allowed - (self.published - self.ended)

        self._started_at = time.monotonic()
        async with publishing.producer(settings) as kafka:
            async for chunk in publishing.paced(
                outcomes.following(simulated()), rate=rate, room=room
            ):
                await outcomes.publish_known(kafka)
                runs = await publishing.publish_chunk(
                    kafka, topology.events, topology.partitions, chunk
                )
                for partition, first, indices in runs:
                    self.ledger.enter(partition, range(first, first + len(indices)))
                    for offset, index in enumerate(indices, first):
                        self._labels[partition, offset] = labels[self.published + index]
                self.published += len(chunk)
                if self.stopping.is_set():
                    return

    async def follow(self, settings: BrokerSettings, ready: asyncio.Event) -> None:
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
                        self._decided([record.value for record in records])
                    else:
                        for record in records:
                            _, partition, offset = dead_letters.source_of(record.headers)
                            self.ledger.bury(partition, [offset])
                    self._last_end_at = time.monotonic()

    def _decided(self, values: list[bytes]) -> None:
        offsets: dict[int, list[int]] = defaultdict(list)
        for value in values:
            record = orjson.loads(value)
            partition, offset = record["source"]["partition"], record["source"]["offset"]
            offsets[partition].append(offset)
            self._scored.append((partition, offset, record["score"], record["latency_ms"]))
            self.by_decision[record["decision"]] += 1
            self.degraded += record["degraded"]
        for partition, decided in offsets.items():
            self.ledger.decide(partition, decided)
        self.recent.extend(orjson.loads(value) for value in values[-_SHOWN:])

    async def settle(self) -> None:
        """Wait until every published event has ended, or nothing has ended for a while."""
        ended, since = self.ended, time.monotonic()
        while self.ended < self.published and time.monotonic() - since < _QUIET_S:
            await asyncio.sleep(0.01)
            if self.ended != ended:
                ended, since = self.ended, time.monotonic()

    def latencies(self) -> np.ndarray:
        """Milliseconds of every decision so far."""
        return np.array([latency for *_, latency in self._scored])

    def summary(self) -> Summary:
        """What it came to."""
        account = self.ledger.total()
        latencies = self.latencies()
        auc, average_precision = self._accuracy()
        return Summary(
            pipeline=self.pipeline.name,
            events=account.inputs,
            decisions=account.decided,
            dead_letters=account.dead,
            unaccounted=account.unaccounted,
            duplicates=account.duplicated,
            throughput_eps=round(account.inputs / self.seconds, 1) if self.seconds else 0.0,
            latency_ms=Latency(p50=_percentile(latencies, 50), p99=_percentile(latencies, 99)),
            auc=auc,
            average_precision=average_precision,
        )

    def _accuracy(self) -> tuple[float | None, float | None]:
        from sklearn.metrics import average_precision_score, roc_auc_score

        labels = np.array([self._labels.get((p, o), False) for p, o, *_ in self._scored])
        if labels.all() or not labels.any():
            return None, None  # a metric of one class does not exist
        scores = np.array([score for _, _, score, _ in self._scored])
        return (
            round(float(roc_auc_score(labels, scores)), 4),
            round(float(average_precision_score(labels, scores)), 4),
        )


def _percentile(values: np.ndarray, percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 2) if len(values) else None
