"""Which weights and which thresholds decide now, and which ones people have put there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import numpy as np

from models.arrays import Floats64
from models.registry import Registry, WeightsVersion
from topics.pipeline import Pipeline, Policy
from topics.records import WEIGHTS, ControlState


@dataclass(frozen=True, slots=True)
class WeightsInService:
    """What decides, and where it comes from."""

    current: WeightsVersion
    trained: WeightsVersion
    """The weights that people trained and promoted; `current` itself, or what it went on from."""
    policy: Policy
    trained_policy: Policy
    """The policy that people promoted; `policy` itself, or what moved with the weights to that."""
    held: bool
    """The last to change the weights has rolled them back: they stay until somebody promotes."""
    changed_ms: int
    """When they were changed last, in milliseconds since 1970; 0 for never."""

    @classmethod
    def of(
        cls, pipeline: Pipeline, registry: Registry, state: ControlState, decided_by: int
    ) -> Self | None:
        """By the control topic, and where that says nothing by the version that *decided*.

        None where the pipeline file fixes the weights, or none have decided yet. Raises
        RegistryError.
        """
        version = decided_by if state.weights is None else state.weights.version
        if pipeline.weighting.fixed_weights is not None or version == 0:
            return None
        current = trained = registry.weights(pipeline.name, version)
        while trained.card.origin != "training" and trained.card.parent is not None:
            trained = registry.weights(pipeline.name, trained.card.parent)
        policy = trained_policy = pipeline.policy
        if state.policy is not None:
            policy = trained_policy = state.policy.policy
            moved = current.card.thresholds
            if moved and moved == policy.thresholds and state.policy.previous is not None:
                trained_policy = state.policy.previous
        last = state.last_change(WEIGHTS)
        return cls(
            current, trained, policy, trained_policy,
            held=last is not None and last.action == "rollback",
            changed_ms=0 if last is None else _milliseconds(last.at),
        )  # fmt: skip


def alpha_of(version: WeightsVersion, stages: Sequence[str]) -> Floats64:
    """Its weights (S,); 0 for a stage that it does not know."""
    return np.array([version.card.values.get(stage, 0.0) for stage in stages])


def _milliseconds(text: str) -> int:
    """Of a time that a record has; 0 for what is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return 0
