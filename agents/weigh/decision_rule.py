"""What the weighting agent decides by: weights and policy, replaced whole between two batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agents.weigh.decision_records import DecisionWriter, Weights
from agents.weigh.scoring import Scale
from topics.pipeline import Pipeline, Policy


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
        return cls(weights, policy, Scale(pipeline, weights), DecisionWriter(pipeline, weights))

    @property
    def versions(self) -> tuple[int, int]:
        """Of the weights and of the policy."""
        return self.weights.version, self.policy.version


class NoteOfTerms(Protocol):
    """Told that the first rows of a partition have been decided by some terms."""

    def __call__(self, terms: Terms, partition: int, offset: int, *, takes_over: bool) -> None:
        """*takes_over*: those before were decided by others, in this worker."""


class TermsSlot:
    """Holds the terms in use. Assigned to by the event loop alone."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.note: NoteOfTerms | None = None
        self._last: dict[int, Terms] = {}

    def decided(self, terms: Terms, partition: int, first_offset: int) -> None:
        """Rows of a partition have been decided by *terms*."""
        before = self._last.get(partition)
        if before is not terms:
            self._last[partition] = terms
            if before is not None and before.versions == terms.versions:
                return  # the same weights, which hold for more models by now
            if self.note is not None:
                self.note(terms, partition, first_offset, takes_over=before is not None)
