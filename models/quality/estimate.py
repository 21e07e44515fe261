"""What figures will be before outcomes are there: confidence-based performance estimation (CBPE).

A score that is calibrated says itself with which probability it is right; so the expected number of
hits at a threshold is the sum of probabilities above it, and so on (Białek, Kuberski, Perrakis and
Bifet, Estimating Model Performance Under Covariate Shift Without Labels, arXiv:2401.08348, 2024).
Scores are made probabilities by isotonic regression on rows whose outcomes are known (Zadrozny and
Elkan, Transforming classifier scores into accurate multiclass probability estimates, KDD 2002), by
pooling adjacent violators (Ayer et al., Ann. Math. Stat. 26, 1955).

It sees that inputs have moved, not that the same inputs mean something else: where fraud has new
ways, the estimate errs, and by how much is said once the outcomes are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.arrays import Bools, Floats64
from models.quality.bootstrap import Figure, clusters_of, resampled
from models.quality.weighted_figures import Judgement
from topics.pipeline import Policy

LEAST_POSITIVES = 20
"""Rows that proved positive, and as many that did not: with fewer nothing is calibrated on them."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A score's probability: straight lines between points, level beyond them."""

    scores: Sequence[float]
    """Ascending (K)."""
    probabilities: Sequence[float]
    """Not descending (K)."""

    @classmethod
    def fitted(cls, labels: Bools, scores: Floats64, weights: Floats64) -> Self | None:
        """Of N rows whose labels are known; None where they are too few."""
        if min(labels.sum(), (~labels).sum()) < LEAST_POSITIVES:
            return None
        values, place = np.unique(scores, return_inverse=True)
        weight = np.bincount(place, weights).astype(np.float64)
        mean: Floats64 = np.bincount(place, weights * labels) / weight
        starts, levels = _pooled(mean, weight)
        stops = [*starts[1:], len(values)]
        points = [
            (float(values[at]), level)
            for start, stop, level in zip(starts, stops, levels, strict=True)
            for at in dict.fromkeys((start, stop - 1))
        ]
        return cls([at for at, _ in points], [level for _, level in points])

    def probability(self, scores: Floats64) -> Floats64:
        """Of *scores* (N,)."""
        return np.interp(scores, self.scores, self.probabilities)


def estimated_figures(
    scores: Floats64, calibration: Calibration, keys: Sequence[str], policy: Policy | None,
    rng: np.random.Generator,
) -> dict[str, Figure]:  # fmt: skip
    """What the figures of *scores* in [0, 1] (N,), at least one, are to be expected to be.

    The intervals are of what will be seen: labels are drawn by their probabilities, too.
    """
    judgement = Judgement.of(scores, policy)
    expected = calibration.probability(judgement.scores)
    clusters = clusters_of(keys)[judgement.order]

    def labelling(rng: np.random.Generator) -> Floats64:
        return (rng.random(len(expected)) < expected).astype(np.float64)

    return resampled(judgement, expected, np.ones(len(scores)), clusters, rng, labelling)


def _pooled(mean: Floats64, weight: Floats64) -> tuple[list[int], list[float]]:
    """Runs of places whose pooled means do not descend: where each begins, and its mean."""
    starts: list[int] = []
    levels: list[float] = []
    weights: list[float] = []
    for place, (level, of) in enumerate(zip(mean.tolist(), weight.tolist(), strict=True)):
        start, total = place, of
        while levels and levels[-1] >= level:
            level = (levels[-1] * weights[-1] + level * total) / (weights[-1] + total)  # noqa: PLW2901  # grows with what it pools
            start, total = starts.pop(), total + weights.pop()
            levels.pop()
        starts.append(start)
        levels.append(level)
        weights.append(total)
    return starts, levels
