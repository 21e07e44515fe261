"""What the weighting agent decides by: weights and policy, replaced whole between two batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agents.decisions import DecisionWriter, Weights
from agents.weighing import Scale
from topics.pipeline import Pipeline
from topics.policy import Policy


@dataclass(frozen=True, slots=True)
class Terms:
    """Weights and policy, and what they are applied with."""

    weights: Weights
    policy: Policy
    scale: Scale
    decisions: DecisionWriter

    @classmethod
    def of(cls, pipeline: Pipeline, weights: Weights, policy: Policy | None = None) -> Terms:
        """The terms by which *pipeline* decides; its own policy without another."""
        policy = policy or pipeline.policy
        pipeline = pipeline.model_copy(update={"policy": policy})
        return cls(
            weights, policy, Scale(pipeline.weighting, weights), DecisionWriter(pipeline, weights)
        )


class TermsSlot:
    """Holds the terms in use. Assigned to by the event loop alone."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.note: Callable[[Terms, int, int], None] | None = None
        """Told of terms, a partition, and the first source offset decided by them there."""
        self._last: dict[int, Terms] = {}

    def decided(self, terms: Terms, partition: int, first_offset: int) -> None:
        """Rows of a partition have been decided by *terms*."""
        if self._last.get(partition) is not terms:
            self._last[partition] = terms
            if self.note is not None:
                self.note(terms, partition, first_offset)
