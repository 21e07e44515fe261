"""95 % intervals hold what they are about in about 95 of 100 draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from models.arrays import Bools, Floats64
from models.report.intervals import auc_of, effective_rows, mean_of, precision_interval, share_of
from models.report.selective_labels import outcome_weights

DRAWS = 400
LEAST, MOST = 0.91, 0.99
"""Of 400 draws at 95 %: 3.7 standard errors to either side."""


def coverage(truth: float, draw: Callable[[], tuple[float, float]]) -> float:
    edges = np.array([draw() for _ in range(DRAWS)])
    return float(((edges[:, 0] <= truth) & (truth <= edges[:, 1])).mean())


def test_a_share_and_a_mean_of_explored_events_are_those_of_all_events() -> None:
    """20,000 events, half of them declined and explored with 0.05; the rest tell all."""
    rng = np.random.default_rng(7)
    n = 20_000
    declined = np.arange(n) % 2 == 0
    labels = rng.random(n) < np.where(declined, 0.4, 0.02)
    costs = np.where(labels, 50.0, 1.0)

    def weights() -> Floats64:
        explored = declined & (rng.random(n) < 0.05)
        propensity = np.where(declined, np.where(explored, 0.05, 0.95), 1.0)
        return outcome_weights(explored, propensity)

    def share() -> tuple[float, float]:
        drawn = share_of(labels, weights())
        assert drawn is not None
        return drawn.low, drawn.high

    def mean() -> tuple[float, float]:
        drawn = mean_of(costs, weights())
        assert drawn is not None
        return drawn.low, drawn.high

    # What is not explored is sure here, and taken for drawn: so intervals are on the safe side.
    assert coverage(float(labels.mean()), share) >= LEAST
    assert coverage(float(costs.mean()), mean) >= LEAST
    naive = share_of(labels, np.where(declined, 0.0, 1.0))
    assert naive is not None
    assert naive.high < labels.mean(), "what is let through alone says something else"


def _drawn(rng: np.random.Generator, n: int) -> tuple[Bools, Floats64]:
    """Scores of positives are one standard deviation higher."""
    labels = rng.random(n) < 0.2
    return labels, rng.normal(labels * 1.0, 1.0)


AUC = float(norm.cdf(1 / np.sqrt(2)))
"""Of two normal distributions one standard deviation apart."""


@pytest.mark.parametrize("is_explored", [False, True])
def test_an_area_under_the_roc_curve_holds_its_truth(is_explored: bool) -> None:
    """With exploration, of what scores above 1 only a tenth is known."""
    rng = np.random.default_rng(11)

    def draw() -> tuple[float, float]:
        labels, scores = _drawn(rng, 3_000)
        weights = np.ones(len(labels))
        if is_explored:
            high = scores > 1
            weights = np.where(high, np.where(rng.random(len(high)) < 0.1, 10.0, 0.0), 1.0)
        drawn = auc_of(labels, scores, weights)
        assert drawn is not None
        return drawn.low, drawn.high

    assert LEAST <= coverage(AUC, draw) <= MOST


def test_an_area_is_that_of_scikit_learn_with_ties_and_weights() -> None:
    rng = np.random.default_rng(3)
    labels, scores = _drawn(rng, 2_000)
    scores, weights = np.round(scores, 1), rng.integers(1, 20, 2_000).astype(np.float64)
    ours = auc_of(labels, scores, weights)
    assert ours is not None
    assert ours.value == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    assert auc_of(np.ones(3, np.bool_), np.arange(3.0), np.ones(3)) is None


def test_an_average_precision_holds_its_truth() -> None:
    """That of a million rows."""
    rng = np.random.default_rng(11)
    truth = float(average_precision_score(*_drawn(rng, 1_000_000)))

    def draw() -> tuple[float, float]:
        labels, scores = _drawn(rng, 1_000)
        value = float(average_precision_score(labels, scores))
        return precision_interval(value, float(labels.sum()))

    assert LEAST <= coverage(truth, draw) <= 1


def test_nothing_is_said_of_no_rows() -> None:
    nothing = np.zeros(0)
    assert share_of(np.zeros(0, np.bool_), nothing) is None
    assert mean_of(nothing, nothing) is None
    assert effective_rows(nothing) == 0
    assert share_of(np.array([True]), np.zeros(1)) is None


def test_equal_weights_change_nothing() -> None:
    hits = np.arange(50) < 7
    one, ten = share_of(hits, np.ones(50)), share_of(hits, np.full(50, 10.0))
    assert one is not None
    assert one.value == 0.14
    assert one == pytest.approx(ten)
