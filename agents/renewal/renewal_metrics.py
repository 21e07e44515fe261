"""What a trainer counts for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from agents.renewal.renewal_ledger import RenewalLedger
from topics.pipeline import Pipeline, duration_ms
from topics.records import STEPS, StepName, VerdictName

_SUCCESSES = ("promoted", "partly")


class RenewalMetrics:
    """Of one trainer of a pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        # Or each counter has one more series, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client's
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._name = pipeline.name
        label = ("pipeline",)

        def gauge(name: str, text: str, *more: str) -> Gauge:
            return Gauge(f"anabranch_{name}", text, (*label, *more), registry=self.registry)

        self._owner = gauge("renewal_owner", "1 at the trainer that renews, 0 where it stands by.")
        self._step = gauge("renewal_step", "1 for the step that a renewal is at, else 0.", "step")
        self._step_since = gauge(
            "renewal_step_begun_seconds", "When that step has begun, in seconds since 1970; 0 "
            "while no renewal runs.",
        )  # fmt: skip
        self._promoted = gauge(
            "renewal_last_promoted_seconds", "Event time at which a renewal has last promoted "
            "anything, in seconds since 1970.",
        )  # fmt: skip
        self._age = gauge(
            "model_age_seconds", "Event time since the newest event that the model in service was "
            "fitted on.", "component",
        )  # fmt: skip
        self._max_age = gauge("model_max_age_seconds", "What renew: max_age allows; 0 for any.")
        self._verdicts = Counter(
            "anabranch_renewals", "Renewals that have ended, by their verdict.",
            (*label, "verdict"), registry=self.registry,
        )  # fmt: skip
        self._seconds = Counter(
            "anabranch_renewal_step_seconds", "Time spent in steps that were done.",
            (*label, "step"), registry=self.registry,
        )  # fmt: skip
        for verdict in get_args(VerdictName):
            self._verdicts.labels(self._name, verdict)
        limit = pipeline.renew.max_age
        self._max_age.labels(self._name).set(0 if limit is None else duration_ms(limit) / 1000)
        self._promoted.labels(self._name).set(0)
        self._at: tuple[int, StepName] | None = None

    def observe_ledger(self, ledger: RenewalLedger, *, is_owner: bool) -> None:
        """Who renews, and at which step a renewal is."""
        self._owner.labels(self._name).set(int(is_owner))
        running = ledger.running
        step = None if running is None else running.next_step
        at = None if running is None or step is None else (running.number, step)
        if at != self._at:
            self._at = at
            self._step_since.labels(self._name).set(0 if at is None else time.time())
        for name in STEPS:
            self._step.labels(self._name, name).set(int(name == step))
        promoted = [
            renewal.verdict.event_ms
            for renewal in ledger
            if renewal.verdict is not None and renewal.verdict.verdict in _SUCCESSES
        ]
        self._promoted.labels(self._name).set(max(promoted, default=0) / 1000)

    def observe_models(self, clock_ms: int | None, until_ms: Mapping[str, int]) -> None:
        """How old the models in service are, by event time."""
        for component, newest_ms in until_ms.items():
            if clock_ms is not None:
                age_s = max(0.0, (clock_ms - newest_ms) / 1000)
                self._age.labels(self._name, component).set(age_s)

    def observe_step(self, step: StepName, seconds: float) -> None:
        """A step is done."""
        self._seconds.labels(self._name, step).inc(seconds)

    def observe_verdict(self, verdict: VerdictName) -> None:
        """A renewal has ended."""
        self._verdicts.labels(self._name, verdict).inc()
