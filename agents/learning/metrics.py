"""What is counted of weights that move, for Prometheus."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from models.arrays import Floats64
from models.live_weights import LossSums

_ORIGINS = ("outcomes", "quarantine")


class LearningMetrics:
    """Of one pipeline."""

    def __init__(self, pipeline: str, stages: Sequence[str], registry: CollectorRegistry) -> None:
        self._pipeline, self._stages = pipeline, stages
        self._weight = Gauge(
            "anabranch_live_weight",
            "Weight of a stage: trained, learned from outcomes, or in_service.",
            ("pipeline", "stage", "of"), registry=registry,
        )  # fmt: skip
        self._loss = Gauge(
            "anabranch_live_log_loss",
            "Mean log loss of the score on known outcomes, in nats: of the weights that decided, "
            "of those that were learned by then, of the trained ones.",
            ("pipeline", "of"), registry=registry,
        )  # fmt: skip
        self._outcomes = Gauge(
            "anabranch_learned_outcomes", "Outcomes that weights were learned from.",
            ("pipeline",), registry=registry,
        ).labels(pipeline)  # fmt: skip
        self._quarantined = Gauge(
            "anabranch_stage_quarantined",
            "1 for a stage that fails, or says the same of every event.",
            ("pipeline", "stage"), registry=registry,
        )  # fmt: skip
        self._steps = Counter(
            "anabranch_weight_steps", "Versions of the weights that the monitor put into service.",
            ("pipeline", "origin"), registry=registry,
        )  # fmt: skip
        self._failures = Counter(
            "anabranch_weight_step_failures",
            "Versions of the weights that the monitor could not put into service.",
            ("pipeline",), registry=registry,
        ).labels(pipeline)  # fmt: skip
        self._held = Gauge(
            "anabranch_weights_held",
            "1 where weights stay because somebody has rolled them back.",
            ("pipeline",), registry=registry,
        ).labels(pipeline)  # fmt: skip
        for stage in stages:
            self._quarantined.labels(pipeline, stage).set(0)
        for origin in _ORIGINS:
            self._steps.labels(pipeline, origin)

    def observe_weights(self, of: str, alpha: Floats64) -> None:
        """Weights (S,): `trained`, `learned` or `in_service`."""
        for stage, weight in zip(self._stages, alpha.tolist(), strict=True):
            self._weight.labels(self._pipeline, stage, of).set(weight)

    def observe_losses(self, sums: LossSums) -> None:
        """What outcomes have cost so far."""
        self._outcomes.set(sums.rows)
        if sums.weight > 0:
            for of in ("decided", "learned", "trained"):
                self._loss.labels(self._pipeline, of).set(getattr(sums, of) / sums.weight)

    def observe_quarantine(self, taken: Collection[str], *, held: bool) -> None:
        """The stages that are taken, and whether weights are held by somebody."""
        self._held.set(held)
        for stage in self._stages:
            self._quarantined.labels(self._pipeline, stage).set(stage in taken)

    def observe_step(self, origin: str) -> None:
        """A version was put into service."""
        self._steps.labels(self._pipeline, origin).inc()

    def observe_step_failure(self) -> None:
        """A version was not put into service."""
        self._failures.inc()
