"""Learning α of y = Σ α·y: the mixture of stages with the least log loss on held-out rows.

With m the probability that a stage gives to the label that came true (its signal, or one
minus it), the loss is -mean log Σ α·m: maximum likelihood of mixture proportions, which is
convex. Solved as in Kim, Carbonetto, Stephens & Anitescu, *A Fast Algorithm for Maximum
Likelihood Estimation of Mixture Proportions Using Sequential Quadratic Programming*,
J. Comput. Graph. Stat. 29 (2020): a Newton step under α ≥ 0, then a line search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from models.arrays import Bools, Floats64
from models.errors import LengthMismatch, WeightsNotOptimal
from models.weighting import CLIP

MAX_GAP = 1e-4
_GOOD_GAP = 1e-10
_MOST_STEPS = 200
_SMALLEST_STEP = 1e-10
_ARMIJO = 0.01
_TINY = 1e-9
_RIDGE = 1e-10


@dataclass(frozen=True, slots=True)
class LearnedWeights:
    """Weights by stage, ≥ 0, with sum 1 within 1e-12."""

    values: dict[str, float]
    loss: float
    """Mean log loss of the weighted signals, in nats."""
    gap: float
    """The Frank-Wolfe duality gap ∇f·α - min ∇f: no weights are better by more than this."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What each stage gave to the label that came true, and how much each row counts."""

    likelihood: Floats64
    """(N, S)."""
    mass: Floats64 | None
    """(N,); None for rows that all count the same."""

    def mean(self, values: Floats64) -> Floats64:
        """Of N values, or of N rows of them."""
        mean: Floats64 = np.average(values, axis=0, weights=self.mass)
        return mean


def learn_weights(
    signals: NDArray[np.floating], labels: Bools, names: Sequence[str],
    mass: Floats64 | None = None,
) -> LearnedWeights:  # fmt: skip
    """The weights of stages *names* with the least mean log loss; rows count by *mass* (N,).

    `signals` (N, S) in [0, 1] and `labels` (N,) are of rows on which no stage was fitted.
    Raises WeightsNotOptimal when the duality gap stays above 1e-4, LengthMismatch,
    and ValueError for a signal that is NaN.

    >>> signals = np.array([[0.9, 0.5], [0.1, 0.5], [0.8, 0.5]])
    >>> learn_weights(signals, np.array([True, False, True]), ["sure", "unsure"]).values
    {'sure': 1.0, 'unsure': 0.0}
    """
    rows = _Rows(_likelihood(signals, labels, names), mass)
    alpha = _without_tiny(_optimum(rows))
    gap = _gap(rows, alpha)
    if not gap <= MAX_GAP:
        raise WeightsNotOptimal(gap, MAX_GAP)
    values = dict(zip(names, alpha.tolist(), strict=True))
    return LearnedWeights(values, _loss(rows, alpha), gap)


def _likelihood(signals: NDArray[np.floating], labels: Bools, names: Sequence[str]) -> Floats64:
    """What each stage gave to the true label, (N, S).

    The stages are clipped, not their mixture: that would not be convex.
    """
    if len(labels) != len(signals) or not len(labels):
        raise LengthMismatch("the labels", len(labels), len(signals))
    if signals.shape[1] != len(names) or not names:
        raise LengthMismatch("the names of the stages", len(names), signals.shape[1])
    if not np.isfinite(signals).all():
        raise ValueError("every signal must be a number: NaN gives no label a probability")
    clipped = np.clip(signals.astype(np.float64), CLIP, 1 - CLIP)
    return np.where(labels[:, None], clipped, 1 - clipped)


def _optimum(rows: _Rows) -> Floats64:
    stages = rows.likelihood.shape[1]
    alpha: Floats64 = np.full(stages, 1 / stages)
    for _ in range(_MOST_STEPS):
        if _gap(rows, alpha) <= _GOOD_GAP:
            break
        target = _newton_target(rows, alpha)
        step = _line_search(rows, alpha, target)
        if step == 0.0:
            break
        alpha = alpha + step * (target - alpha)
        alpha /= alpha.sum()
    return alpha


def _newton_target(rows: _Rows, alpha: Floats64) -> Floats64:
    """The minimum over x ≥ 0 of the loss + Σx, expanded to second order around *alpha*.

    With Σx added to the loss, the minimum over x ≥ 0 has Σx = 1 by itself.
    """
    ratio = rows.likelihood / (rows.likelihood @ alpha)[:, None]
    if rows.mass is None:
        hessian = ratio.T @ ratio / len(ratio)
    else:
        hessian = (ratio * rows.mass[:, None]).T @ ratio / rows.mass.sum()
    hessian += _RIDGE * np.trace(hessian) * np.eye(len(alpha))
    linear = 2 * rows.mean(ratio) - 1
    lower = np.linalg.cholesky(hessian)
    target: Floats64 = nnls(lower.T, np.linalg.solve(lower, linear))[0]
    return target


def _line_search(rows: _Rows, alpha: Floats64, target: Floats64) -> float:
    """The longest of 1, ½, ¼, … that lowers loss + Σα as far as its slope promises, or 0."""
    way = target - alpha
    before = _loss(rows, alpha) + alpha.sum()
    slope = (_gradient(rows, alpha) + 1) @ way
    step = 1.0
    while step > _SMALLEST_STEP:
        there = alpha + step * way
        if there.any() and (_loss(rows, there) + there.sum() <= before + _ARMIJO * step * slope):
            return step
        step /= 2
    return 0.0


def _without_tiny(alpha: Floats64) -> Floats64:
    kept = np.where(alpha < _TINY, 0.0, alpha)
    normalised: Floats64 = kept / kept.sum()
    return normalised


def _loss(rows: _Rows, alpha: Floats64) -> float:
    return -float(rows.mean(np.log(rows.likelihood @ alpha)))


def _gradient(rows: _Rows, alpha: Floats64) -> Floats64:
    gradient: Floats64 = -rows.mean(rows.likelihood / (rows.likelihood @ alpha)[:, None])
    return gradient


def _gap(rows: _Rows, alpha: Floats64) -> float:
    gradient = _gradient(rows, alpha)
    return max(0.0, float(gradient @ alpha - gradient.min()))
