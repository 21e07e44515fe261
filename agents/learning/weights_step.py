"""A step: the weights that shall decide from now on, and how they come into service.

A step is a version of the weights in the registry, with the trained weights as its parent and their
background rows, so that its decisions are explained and replayed like any others. It is put into
service by the control topic, together with the policy where thresholds moved, under its
compare-and-set: where an operator has changed either since it was looked at, nothing is written,
and the next look starts from what there is then. The version before it there is the trained one,
so that one `anabranch models rollback PIPELINE/weights` leads back to it, however many steps ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from agents.control import ControlTopic, now, user
from agents.learning.weights_in_service import WeightsInService, alpha_of
from models.arrays import Floats64
from models.live_weights import LossSums, ThresholdMove
from models.registry import Background, Registry, WeightsCard
from topics.pipeline import Policy
from topics.records import POLICY, WEIGHTS, AuditEntry, PolicyDeployment, WeightsDeployment

LEAST_APART_MS = 60_000
"""Weights are changed at most so often."""
_LONGEST_REASON = 900


@dataclass(frozen=True, slots=True, eq=False)
class WeightsStep:
    """Weights (S,) that are to decide, those that are out of them, and the thresholds with them."""

    start: WeightsInService
    """What it starts from."""
    stages: Sequence[str]
    alpha: Floats64
    quarantined: Sequence[str]
    move: ThresholdMove
    reason: str
    sums: LossSums

    @property
    def is_trained(self) -> bool:
        """It leads back to the trained weights."""
        trained = alpha_of(self.start.trained, self.stages)
        return not self.quarantined and self.alpha.tobytes() == trained.tobytes()

    def card(self) -> WeightsCard:
        """Of the version that it becomes."""
        trained, sums = self.start.trained, self.sums
        means = {"decided": sums.decided, "learned": sums.learned, "trained": sums.trained}
        thresholds = dict(zip(
            self.start.trained_policy.thresholds, self.move.thresholds.tolist(), strict=True
        ))  # fmt: skip
        return WeightsCard(
            values=dict(zip(self.stages, self.alpha.tolist(), strict=True)),
            rows=max(0, sums.rows), created_at=now(),
            metrics={
                f"{name}_log_loss": value / sums.weight
                for name, value in means.items() if sums.weight > 0
            },
            models=trained.card.models, parent=trained.version,
            origin="quarantine" if self.quarantined else "outcomes",
            quarantined=[*self.quarantined], thresholds=thresholds if self.move.moved else {},
            note=self.reason[:_LONGEST_REASON],
        )  # fmt: skip

    def policy(self, taken_versions: Sequence[int]) -> PolicyDeployment | None:
        """The policy that goes with it; None where the one that is in service does."""
        start = self.start
        if not self.move.moved:
            if start.policy == start.trained_policy:
                return None
            return PolicyDeployment(policy=start.trained_policy, previous=start.policy)
        names = [*start.trained_policy.thresholds]
        thresholds = dict(zip(names, self.move.thresholds.tolist(), strict=True))
        if thresholds == start.policy.thresholds:
            return None
        fields = {"version": max(taken_versions) + 1, "thresholds": thresholds}
        moved = Policy.model_validate(start.trained_policy.model_dump(by_alias=True) | fields)
        return PolicyDeployment(policy=moved, previous=start.trained_policy)


async def put_into_service(
    step: WeightsStep, control: ControlTopic, registry: Registry, pipeline: str
) -> int:
    """Register the step and write it to the control topic; the version in service then.

    Raises ChangedMeanwhile where somebody else was quicker, RegistryError, KafkaError.
    """
    start, state = step.start, control.state
    if step.is_trained:
        version = start.trained.version
    else:
        background = await asyncio.to_thread(_background, step)
        added = await asyncio.to_thread(registry.add_weights, pipeline, step.card(), background)
        version = added.version
    before = start.current.version
    previous = before if version == start.trained.version else start.trained.version
    records: dict[str, BaseModel] = {WEIGHTS: WeightsDeployment(version=version, previous=previous)}
    used = [start.policy.version, start.trained_policy.version]
    used += [entry.version or 0 for entry in state.audit if entry.what == POLICY]
    if (policy := step.policy(used)) is not None:
        await asyncio.to_thread(registry.keep, pipeline, policy.policy.content)
        records[POLICY] = policy
    entry = AuditEntry(
        action="promote", what=WEIGHTS, version=version, before=before, by=f"monitor of {user()}",
        reason=step.reason[:_LONGEST_REASON], at=now(),
    )  # fmt: skip
    await control.change(records, entry)
    return version


def _background(step: WeightsStep) -> Background | None:
    trained = step.start.trained
    return None if trained.background_digest is None else trained.background()


def described(names: Sequence[str], before: Floats64, after: Floats64) -> str:
    """What changes, for people: `risk-forest 0.40 → 0.31, decision 0.55 → 0.64`."""
    moved = np.flatnonzero(np.abs(after - before) >= 0.005).tolist()
    return ", ".join(f"{names[at]} {before[at]:.2f} → {after[at]:.2f}" for at in moved)
