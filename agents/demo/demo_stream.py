"""The demo: simulated events through the whole pipeline, every one followed to its end."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import nan
from sys import intern
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from agents.demo.event_stream import Stream
from agents.process.child_process import WorkerProcess
from agents.publish import scheduled
from models.simulators import CALM, SIMULATORS, LabelledEvent, Scenario, Simulator
from topics.errors import AnabranchError
from topics.pipeline import Pipeline
from topics.settings import BrokerSettings

Floats = NDArray[np.float64]

_SHOWN = 8
_PATIENCE_S = 300
"""The demo ends without the rest when nothing has moved for this long."""


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
    degraded: int
    throughput_eps: float
    latency_ms: Latency
    auc: float | None
    average_precision: float | None


@dataclass(slots=True)
class Demo(Stream):
    """A demo in progress: simulated events, and what was decided about them."""

    recent: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    _labels: list[bool] = field(default_factory=list)
    """Of every event, in the order of publication."""
    _names: list[str] = field(default_factory=list)
    """Of every decision, what was decided."""
    _scores: array[float] = field(default_factory=lambda: array("d"))
    _latencies: array[float] = field(default_factory=lambda: array("d"))

    async def run(
        self,
        settings: BrokerSettings,
        workers: WorkerProcess,
        events: int,
        seed: int,
        scenario: Scenario = CALM,
        *,
        rate: float | None = None,
        speed: float | None = None,
    ) -> None:
        """Publish *events* simulated events and wait for their ends.

        Raises NoSimulator and WorkersEnded.
        """
        simulate = simulator_of(self.pipeline)

        def simulated() -> Iterator[LabelledEvent]:
            for labelled in islice(simulate(seed, scenario=scenario), events):
                self._labels.append(labelled.label)
                yield labelled

        labelled, schedule = scheduled(simulated(), self.pipeline.event.time, rate, speed)
        await self.stream(settings, labelled, workers, schedule=schedule, patience_s=_PATIENCE_S)

    def decided(self, decision: Mapping[str, Any]) -> None:
        """Keep what the summary and the live view need of a decision record."""
        self._names.append(intern(decision["decision"]))
        self._scores.append(nan if decision["score"] is None else decision["score"])
        self._latencies.append(decision["latency_ms"])
        self.recent.append(decision)

    def by_decision(self) -> Mapping[str, int]:
        """What was decided about its own events, and how often."""
        own = (self.places() >= 0).tolist()
        return Counter(name for name, is_own in zip(self._names, own, strict=True) if is_own)

    def latencies(self) -> Floats:
        """Milliseconds of every decision so far."""
        return np.array(self._latencies)

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
            degraded=self.degraded,
            throughput_eps=round(account.inputs / self.seconds, 1) if self.seconds else 0.0,
            latency_ms=Latency(p50=_percentile(latencies, 50), p99=_percentile(latencies, 99)),
            auc=auc,
            average_precision=average_precision,
        )

    def _accuracy(self) -> tuple[float | None, float | None]:
        from sklearn.metrics import average_precision_score, roc_auc_score

        places = self.places()
        labels = np.array(self._labels, np.bool_)[places[places >= 0]]
        if labels.all() or not labels.any():
            return None, None  # a metric of one class does not exist
        scores = np.array(self._scores)[places >= 0]
        return (
            round(float(roc_auc_score(labels, scores)), 4),
            round(float(average_precision_score(labels, scores)), 4),
        )


def _percentile(values: Floats, percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 2) if len(values) else None
