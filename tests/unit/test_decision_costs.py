"""Thresholds from costs are the cheapest there are, on the rows they were chosen on."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.report.decision_costs import least_cost, policy_result
from topics.pipeline.policy import DecisionCost, Policy

THREE = {
    "approve": DecisionCost(positive=120),
    "review": DecisionCost(positive=5, negative=5),
    "decline": DecisionCost(negative=30),
}


def policy(costs: dict[str, DecisionCost] | None = None) -> Policy:
    return Policy(thresholds={"review": 0.1, "decline": 0.5}, costs=costs)


def cheapest(rules: Policy, labels: np.ndarray, scores: np.ndarray) -> float:
    """The least mean cost over every pair of cuts between rows of different scores."""
    assert rules.costs is not None
    decisions = [rules.costs[name] for name in (rules.otherwise, *rules.thresholds)]
    places = sorted({0.0, 2.0, *scores.tolist()})
    found = []
    for cuts in combinations_with_replacement(places, len(decisions) - 1):
        reached = np.searchsorted(cuts, scores, "right")
        costs = [
            decisions[at].positive if label else decisions[at].negative
            for at, label in zip(reached, labels, strict=True)
        ]
        found.append(float(np.mean(costs)))
    return min(found)


costs = st.builds(DecisionCost, positive=st.integers(0, 9), negative=st.integers(0, 9))
rows = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=200)
@given(rows, costs, costs, costs)
def test_no_thresholds_cost_less(
    drawn: list[tuple[int, bool]], one: DecisionCost, two: DecisionCost, three: DecisionCost
) -> None:
    scores = np.array([score / 12 for score, _ in drawn])
    labels = np.array([label for _, label in drawn])
    rules = policy({"approve": one, "review": two, "decline": three})
    best = least_cost(rules, labels, scores)
    found = policy_result(rules, best, labels, scores)
    assert found.cost == pytest.approx(cheapest(rules, labels, scores))
    assert list(best.values()) == sorted(set(best.values()))


def test_on_calibrated_scores_thresholds_are_where_expected_costs_cross() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(400_000)
    labels = rng.random(len(scores)) < scores
    best = least_cost(policy(THREE), labels, scores)
    assert best["review"] == pytest.approx(5 / 120, abs=0.01)  # 120 p = 5
    assert best["decline"] == pytest.approx(25 / 30, abs=0.02)  # 5 = 30 (1 - p)


def test_a_decision_that_is_never_worth_its_cost_has_no_threshold() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(2000)
    dear = {**THREE, "review": DecisionCost(positive=90, negative=90)}
    best = least_cost(policy(dear), rng.random(2000) < scores, scores)
    assert list(best) == ["decline"]


def test_a_verdict_counts_rows_as_the_decision_writer_decides_them() -> None:
    scores, labels = np.array([0.0, 0.1, 0.49, 0.5, 1.0]), np.array([0, 1, 0, 0, 1], np.bool_)
    found = policy_result(policy(), policy().thresholds, labels, scores)
    counts = {name: (each.rows, each.positives) for name, each in found.decisions.items()}
    assert counts == {"approve": (1, 0), "review": (2, 1), "decline": (2, 1)}
    assert found.cost is None
    costed = policy_result(policy(THREE), policy().thresholds, labels, scores)
    assert costed.cost == pytest.approx((0 + 5 + 5 + 30 + 0) / 5)


def test_costs_name_every_decision_and_no_other() -> None:
    with pytest.raises(ValidationError, match="exactly the decisions approve, review, decline"):
        policy({"approve": DecisionCost(), "decline": DecisionCost()})
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        DecisionCost(positive=-1)
