"""What a monitor counts for Prometheus, beside what each of its watchers does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from agents.monitor.decision_store import DecisionStore, StoreCounts

DECISION_FATES = ("kept", "repeated", "late", "evicted")
OUTCOME_FATES = ("matched", "replaced", "reversed", "superseded", "dead")


class MonitorMetrics:
    """Of one monitor and its pipeline."""

    def __init__(self, pipeline: str) -> None:
        # Or each counter and histogram has one more series, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client's
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._pipeline = pipeline
        self._active = Gauge(
            "anabranch_monitor_active", "1 for the monitor that counts, 0 for one that stands by.",
            ("pipeline",), registry=self.registry,
        ).labels(pipeline)  # fmt: skip
        self._lag = Gauge(
            "anabranch_monitor_lag_records", "Records that the monitor has not read yet.",
            ("pipeline", "topic"), registry=self.registry,
        )  # fmt: skip
        self._decisions = Counter(
            "anabranch_monitor_decisions",
            "Decisions that the monitor has read: kept, repeated, late, evicted, foreign.",
            ("pipeline", "fate"), registry=self.registry,
        )  # fmt: skip
        self._outcomes = Counter(
            "anabranch_monitor_outcomes",
            "Outcomes by what they came to: matched, replaced, reversed, superseded, dead.",
            ("pipeline", "fate"), registry=self.registry,
        )  # fmt: skip
        self._awaiting = Gauge(
            "anabranch_monitor_kept_decisions", "Decisions that are kept for outcomes.",
            ("pipeline",), registry=self.registry,
        ).labels(pipeline)  # fmt: skip
        self._unmatched = Gauge(
            "anabranch_monitor_unmatched_outcomes", "Outcomes that wait for their decision.",
            ("pipeline",), registry=self.registry,
        ).labels(pipeline)  # fmt: skip
        self._missed = Counter(
            "anabranch_monitor_missed_records", "Records deleted before the monitor read them.",
            ("pipeline",), registry=self.registry,
        ).labels(pipeline)  # fmt: skip
        self._snapshots = Counter(
            "anabranch_monitor_snapshots", "Snapshots written.", ("pipeline",),
            registry=self.registry,
        ).labels(pipeline)  # fmt: skip
        self._seen = dict.fromkeys((*DECISION_FATES, "foreign"), 0)
        self._seen_outcomes = dict.fromkeys(OUTCOME_FATES, 0)
        self._seen_missed = 0
        for fate in self._seen:
            self._decisions.labels(pipeline, fate)
        for fate in OUTCOME_FATES:
            self._outcomes.labels(pipeline, fate)

    def observe_active(self, *, is_active: bool) -> None:
        """This monitor is the active one, or stands by."""
        self._active.set(is_active)

    def observe_lag(self, lag: Mapping[str, int], missed: int) -> None:
        """Topic → records that are left; and how many were deleted so far."""
        for topic, records in lag.items():
            self._lag.labels(self._pipeline, topic).set(records)
        self._missed.inc(missed - self._seen_missed)
        self._seen_missed = missed

    def observe_snapshot(self) -> None:
        """A snapshot is on the broker."""
        self._snapshots.inc()

    def begin_at(self, counts: StoreCounts, dead: int) -> None:
        """What was counted by the monitor before is no news."""
        self._seen |= _decisions(counts, 0)
        self._seen_outcomes |= _outcomes(counts, dead)

    def observe_store(self, store: DecisionStore, foreign: int, dead: int) -> None:
        """What the store has counted so far, beside *foreign* records and *dead* outcomes."""
        self._awaiting.set(store.awaiting)
        self._unmatched.set(store.unmatched)
        for fate, count in _decisions(store.counts, foreign).items():
            self._decisions.labels(self._pipeline, fate).inc(count - self._seen[fate])
            self._seen[fate] = count
        for fate, count in _outcomes(store.counts, dead).items():
            self._outcomes.labels(self._pipeline, fate).inc(count - self._seen_outcomes[fate])
            self._seen_outcomes[fate] = count


def _decisions(counts: StoreCounts, foreign: int) -> dict[str, int]:
    of_store = asdict(counts)
    return {name: of_store[name] for name in DECISION_FATES} | {"foreign": foreign}


def _outcomes(counts: StoreCounts, dead: int) -> dict[str, int]:
    of_store = asdict(counts)
    return {name: of_store.get(name, dead) for name in OUTCOME_FATES}
