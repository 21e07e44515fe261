"""What training reached, on rows that no model was fitted on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from models.arrays import Floats64
from models.report.ablation import StageLoss
from models.report.decision_costs import CostReport, PolicyResult
from models.report.quality import Curves, Labels, Quality, ReportPart, Share

COMPOSED = "composed"
"""The weighted score, where it stands beside the stages' signals."""


class Figures(ReportPart):
    """A `Quality`, or why there is none; then each of its figures is None."""

    auc: Share | None = None
    average_precision: Share | None = None
    log_loss: Annotated[float, Field(ge=0)] | None = None
    brier: Share | None = None
    calibration_error: Share | None = None
    not_measured: str | None = None
    """Why there are no figures."""

    @classmethod
    def of(cls, quality: Quality | str, **others: object) -> Self:
        """These figures, or the words that say why there are none."""
        if isinstance(quality, str):
            return cls.model_validate({"not_measured": quality, **others})
        return cls.model_validate({**quality.model_dump(), **others})


class ComponentReport(Figures):
    """One component's signal, on the rows that the composed score is judged on."""

    version: int | None
    """Its version in the registry; None for an ONNX file and for a component without a model."""
    digest: str | None
    """None for a component without a model."""
    measured: Literal["itself", "first fit", "stand-in"] | None = None
    """What the figures are of. First fit: the model before it was fitted again, with these rows.
    Stand-in: a model fitted as this one was, on fewer of the same rows. None without figures."""


class ComposedReport(Figures):
    """The weighted score, on rows that the weights were not learned on either."""


class Cutoffs(ReportPart):
    """Weighted scores of held-out rows to start a policy from, by the share that reaches them."""

    as_many: Share
    """Reached by as many rows as are positive."""
    twice_as_many: Share


class HeldOutReport(ReportPart):
    """More about the rows that everything was judged on."""

    rows: int
    positives: int
    declared: bool = False
    """Whether they are of a holdout that was given, and no model was fitted on them at all."""
    curves: dict[str, Curves]
    """By stage that is weighed, and of the weighted score as `composed`; of what was measured."""
    left_out: dict[str, StageLoss]
    """By stage that is weighed; empty where the weighted score was not measured."""
    policy: PolicyResult | None
    """What the pipeline file's thresholds would have decided; None where that is not known."""
    costs: CostReport | None
    """None where the pipeline file states no costs, or the weighted score was not measured."""


class LabelDelay(ReportPart):
    """Whether rows were left out whose outcome was not known when the next block began."""

    delay: str
    """How long after its event an outcome is known: the pipeline file's `outcomes.delay`."""
    left_out: dict[str, int]
    """Block of rows (`models.training.splits`) → how many of its rows were not fitted or weighed
    on."""
    too_short: list[str]
    """Blocks that were used whole, because too few rows would have been left."""

    @property
    def note(self) -> str:
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


class TrainingReport(ReportPart):
    """What `train` did and how good the result is."""

    pipeline: str
    rows: int
    positives: int
    components: dict[str, ComponentReport]
    weights: dict[str, Share]
    weights_version: int | None
    """None for weights that are fixed in the pipeline file."""
    composed: ComposedReport
    not_learned: list[str] = Field(default_factory=list)
    """Stages whose weight is an equal share: nothing was measured that it could be learned on."""
    imports: dict[str, str] = Field(default_factory=dict)
    """Component → the file it was imported from, of those that stayed because of that."""
    cutoffs: Cutoffs | None
    """None where the weighted score was not measured."""
    held_out: HeldOutReport
    label_delay: LabelDelay | None = None
    """None for rows without times of their own."""
    calls_failed: dict[str, str] = Field(default_factory=dict)
    """Component → on how many rows its calls failed, and why; they are not among `rows`."""
    seconds: float

    @property
    def notes(self) -> list[str]:
        """In lines: what stayed, what was not measured and why, whose figures are a stand-in's."""
        lines = [
            f"{name} stays as it was imported from {source}: --component {name} fits its estimator"
            for name, source in self.imports.items()
        ]
        lines += [
            f"left out, for the calls of {name} failed: {how}"
            for name, how in self.calls_failed.items()
        ]
        for name, part in self.components.items():
            if part.not_measured is not None:
                share = self.weights.get(name, 0.0)
                equal = f"; its weight {share:.3f} is an equal share, not learned"
                reason = f"{name} is not measured: {part.not_measured}"
                lines.append(reason + equal * (name in self.not_learned))
            elif part.measured == "stand-in":
                lines.append(
                    f"{name} stays as it is; its figures are of a model fitted in the same way on "
                    "fewer of the same rows"
                )
        if self.composed.not_measured is not None:
            lines.append(f"the weighted score is not measured: {self.composed.not_measured}")
        if any(part.not_measured is not None for part in self.components.values()):
            lines.append(_WAY_OUT)
        return lines


_WAY_OUT = (
    "to measure them, say which rows they have not seen: --holdout FILE, or until when they were "
    "trained (of a path: trained_until: TIME beside it; of an import: --trained-until TIME)"
)


def cutoffs(labels: Labels, scores: Floats64, weights: Floats64 | None = None) -> Cutoffs:
    """Cut-offs by the *scores* (N,) of held-out rows, *labels* (N,) of which are positive.

    Rows count by *weights* (N,), where there are any.
    """
    positives = float(np.average(labels, weights=weights))
    shares = [1 - positives, max(0.0, 1 - 2 * positives)]
    if weights is None:
        once, twice = np.quantile(scores, shares)
    else:
        once, twice = np.quantile(scores, shares, weights=weights, method="inverted_cdf")
    return Cutoffs(as_many=float(once), twice_as_many=float(twice))
