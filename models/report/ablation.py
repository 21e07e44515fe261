"""What each stage adds: the score again, with weights that were learned without it.

Only its vote is left out. Components that read its output still do, so what a stage gives
to others is counted as theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats64
from models.report.quality import Labels, Quality, ReportPart, quality
from models.weighting import CLIP, combine

Signals = NDArray[np.float32]
Learn = Callable[[Signals, Sequence[str]], Mapping[str, float]]
"""Weights for the stages named, from their signals (N, S)."""


class StageLoss(ReportPart):
    """What the score loses without one stage; negative where it gains."""

    auc: float
    average_precision: float
    log_loss: float
    """How much the log loss rises, in nats."""
    log_loss_error: float
    """The standard error of that rise: a rise of less than two of them may be chance."""


def scores_of(signals: Signals, weights: Sequence[float]) -> Floats64:
    """The scores (N,) that the weighting agent gives rows with all their *signals* (N, S)."""
    present = np.ones(signals.shape, np.bool_)
    return combine(signals, present, np.asarray(weights, np.float64)).scores


def stage_losses(
    weights: Mapping[str, float], learning: Signals, judged: Signals, labels: Labels, learn: Learn,
    counts: Floats64 | None = None,
) -> dict[str, StageLoss]:  # fmt: skip
    """What the score of rows *judged* (N, S) loses without each of the stages in *weights*.

    `learn` gives the weights without it, from the rows *learning* (M, S); `labels` (N,) are
    of *judged*, and so are the *counts* (N,) that its rows count by. Nothing for a pipeline that
    weighs one stage only.
    """
    names = list(weights)
    if len(names) < 2:
        return {}
    full = scores_of(judged, list(weights.values()))
    whole = quality(labels, full, counts)
    losses = {}
    for place, name in enumerate(names):
        others = [other for other in range(len(names)) if other != place]
        less = learn(learning[:, others], [names[other] for other in others])
        scores = scores_of(judged[:, others], list(less.values()))
        losses[name] = _compared(
            whole, full, quality(labels, scores, counts), scores, labels, counts
        )
    return losses


def _compared(
    whole: Quality, full: Floats64, without: Quality, scores: Floats64, labels: Labels,
    counts: Floats64 | None,
) -> StageLoss:  # fmt: skip
    rises = _losses(scores, labels) - _losses(full, labels)
    return StageLoss(
        auc=whole.auc - without.auc,
        average_precision=whole.average_precision - without.average_precision,
        log_loss=without.log_loss - whole.log_loss,
        log_loss_error=_standard_error(rises, counts),
    )


def _standard_error(values: Floats64, counts: Floats64 | None) -> float:
    """Of the mean of *values* (N,), which count by *counts* (N,)."""
    if counts is None:
        return float(values.std() / np.sqrt(len(values)))
    away = counts * (values - np.average(values, weights=counts))
    return float(np.sqrt(np.square(away).sum()) / counts.sum())


def _losses(scores: Floats64, labels: Labels) -> Floats64:
    likelihood = np.where(labels, scores, 1 - scores)
    losses: Floats64 = -np.log(np.clip(likelihood, CLIP, 1 - CLIP))
    return losses
