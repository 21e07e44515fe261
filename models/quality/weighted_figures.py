"""Figures of N rows, each of which counts by a weight, and whose label may be a probability.

A row's weight is the inverse of the probability with which its kind was let through (Horvitz and
Thompson, A Generalization of Sampling Without Replacement from a Finite Universe, J. Am. Stat.
Assoc. 47, 1952): a declined event that was explored stands for all that were not. Figures are
ratios, so the weights need not sum to the number of events (Hájek's form). With labels of 0 and 1
they are those of scikit-learn with `sample_weight`; with probabilities, what is to be expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.arrays import Floats64, Ints
from topics.pipeline import DecisionCost, Policy

EDGES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the bins of reliability; a bin holds its lower edge, the last one 1 too."""

HIGHER_IS_BETTER = ("auc", "average_precision", "precision", "recall")
"""What figures begin with of which more is better; of all others less is."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What N scores are judged by, whatever their labels turn out to be."""

    scores: Floats64
    """In [0, 1] (N,), descending."""
    order: Ints
    """Places of the rows in the order that they were given in (N,)."""
    ends: Ints
    """The last row of each distinct score."""
    bins: Ints
    """Which bin of EDGES each is in (N,)."""
    cuts: Mapping[str, int]
    """Decision → how many rows reach its threshold."""
    costs: tuple[Floats64, Floats64] | None
    """What each row's decision costs if it proves positive, and if not (N,) each."""

    @classmethod
    def of(cls, scores: Floats64, policy: Policy | None) -> Self:
        """The judgement of *scores* (N,); without a *policy*, without thresholds and costs."""
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        bins = np.clip(np.searchsorted(EDGES, ranked, "right") - 1, 0, len(EDGES) - 2)
        thresholds = {} if policy is None else policy.thresholds
        cuts = {
            name: int(np.searchsorted(-ranked, -least, "right"))
            for name, least in thresholds.items()
        }
        costs = None
        if policy is not None and policy.costs is not None:
            names = [policy.otherwise, *policy.thresholds]
            reached = np.searchsorted(list(policy.thresholds.values()), ranked, "right")
            costs = _costs([policy.costs[name] for name in names], reached)
        return cls(ranked, order, ends, bins, cuts, costs)

    def figures(self, labels: Floats64, weights: Floats64) -> dict[str, float]:
        """Figure → its value, by *labels* in [0, 1] (N,) and *weights* (N,) in `order`.

        What cannot be said is left out: a ranking without both labels, a precision without rows.
        """
        positive, negative = weights * labels, weights * (1 - labels)
        true, false = positive.cumsum(), negative.cumsum()
        total = float(weights.sum())
        if total <= 0:
            return {}
        figures = self._ranking(true, false)
        for name, cut in self.cuts.items():
            found = float(true[cut - 1]) if cut else 0.0
            flagged = found + (float(false[cut - 1]) if cut else 0.0)
            if flagged > 0:
                figures[f"precision.{name}"] = found / flagged
            if true[-1] > 0:
                figures[f"recall.{name}"] = found / float(true[-1])
        away = positive * (1 - self.scores) ** 2 + negative * self.scores**2
        figures["brier"] = float(away.sum()) / total
        figures["calibration_error"] = self._calibration_error(positive, weights) / total
        if self.costs is not None:
            of_positive, of_negative = self.costs
            figures["cost"] = float((positive * of_positive + negative * of_negative).sum()) / total
        return figures

    def _ranking(self, true: Floats64, false: Floats64) -> dict[str, float]:
        if true[-1] <= 0 or false[-1] <= 0:
            return {}
        hits, misses = true[self.ends], false[self.ends]
        recall = np.append(0.0, hits / hits[-1])
        fallout = np.append(0.0, misses / misses[-1])
        flagged = hits + misses
        precision = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
        return {
            "auc": float((np.diff(fallout) * (recall[1:] + recall[:-1]) / 2).sum()),
            "average_precision": float((np.diff(recall) * precision).sum()),
        }

    def _calibration_error(self, positive: Floats64, weights: Floats64) -> float:
        """Distance of the reliability bins from the diagonal, each times its weight."""
        came = np.bincount(self.bins, positive, len(EDGES) - 1)
        said = np.bincount(self.bins, weights * self.scores, len(EDGES) - 1)
        return float(np.abs(came - said).sum())


def _costs(costs: list[DecisionCost], reached: Ints) -> tuple[Floats64, Floats64]:
    positive = np.array([cost.positive for cost in costs])
    negative = np.array([cost.negative for cost in costs])
    return positive[reached], negative[reached]
