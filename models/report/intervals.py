"""95 % intervals of figures, of rows that may count differently.

A row of weight w stands for w rows. Variances are linearised, of a ratio of sums over rows that are
drawn one by one: Σ w² (x - mean)² / (Σ w)² (Särndal, Swensson and Wretman, Model Assisted Survey
Sampling, 1992, section 5.6), so weights may go with what they weigh, as they do where only what
scores high is explored.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from models.arrays import Bools, Floats64

Z95 = 1.959964
"""Standard deviations to either side that hold 95 %."""


class Estimate(NamedTuple):
    """A figure, and between which two it is with 95 % confidence."""

    value: float
    low: float
    high: float


def effective_rows(weights: Floats64) -> float:
    """How many rows of equal weight know as much as these (N,), if weights go with nothing else.

    Kish (Survey Sampling, 1965): (Σ w)² / Σ w²; 0 for none.

    >>> effective_rows(np.array([1.0, 1.0, 1.0])), round(effective_rows(np.array([1, 1, 8.0])), 2)
    (3.0, 1.52)
    """
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def wilson(share: float, rows: float) -> tuple[float, float]:
    """The interval of a share that was seen of so many rows (J. Am. Stat. Assoc. 22, 1927).

    >>> [round(edge, 4) for edge in wilson(0.0, 10)]
    [0.0, 0.2775]
    """
    z2 = Z95**2 / rows
    middle = share + z2 / 2
    away = Z95 * sqrt(share * (1 - share) / rows + z2 / (4 * rows))
    low, high = (middle - away) / (1 + z2), (middle + away) / (1 + z2)
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # never past it by rounding


def share_of(hits: Bools, weights: Floats64) -> Estimate | None:
    """The share of rows (N,) that are *hits*, by weight; None without any.

    Wilson's interval, of as many rows as have the linearised variance (Korn and Graubard, Survey
    Methodology 24, 1998).
    """
    total = float(weights.sum())
    if not total:
        return None
    share = min(float(weights[hits].sum()) / total, 1.0)
    variance = _variance(hits.astype(np.float64), share, weights)
    rows = share * (1 - share) / variance if variance else effective_rows(weights)
    return Estimate(share, *wilson(share, rows))


def mean_of(values: Floats64, weights: Floats64) -> Estimate | None:
    """The mean of *values* (N,), by weight, with a normal interval; None without any."""
    total = float(weights.sum())
    if not total:
        return None
    mean = float((weights * values).sum()) / total
    away = Z95 * sqrt(_variance(values, mean, weights))
    return Estimate(mean, mean - away, mean + away)


def auc_of(labels: Bools, values: Floats64, weights: Floats64) -> Estimate | None:
    """The area under the ROC curve of *values* (N,) for *labels* (N,), by weight; None of one kind.

    Each positive's share of negatives below it, and each negative's of positives above it, vary the
    area: DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988), with weights.
    """
    positive, negative = weights[labels], weights[~labels]
    if not (positive.sum() and negative.sum()):
        return None
    above = _share_below(values[labels], values[~labels], negative)
    below = 1 - _share_below(values[~labels], values[labels], positive)
    area = float((positive * above).sum() / positive.sum())
    variance = _variance(above, area, positive) + _variance(below, area, negative)
    away = Z95 * sqrt(variance)
    return Estimate(area, max(0.0, area - away), min(1.0, area + away))


def _share_below(values: Floats64, others: Floats64, weights: Floats64) -> Floats64:
    """Of *others* (M,), by weight, the share that each of *values* (N,) is above; ties are half."""
    order = np.argsort(others)
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    ends = [np.searchsorted(others[order], values, side) for side in ("left", "right")]
    share: Floats64 = (sums[ends[0]] + sums[ends[1]]) / 2 / sums[-1]
    return share


def _variance(values: Floats64, mean: float, weights: Floats64) -> float:
    """That of a mean (N,), linearised."""
    return float(((weights * (values - mean)) ** 2).sum()) / float(weights.sum()) ** 2


def precision_interval(average_precision: float, positives: float) -> tuple[float, float]:
    """The interval of an average precision, of so many (effective) positives: on the logit scale.

    Boyd, Eng and Page (Area under the Precision-Recall Curve, ECML PKDD 2013), section 3.2.
    """
    if not 0 < average_precision < 1:
        return wilson(average_precision, positives)
    logit = float(np.log(average_precision / (1 - average_precision)))
    away = Z95 / sqrt(positives * average_precision * (1 - average_precision))
    low, high = (float(1 / (1 + np.exp(-(logit + sign * away)))) for sign in (-1, 1))
    return low, high
