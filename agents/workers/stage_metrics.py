"""What one component's worker observes: as metrics, and as numbers for the live view."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from prometheus_client.metrics import MetricWrapperBase

from agents.workers.metrics import Metrics
from models.features import History
from topics.records import Bools, Failure, ModelRef
from topics.transport import PartitionBacklog

Floats = NDArray[np.float64]
M = TypeVar("M", bound=MetricWrapperBase)
_LATE = ("late", "too_late", "truncated")
"""What a history counts."""


@dataclass(slots=True)
class StageStats:
    """What the live view shows of one component."""

    rows: int = 0
    failed: int = 0
    batches: int = 0
    lag: int = 0
    busy_s: float = 0.0
    explained: dict[str, int] = field(default_factory=dict)
    """By decision; the explainer's, as the next."""
    unexplained: dict[str, int] = field(default_factory=dict)
    """By reason."""
    partitions: dict[str, int] = field(default_factory=dict)
    """Those of a worker, by state."""


class StageWait(NamedTuple):
    """What a component waits for of one stage."""

    rows: int = 0
    seconds: float = 0.0
    down: bool = False


class Ends(NamedTuple):
    """How events ended in decisions."""

    latencies_s: Floats
    """From each event's publication to its decision (N,)."""
    degraded: int
    """Decisions without every stage."""
    scores: Floats
    """Of those that were decided by their score (M,)."""
    kinds: Mapping[tuple[str, str], int]
    """What was decided, and by what → how often."""
    missing: Mapping[tuple[str, str], int]
    """A stage, and why a decision lacks it → how often."""
    explorations: Mapping[tuple[str, str], int]
    """What the policy says, and whether it was explored or kept → how often, where it could be."""


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in now.items()}


@dataclass(slots=True)
class StageMetrics:
    """The metrics of one component of one pipeline."""

    metrics: Metrics
    pipeline: str
    component: str
    stats: StageStats = field(default_factory=StageStats)
    _series: dict[tuple[object, tuple[str, ...]], Any] = field(default_factory=dict)
    _late: WeakKeyDictionary[History, tuple[int, ...]] = field(default_factory=WeakKeyDictionary)
    """What was counted of each history."""
    _assignments: int = 0
    _followed: StageStats = field(default_factory=StageStats)
    """What another process has done."""

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

    def observe_lag(self, backlogs: Sequence[PartitionBacklog]) -> None:
        """What there is left to do of the component's partitions."""
        self.stats.lag = sum(backlog.records for backlog in backlogs)
        self._own(self.metrics.lag).set(self.stats.lag)
        self.metrics.backlogs.put(self.pipeline, self.component, backlogs)

    def observe_assignments(self, times: int) -> None:
        """So often partitions were dealt out to this worker since it began."""
        self._own(self.metrics.rebalances).inc(times - self._assignments)
        self._assignments = times

    def observe_partitions(self, states: Mapping[str, int]) -> None:
        """How many of its partitions are in each state; of all states."""
        self.stats.partitions = dict(states)
        for state, partitions in states.items():
            self._own(self.metrics.partitions, state).set(partitions)

    def observe_past(self, partition: int, histories: Mapping[str, History]) -> None:
        """The state behind windowed features of one partition."""
        for name, history in histories.items():
            self._own(self.metrics.remembered, str(partition), name).set(history.entries)
            counts = tuple(getattr(history, kind) for kind in _LATE)
            before = self._late.get(history, (0,) * len(_LATE))
            self._late[history] = counts
            for kind, count, counted in zip(_LATE, counts, before, strict=True):
                self._own(self.metrics.late, name, kind).inc(count - counted)

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

    def observe_decisions(self, ends: Ends) -> None:
        """Events ended in decisions."""
        self.stats.rows += len(ends.latencies_s)
        self._of(self.metrics.events, "decision").inc(len(ends.latencies_s))
        if len(ends.latencies_s):
            self._of(self.metrics.decided_at).set_to_current_time()
        self._of(self.metrics.degraded).inc(ends.degraded)
        self._of(self.metrics.decision_seconds).observe_all(ends.latencies_s)
        self._of(self.metrics.score).observe_all(ends.scores)
        for kind, count in ends.kinds.items():
            self._of(self.metrics.decisions, *kind).inc(count)
        for why, count in ends.missing.items():
            self._of(self.metrics.missing_stages, *why).inc(count)
        for result, count in ends.explorations.items():
            self._of(self.metrics.explorable, *result).inc(count)

    def observe_explained(
        self, decisions: Mapping[str, int], unexplained: Mapping[str, int],
        seconds: Floats | None = None,
    ) -> None:  # fmt: skip
        """So many of each decision were explained, *seconds* (N,) later; or not, by reason."""
        self.stats.rows += sum(decisions.values())
        self.stats.failed += sum(unexplained.values())
        for decision, count in decisions.items():
            self.stats.explained[decision] = self.stats.explained.get(decision, 0) + count
            self._of(self.metrics.explained, decision).inc(count)
        for reason, count in unexplained.items():
            self.stats.unexplained[reason] = self.stats.unexplained.get(reason, 0) + count
            self._of(self.metrics.unexplained, reason).inc(count)
        if seconds is not None:
            self._of(self.metrics.explanation_seconds).observe_all(seconds)

    def begin_following(self) -> None:
        """Another process does the component's work from now on, and has done none yet."""
        self._followed = StageStats()

    def follow(self, stats: StageStats) -> None:
        """What that process has done so far; this one's metrics say it too."""
        before, self._followed = self._followed, stats
        self.observe_explained(
            _more(stats.explained, before.explained), _more(stats.unexplained, before.unexplained)
        )
        self.observe_partitions(stats.partitions)
        self.stats.lag = stats.lag
        self._own(self.metrics.lag).set(stats.lag)

    def observe_dead(self, dead: Sequence[Failure]) -> None:
        """Events ended in dead letters, one failure for each."""
        self.stats.rows += len(dead)
        self.stats.failed += len(dead)
        self._of(self.metrics.events, "dead-letter").inc(len(dead))
        for (stage, error), count in Tally((f.component, f.error) for f in dead).items():
            self._of(self.metrics.dead_letters, stage, error).inc(count)

    def observe_redriven(self, outcome: str, events: int) -> None:
        """So many dead letters that were redriven have ended in *outcome*."""
        self._of(self.metrics.redriven, outcome).inc(events)

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

    def observe_rule(self, weights: Mapping[str, float], version: int, policy: int) -> None:
        """The weights in use by stage, their version, and that of the policy."""
        self._of(self.metrics.weights_version).set(version)
        self._of(self.metrics.policy_version).set(policy)
        for stage, weight in weights.items():
            self._of(self.metrics.weight, stage).set(weight)
