"""Weighing: y = Σ α·y over the stages that are present."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Floats32, Floats64

CLIP = 1e-6
"""To learn from them, signals are held this far from 0 and 1: one sure mistake costs 13.8 nats."""


@dataclass(frozen=True, slots=True)
class WeightedScores:
    """Scores and what they are made of. Always: score = Σ contribution."""

    scores: Floats64
    """(N,); NaN for a row without any stage."""
    contributions: Floats64
    """weight · signal (N, S); 0 where absent."""
    weights: Floats64
    """α renormalised over the present stages (N, S); 0 where absent."""


def combine(signals: Floats32, present: Bools, alpha: Floats64) -> WeightedScores:
    """Weigh *signals* (N, S) in [0, 1] with *alpha* (S,), α ≥ 0, Σα = 1.

    Absent stages get weight 0 and the others' weights are scaled to sum to 1; where those
    sum to 0, the present stages weigh the same. Sums run stage by stage, so a row's bits do
    not depend on the batch around it.

    >>> both = combine(np.float32([[0.5, 1.0]]), np.array([[True, True]]), np.array([0.25, 0.75]))
    >>> both.scores.tolist()
    [0.875]
    >>> one = combine(np.float32([[0.5, 0.0]]), np.array([[True, False]]), np.array([0.25, 0.75]))
    >>> one.scores.tolist(), one.weights.tolist()
    ([0.5], [[1.0, 0.0]])
    """
    weights = np.where(present, alpha, 0.0)
    if not present.all():
        weights = _renormalised(weights, present)
    contributions = weights * np.where(present, signals, 0).astype(np.float64)
    scores = _summed(contributions)
    scores[~present.any(axis=1)] = np.nan
    return WeightedScores(scores, contributions, weights)


def _renormalised(weights: Floats64, present: Bools) -> Floats64:
    total = _summed(weights)
    nothing = total <= 0
    if nothing.any():
        weights = np.where(nothing[:, None], present.astype(np.float64), weights)
        total = _summed(weights)
    complete = present.all(axis=1) & ~nothing
    divisor = np.where(complete | (total == 0), 1.0, total)
    scaled: Floats64 = weights / divisor[:, None]
    return scaled


def _summed(values: Floats64) -> Floats64:
    total = np.zeros(len(values))
    for column in values.T:
        total += column
    return total
