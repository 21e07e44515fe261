"""Figures of live decisions are those of scikit-learn; intervals hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from models.quality.bootstrap import LEAST_KEYS, judged_figures
from models.quality.estimate import Calibration, estimated_figures
from models.report.quality import quality
from topics.pipeline.policy import DecisionCost, Policy

POLICY = Policy(
    thresholds={"review": 0.3, "decline": 0.7},
    costs={
        "approve": DecisionCost(positive=100), "review": DecisionCost(positive=5, negative=5),
        "decline": DecisionCost(negative=30),
    },
)  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of both kinds, scores with ties and at thresholds, weights."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    labels = rng.random(n) < 0.4
    labels[:2] = True, False
    return labels, rng.integers(0, 11, n) / 10, rng.choice([1.0, 20.0, 200.0], n)


@given(rows())
@settings(max_examples=200)
def test_every_figure_is_that_of_scikit_learn_with_sample_weights(
    given_rows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    labels, scores, weights = given_rows
    keys = [str(row) for row in range(len(labels))]
    found = judged_figures(labels, scores, weights, keys, POLICY, np.random.default_rng(1))
    value = {name: figure.value for name, figure in found.items()}
    weighed = {"sample_weight": weights}
    assert value["auc"] == pytest.approx(roc_auc_score(labels, scores, **weighed))
    assert value["average_precision"] == pytest.approx(
        average_precision_score(labels, scores, **weighed)
    )
    assert value["brier"] == pytest.approx(brier_score_loss(labels, scores, **weighed))
    for name, least in POLICY.thresholds.items():
        flagged = scores >= least
        assert value[f"recall.{name}"] == pytest.approx(recall_score(labels, flagged, **weighed))
        assert (f"precision.{name}" in value) == flagged.any()
        if flagged.any():
            assert value[f"precision.{name}"] == pytest.approx(
                precision_score(labels, flagged, **weighed)
            )
    cost = np.where(
        scores >= 0.7, np.where(labels, 0, 30), np.where(scores >= 0.3, 5, np.where(labels, 100, 0))
    )
    assert value["cost"] == pytest.approx(np.average(cost, weights=weights))


def test_unweighted_they_are_the_report_of_trainings() -> None:
    rng = np.random.default_rng(0)
    scores = rng.beta(1, 20, 5000)
    labels = rng.random(5000) < scores
    found = judged_figures(labels, scores, np.ones(5000), ["k"] * 5000, None, rng)
    reached = quality(labels, scores).model_dump(exclude={"log_loss"})
    assert {name: figure.value for name, figure in found.items()} == pytest.approx(reached)


def test_what_cannot_be_said_is_not_said() -> None:
    none = np.zeros(50, np.bool_)
    found = judged_figures(
        none, np.linspace(0, 0.2, 50), np.ones(50), ["k"] * 50, POLICY, np.random.default_rng(0)
    )
    assert set(found) == {"brier", "calibration_error", "cost"}
    few = none.copy()
    few[: LEAST_KEYS - 1] = True
    keys = [str(row) for row in range(50)]
    found = judged_figures(
        few, np.linspace(0, 0.2, 50), np.ones(50), keys, None, np.random.default_rng(0)
    )
    assert all(figure.low is None for figure in found.values())


def test_intervals_hold_the_truth_about_as_often_as_they_say_also_where_keys_come_in_runs() -> None:
    """Of 100 samples, more than 85 intervals of 95 % hold what a million rows have."""
    rng = np.random.default_rng(5)

    def sample(keys: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Ten events of each key, which share whether they are fraud."""
        fraud = np.repeat(rng.random(keys) < 0.1, 10)
        scores = 1 / (1 + np.exp(-rng.normal(np.where(fraud, 1.0, -1.0), 1.0)))
        return fraud, scores, [str(key) for key in np.repeat(np.arange(keys), 10)]

    labels, scores, _ = sample(100_000)
    truth = {"auc": roc_auc_score(labels, scores), "brier": brier_score_loss(labels, scores)}
    held = dict.fromkeys(truth, 0)
    for _ in range(100):
        labels, scores, keys = sample(200)
        found = judged_figures(labels, scores, np.ones(len(labels)), keys, None, rng)
        for name, value in truth.items():
            low, high = found[name].low, found[name].high
            assert low is not None
            assert high is not None
            held[name] += low <= value <= high
    assert min(held.values()) > 85


def test_explored_declines_make_figures_those_of_all_events() -> None:
    """Of declined events one in five is let through; weighed, nothing is missing."""
    rng = np.random.default_rng(2)
    n = 60_000
    scores = rng.beta(1, 2, n)
    labels = rng.random(n) < scores
    declined = scores >= POLICY.thresholds["decline"]
    explored = rng.random(n) < 0.2
    seen = ~declined | explored
    weights = np.where(declined, 1 / 0.2, 1.0)[seen]
    keys = [str(row) for row in range(int(seen.sum()))]
    found = judged_figures(labels[seen], scores[seen], weights, keys, POLICY, rng)
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, scores), abs=0.01)
    recall = recall_score(labels, declined)
    assert found["recall.decline"].value == pytest.approx(recall, abs=0.01)
    blind = judged_figures(labels[seen], scores[seen], np.ones(int(seen.sum())), keys, POLICY, rng)
    assert abs(blind["recall.decline"].value - recall) > 0.02


def test_calibration_is_isotonic_regression_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    scores = np.round(rng.random(3000), 2)
    labels = rng.random(3000) < scores**2
    weights = rng.choice([1.0, 5.0], 3000)
    ours = Calibration.fitted(labels, scores, weights)
    assert ours is not None
    oracle = IsotonicRegression(out_of_bounds="clip").fit(scores, labels, weights)
    at = np.linspace(-0.1, 1.1, 500)
    assert ours.probability(at) == pytest.approx(oracle.predict(at))
    assert Calibration.fitted(labels[:10], scores[:10], weights[:10]) is None


def test_an_estimate_before_outcomes_is_what_they_show_while_scores_mean_the_same() -> None:
    rng = np.random.default_rng(4)

    def window(low: float) -> tuple[np.ndarray, np.ndarray]:
        """Scores that are not calibrated: the probability is their square."""
        scores = rng.beta(1 + low, 4, 20_000)
        return rng.random(20_000) < scores**2, scores

    labels, scores = window(0)
    calibration = Calibration.fitted(labels, scores, np.ones(len(labels)))
    assert calibration is not None
    labels, scores = window(1.5)  # inputs have moved
    keys = [str(row) for row in range(len(scores))]
    estimated = estimated_figures(scores, calibration, keys, POLICY, rng)
    judged = judged_figures(labels, scores, np.ones(len(scores)), keys, POLICY, rng)
    for name in ("auc", "average_precision", "precision.decline", "recall.review", "cost"):
        low, high = estimated[name].low, estimated[name].high
        assert low is not None
        assert high is not None
        margin = high - low
        assert low - margin <= judged[name].value <= high + margin, name
