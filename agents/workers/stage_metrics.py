"""What one component's worker observes: as metrics, and as numbers for the live view."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client.metrics import MetricWrapperBase

from agents.workers.metrics import Metrics
from models.features import History
from topics.records import Bools, Failure, ModelRef

Floats = NDArray[np.float64]
M = TypeVar("M", bound=MetricWrapperBase)


@dataclass(slots=True)
class StageStats:
    """What the live view shows of one component."""

    rows: int = 0
    failed: int = 0
    batches: int = 0
    lag: int = 0
    busy_s: float = 0.0


class StageWait(NamedTuple):
    """What a component waits for of one stage."""

    rows: int = 0
    seconds: float = 0.0
    down: bool = False


@dataclass(slots=True)
class StageMetrics:
    """The metrics of one component of one pipeline."""

    metrics: Metrics
    pipeline: str
    component: str
    stats: StageStats = field(default_factory=StageStats)
    _series: dict[tuple[object, tuple[str, ...]], Any] = field(default_factory=dict)

    @property
    def _labels(self) -> tuple[str, str]:
        return (self.pipeline, self.component)

    def _of(self, metric: M, *labels: str) -> M:
        """This pipeline's series of *metric*; the library looks one up by lock and validation."""
        key = (metric, labels)
        if key not in self._series:
            self._series[key] = metric.labels(self.pipeline, *labels)
        series: M = self._series[key]
        return series

    def _own(self, metric: M, *labels: str) -> M:
        """This component's series of *metric*."""
        return self._of(metric, self.component, *labels)

    def observe_batch(self, rows: int, seconds: float) -> None:
        """A fetch of *rows* was dealt with in *seconds*."""
        self.stats.batches += 1
        self.stats.busy_s += seconds
        self._own(self.metrics.batch_rows).observe(rows)
        self._own(self.metrics.stage_seconds).observe(seconds)

    def observe_inference(self, seconds: float) -> None:
        """A component's transform took *seconds*."""
        self._own(self.metrics.inference_seconds).observe(seconds)

    def observe_rows(self, present: Bools, failures: Iterable[Failure]) -> None:
        """Rows were written; `failures` says why some are absent."""
        good = int(present.sum())
        self.stats.rows += len(present)
        self.stats.failed += len(present) - good
        self._own(self.metrics.rows, "output").inc(good)
        self._own(self.metrics.rows, "absent").inc(len(present) - good)
        for error, count in Tally(f.error for f in failures).items():
            self._own(self.metrics.failed, error).inc(count)

    def observe_skipped(self) -> None:
        """A record was no stage batch."""
        self._own(self.metrics.skipped).inc()

    def observe_early(self, rows: int) -> None:
        """*rows* were let go before all sources had come as far as they."""
        self._own(self.metrics.early).inc(rows)

    def observe_future(self, outcome: Literal["clipped", "refused"], rows: int) -> None:
        """*rows* had event times further ahead than `future`."""
        self._own(self.metrics.future, outcome).inc(rows)

    def observe_odd_keys(self, kind: str, rows: int) -> None:
        """*rows* have no record key, or another than the event's key."""
        self._own(self.metrics.odd_keys, kind).inc(rows)

    def observe_placement(self, alike: int, elsewhere: int) -> None:
        """Of so many events the partition was looked at."""
        self._own(self.metrics.placed_keys, "alike").inc(alike)
        self._own(self.metrics.placed_keys, "elsewhere").inc(elsewhere)

    def observe_late_answers(self, rows: int) -> None:
        """*rows* were answered by a stage after they had ended without it."""
        self._own(self.metrics.late_answers).inc(rows)

    def observe_lag(self, records: int) -> None:
        """*records* wait on the topics that the component reads."""
        self.stats.lag = records
        self._own(self.metrics.lag).set(records)

    def observe_past(self, partition: int, histories: Mapping[str, History]) -> None:
        """The state behind windowed features of one partition."""
        for name, history in histories.items():
            labels = (str(partition), name)
            self._own(self.metrics.remembered, *labels).set(history.entries)
            for kind in ("late", "too_late", "truncated"):
                self._own(self.metrics.late, *labels, kind).set(getattr(history, kind))

    def observe_model(self, model: ModelRef) -> None:
        """The component runs *model*."""
        self._own(self.metrics.model).info(model._asdict())

    def observe_swap(self, result: Literal["swapped", "refused"], times: int = 1) -> None:
        """What the component runs was replaced, or what should replace it cannot be used."""
        self._own(self.metrics.swaps, result).inc(times)

    def observe_fused(self, *, in_one: bool) -> None:
        """The worker's components run in one session, or one by one."""
        self._own(self.metrics.fused).set(in_one)

    def observe_shadow(self, version: str, distances: Floats, flips: int) -> None:
        """A challenger ran on rows whose signals are so far from the champion's (N,).

        A flip is a signal on another side of a threshold of the pipeline file.
        """
        self._own(self.metrics.shadow_difference, version).observe_all(distances)
        self._own(self.metrics.shadow_rows, version, "flip").inc(flips)
        self._own(self.metrics.shadow_rows, version, "same").inc(len(distances) - flips)

    def observe_canary(self, canary: int, rows: int) -> None:
        """Of so many rows the challenger's output is used for *canary*."""
        self._own(self.metrics.canary_rows, "canary").inc(canary)
        self._own(self.metrics.canary_rows, "champion").inc(rows - canary)

    def observe_ends(self, latencies_s: Floats, degraded: int, dead: Sequence[Failure]) -> None:
        """Events ended: one latency per decision, one failure per dead letter."""
        ends = len(latencies_s) + len(dead)
        self.stats.rows += ends
        self.stats.failed += len(dead)
        self._of(self.metrics.events, "decision").inc(len(latencies_s))
        self._of(self.metrics.events, "dead-letter").inc(len(dead))
        self._of(self.metrics.degraded).inc(degraded)
        self._of(self.metrics.decision_seconds).observe_all(latencies_s)
        for (stage, error), count in Tally((f.component, f.error) for f in dead).items():
            self._of(self.metrics.dead_letters, stage, error).inc(count)

    def observe_redriven(self, outcome: str) -> None:
        """A dead letter that was redriven has ended in *outcome*."""
        self._of(self.metrics.redriven, outcome).inc()

    def observe_join(self, waiting: int, unaccounted: int) -> None:
        """*waiting* rows are in the join; *unaccounted* more events were found missing."""
        self._of(self.metrics.in_flight).set(waiting)
        self._of(self.metrics.unaccounted).inc(unaccounted)

    def observe_waits(self, waits: Mapping[str, StageWait]) -> None:
        """What rows of the component wait for now, by stage; all stages that it reads."""
        for stage, wait in waits.items():
            self._own(self.metrics.waiting_rows, stage).set(wait.rows)
            self._own(self.metrics.waiting_seconds, stage).set(wait.seconds)
            self._own(self.metrics.stage_down, stage).set(wait.down)

    def observe_other_models(self, rows: Mapping[str, int]) -> None:
        """Rows, by stage, whose output is of a model that the weights were not learned for."""
        for stage, count in rows.items():
            self._of(self.metrics.other_models, stage).inc(count)

    def observe_terms(self, weights: Mapping[str, float], version: int) -> None:
        """The weights in use, by stage."""
        self._of(self.metrics.weights_version).set(version)
        for stage, weight in weights.items():
            self._of(self.metrics.weight, stage).set(weight)
