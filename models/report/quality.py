"""How good signals and scores are, on rows that nothing was fitted on: figures and curves.

Reliability is binned at fixed edges, closer together near 0: of rare positives, most scores
are small. The intervals are Wilson's (Probable Inference, the Law of Succession, and
Statistical Inference, J. Am. Stat. Assoc. 22, 1927).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from models.quality import EDGES
from models.report.intervals import wilson as share_interval
from models.weighting import CLIP

Labels = NDArray[np.bool_]
Share = Annotated[float, Field(ge=0, le=1)]

_MOST_POINTS = 201


class ReportPart(BaseModel):
    """A part of a training's report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ranking(ReportPart):
    """How well numbers rank the positives first."""

    auc: Share
    """Area under the ROC curve; 0.5 is chance."""
    average_precision: Share
    """Area under precision against recall; the share of positives is chance."""


class Quality(Ranking):
    """How well numbers in [0, 1] rank the positives first, and serve as their probabilities."""

    log_loss: Annotated[float, Field(ge=0)]
    """In nats; of numbers held 1e-6 away from 0 and 1."""
    brier: Share
    """Mean squared difference from the label."""
    calibration_error: Share
    """Mean distance of the reliability bins from the diagonal, weighted by their rows."""


class Bin(ReportPart):
    """Rows of about the same signal: what it says, and what came true."""

    rows: int
    positives: int
    said: Share
    """Mean signal."""
    low: Share
    high: Share
    """The 95 % interval of the share of positives."""


class Curves(ReportPart):
    """What plots of one column of numbers show, thinned to at most 201 points each."""

    roc: list[tuple[Share, Share]]
    """(false positive rate, true positive rate)."""
    precision_recall: list[tuple[Share, Share]]
    """(recall, precision), by falling recall."""
    reliability: list[Bin]
    """The bins that have rows."""


def ranking(
    labels: Labels, values: NDArray[np.floating], weights: NDArray[np.float64] | None = None
) -> Ranking:
    """How well *values* (N,) rank *labels* (N,), of which there must be both; rows by *weights*."""
    auc = roc_auc_score(labels, values, sample_weight=weights)
    precision = average_precision_score(labels, values, sample_weight=weights)
    return Ranking(auc=float(auc), average_precision=float(min(precision, 1.0)))


def quality(
    labels: Labels, values: NDArray[np.floating], weights: NDArray[np.float64] | None = None
) -> Quality:
    """How good *values* (N,) in [0, 1] are for *labels* (N,), of which there must be both.

    Rows count by *weights* (N,), where there are any.
    """
    signals = values.astype(np.float64)
    clipped = np.clip(signals, CLIP, 1 - CLIP)
    return Quality(
        **ranking(labels, values, weights).model_dump(),
        log_loss=float(log_loss(labels, clipped, sample_weight=weights)),
        brier=float(brier_score_loss(labels, signals, sample_weight=weights)),
        calibration_error=_calibration_error(labels, signals, weights),
    )


def _calibration_error(
    labels: Labels, signals: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> float:
    if weights is None:
        away = [
            abs(bin_.positives / bin_.rows - bin_.said) * bin_.rows
            for bin_ in reliability(labels, signals)
        ]
        return sum(away) / len(signals)
    place = np.clip(np.searchsorted(EDGES, signals, "right") - 1, 0, len(EDGES) - 2)
    gaps = np.bincount(place, weights * (labels - signals), len(EDGES) - 1)
    return float(np.abs(gaps).sum() / weights.sum())


def curves(
    labels: Labels, values: NDArray[np.floating], weights: NDArray[np.float64] | None = None
) -> Curves:
    """The curves of *values* (N,) in [0, 1] for *labels* (N,), of which there must be both.

    Rows count by *weights* (N,), where there are any; the bins of reliability count rows.
    """
    false_rate, true_rate, _ = roc_curve(labels, values, sample_weight=weights)
    precision, recall, _ = precision_recall_curve(labels, values, sample_weight=weights)
    return Curves(
        roc=_thinned(false_rate, true_rate, along=true_rate + false_rate),
        precision_recall=_thinned(recall, precision, along=-recall),
        reliability=reliability(labels, values),
    )


def reliability(labels: Labels, values: NDArray[np.floating]) -> list[Bin]:
    """What came true of *values* (N,), by bins at EDGES.

    >>> bins = reliability(np.array([False, True]), np.array([0.52, 0.58]))
    >>> [(bin.rows, bin.positives, round(bin.said, 2)) for bin in bins]
    [(2, 1, 0.55)]
    """
    place = np.clip(np.searchsorted(EDGES, values, "right") - 1, 0, len(EDGES) - 2)
    bins = []
    for at in np.unique(place).tolist():
        inside = place == at
        rows, positives = int(inside.sum()), int(labels[inside].sum())
        low, high = wilson(positives, rows)
        mean = float(values[inside].mean(dtype=np.float64))
        bins.append(Bin(rows=rows, positives=positives, said=min(mean, 1.0), low=low, high=high))
    return bins


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share, of which *hits* of *rows* were seen.

    >>> [round(edge, 4) for edge in wilson(0, 10)]
    [0.0, 0.2775]
    """
    return share_interval(hits / rows, rows)


def _thinned(
    x: NDArray[np.floating], y: NDArray[np.floating], along: NDArray[np.floating]
) -> list[tuple[float, float]]:
    """Points of a curve at about even steps of *along*, which ascends; both ends among them."""
    wanted = np.linspace(along[0], along[-1], _MOST_POINTS)
    places: Sequence[int] = np.unique(
        np.clip(np.searchsorted(along, wanted), 0, len(along) - 1)
    ).tolist()
    return [(float(x[at]), float(y[at])) for at in places]
