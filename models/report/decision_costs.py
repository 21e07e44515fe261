"""Thresholds from stated costs: those under which held-out rows would have cost the least.

The least cost over all thresholds is found exactly, by dynamic programming over the rows in
order of score: what the rows so far cost at least when none of them is beyond decision j.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from models.arrays import Floats64, Ints
from models.report.quality import Labels, ReportPart, Share
from topics.pipeline import DecisionCost, Policy

_DIGITS = 4


class DecisionCount(ReportPart):
    """Rows that one decision is taken on."""

    rows: int
    positives: int


class PolicyResult(ReportPart):
    """What thresholds would have done to some held-out rows."""

    thresholds: dict[str, Share]
    """Those of the decisions that are taken at all, ascending."""
    decisions: dict[str, DecisionCount]
    """By decision, from the lowest scores to the highest."""
    cost: float | None
    """Mean cost of a row; None where the pipeline file states no costs."""


class CostReport(ReportPart):
    """The thresholds that costs ask for, against those of the pipeline file."""

    chosen_on: Annotated[int, Field(ge=1)]
    """Held-out rows at which the best thresholds cost the least; both are tried on later ones."""
    stated: PolicyResult
    """The pipeline file's thresholds."""
    best: PolicyResult
    never_worth_it: list[str]
    """Decisions that the least cost does without."""


def policy_result(
    policy: Policy, thresholds: Mapping[str, float], labels: Labels, scores: Floats64,
    weights: Floats64 | None = None,
) -> PolicyResult:  # fmt: skip
    """What *thresholds*, by decision and ascending, do to rows of *scores* (N,).

    The cost counts rows by *weights* (N,), where there are any; decisions are counted in rows.
    """
    names = [policy.otherwise, *thresholds]
    reached = np.searchsorted(list(thresholds.values()), scores, "right")
    counts = {}
    for place, name in enumerate(names):
        taken = labels[reached == place]
        counts[name] = DecisionCount(rows=len(taken), positives=int(taken.sum()))
    cost = _mean_cost(policy, counts)
    if policy.costs is not None and weights is not None:
        of_positive = np.array([policy.costs[name].positive for name in names])[reached]
        of_negative = np.array([policy.costs[name].negative for name in names])[reached]
        cost = float(np.average(np.where(labels, of_positive, of_negative), weights=weights))
    return PolicyResult(thresholds=dict(thresholds), decisions=counts, cost=cost)


def least_cost(
    policy: Policy, labels: Labels, scores: Floats64, weights: Floats64 | None = None
) -> dict[str, float]:
    """The thresholds, by decision and ascending, at which these rows cost the least.

    Rows count by *weights* (N,), where there are any.

    A decision that is not worth its cost on any row is left out. Each threshold lies midway
    between two scores, rounded to 4 digits where that changes nothing.
    """
    costs = policy.costs
    if costs is None:
        raise ValueError("the policy states no costs")
    order = np.argsort(scores, kind="stable")
    ascending, truth = scores[order], labels[order]
    names = [policy.otherwise, *policy.thresholds]
    counts = np.ones(len(scores)) if weights is None else weights[order]
    cuts = _cuts([costs[name] for name in names], truth, ascending, counts)
    edges = [0, *cuts, len(scores)]
    used = [
        (name, cut) for name, cut, end in zip(names[1:], cuts, edges[2:], strict=True) if cut < end
    ]
    return {name: _between(ascending, cut) for name, cut in used}


def _cuts(
    costs: Sequence[DecisionCost], truth: Labels, ascending: Floats64, counts: Floats64
) -> list[int]:
    """The row from which on each decision but the first is taken; only where the score rises."""
    apart = np.concatenate([[True], ascending[1:] > ascending[:-1], [True]])
    so_far = [
        np.concatenate([[0.0], (counts * np.where(truth, cost.positive, cost.negative)).cumsum()])
        for cost in costs
    ]
    best, chosen = so_far[0], []
    for total in so_far[1:]:
        # best[i]: of rows 0…i-1, without this decision, which may begin wherever scores rise.
        start = np.where(apart, best - total, np.inf)
        lowest = np.minimum.accumulate(start)
        at = _places_of_minimum(start, lowest)
        chosen.append(at)
        best = total + lowest
    cuts, end = [], len(truth)
    for at in reversed(chosen):
        end = int(at[end])
        cuts.append(end)
    return cuts[::-1]


def _places_of_minimum(values: Floats64, lowest: Floats64) -> Ints:
    """The last place so far at which *values* reached *lowest*: the rarest intervention."""
    places = np.where(values == lowest, np.arange(len(values)), 0)
    return np.maximum.accumulate(places)


def _between(ascending: Floats64, cut: int) -> float:
    """A threshold that rows from *cut* on reach, and those before do not."""
    high = float(ascending[cut])
    low = float(ascending[cut - 1]) if cut else 0.0
    middle = (low + high) / 2
    rounded = round(middle, _DIGITS)
    if low < rounded <= high:
        return rounded
    return middle if low < middle else high


def _mean_cost(policy: Policy, decisions: Mapping[str, DecisionCount]) -> float | None:
    if policy.costs is None:
        return None
    total = sum(
        policy.costs[name].positive * count.positives
        + policy.costs[name].negative * (count.rows - count.positives)
        for name, count in decisions.items()
    )
    return total / max(sum(count.rows for count in decisions.values()), 1)
