"""What training reached, on rows that no model was fitted on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.decision_costs import CostReport, Verdict
from models.judging import Curves, Labels, Quality, Record, Share, ranking
from models.leaving_out import LeftOut

__all__ = [
    "ComponentReport", "ComposedReport", "Cutoffs", "HeldOut", "LabelDelay", "TrainingReport",
    "cutoffs", "ranking",
]  # fmt: skip


class ComponentReport(Quality):
    """One component's signal, on the rows that the composed score is judged on."""

    version: int | None
    """Its version in the registry; None for an ONNX file and for a component without a model."""
    digest: str | None


class ComposedReport(Quality):
    """The weighted score, on rows that the weights were not learned on either."""


class Cutoffs(Record):
    """Weighted scores of held-out rows to start a policy from, by the share that reaches them."""

    as_many: Share
    """Reached by as many rows as are positive."""
    twice_as_many: Share


class HeldOut(Record):
    """More about the rows that everything was judged on."""

    rows: int
    positives: int
    curves: dict[str, Curves]
    """By stage that is weighed, and of the weighted score as `composed`."""
    left_out: dict[str, LeftOut]
    """By stage that is weighed."""
    policy: Verdict
    """What the pipeline file's thresholds would have decided."""
    costs: CostReport | None
    """None where the pipeline file states no costs."""


class LabelDelay(Record):
    """Whether rows were left out whose outcome was not known when the next block began."""

    delay: str
    """How long after its event an outcome is known: the pipeline file's `outcomes.delay`."""
    left_out: dict[str, int]
    """Block of rows (`models.splits`) → how many of its rows were not fitted or weighed on."""
    too_short: list[str]
    """Blocks that were used whole, because too few rows would have been left."""

    @property
    def said(self) -> str:
        """In a line; empty when no row was concerned."""
        late = ", ".join(f"{rows:,} of {name}" for name, rows in self.left_out.items())
        lines = []
        if late:
            lines.append(f"left out, known only {self.delay} later: {late}")
        if self.too_short:
            lines.append(
                f"too short to wait {self.delay} for outcomes: {'; '.join(self.too_short)} "
                "(service will learn of them later than these figures suppose)"
            )
        return "; ".join(lines)


class TrainingReport(Record):
    """What `train` did and how good the result is."""

    pipeline: str
    rows: int
    positives: int
    components: dict[str, ComponentReport]
    weights: dict[str, Share]
    weights_version: int | None
    """None for weights that are fixed in the pipeline file."""
    composed: ComposedReport
    cutoffs: Cutoffs
    held_out: HeldOut
    label_delay: LabelDelay | None = None
    """None for rows without times of their own."""
    seconds: float


def cutoffs(labels: Labels, scores: NDArray[np.float64]) -> Cutoffs:
    """Cut-offs by the *scores* (N,) of held-out rows, *labels* (N,) of which are positive."""
    positives = float(labels.mean())
    once, twice = np.quantile(scores, [1 - positives, max(0.0, 1 - 2 * positives)])
    return Cutoffs(as_many=float(once), twice_as_many=float(twice))
