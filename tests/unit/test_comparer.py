"""Champion and challenger, from what three topics say in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from agents.service.challenger_comparison import Comparer
from tests.unit.stage_batches import batch_of
from topics.pipeline.policy import Policy
from topics.records.decision import Contribution, Decision, Source
from topics.records.stage_batch import ModelRef, StageBatch

OURS, THEIRS = ModelRef("risk@1", "sha256:1", "fp32"), ModelRef("risk@2", "sha256:2", "fp32")
POLICY = Policy(otherwise="approve", thresholds={"review": 0.3, "decline": 0.6})
WEIGHT = 0.5


def comparer(max_failures: int = 100) -> Comparer:
    return Comparer("risk", "risk@1", "risk@2", POLICY, max_failures=max_failures)


def decision(offset: int, signal: float, model: ModelRef = OURS, other: float = 0.0) -> Decision:
    """A decision whose score is half the component's signal, and half another's."""
    part = Contribution(
        signal=signal, weight=WEIGHT, contribution=WEIGHT * signal, **model._asdict()
    )
    return Decision(
        event_id=f"event-{offset}", pipeline="p", decision="approve",
        score=WEIGHT * signal + WEIGHT * other, contributions={"risk": part}, degraded=False,
        missing=[], weights=1, policy="p@1", source=Source(topic="p.events", partition=0,
        offset=offset), event_time="", decided_at="", latency_ms=1,
    )  # fmt: skip


def shadow(offsets: list[int], signals: list[float], by_champion: bool = False) -> StageBatch:
    challenged = np.full(len(offsets), not by_champion)
    return replace(
        batch_of("risk", offsets), model=OURS, challenger=THEIRS, challenged=challenged,
        signal=np.array(signals, np.float32),
    )  # fmt: skip


def test_scores_under_the_other_model_are_exact_whatever_comes_first() -> None:
    for order in ("shadow", "decision", "outcome"):
        ours = comparer()
        steps: dict[str, Callable[[], None]] = {
            "shadow": partial(ours.shadowed, shadow([1], [0.75])),
            "decision": partial(ours.decided, decision(1, 0.25, other=0.25)),
            "outcome": partial(ours.outcome, "event-1", label=True),
        }
        steps.pop(order)()
        for step in steps.values():
            step()
        comparison = ours.comparison()
        assert (
            comparison.rows,
            comparison.labelled,
            comparison.positives,
            comparison.canary_rows,
        ) == (1, 1, 1, 0)
        assert comparison.quality["champion"].brier == pytest.approx((1 - 0.25) ** 2)
        assert comparison.quality["challenger"].brier == pytest.approx((1 - 0.5) ** 2)
        assert comparison.flips == {"approve → review": 1}
        assert comparison.mean_difference == pytest.approx(0.5)


def test_a_canarys_decision_is_the_challengers_and_the_shadow_topic_has_the_champions() -> None:
    ours = comparer()
    ours.shadowed(shadow([1], [0.25], by_champion=True))
    ours.decided(decision(1, 0.75, THEIRS))
    ours.outcome("event-1", label=False)
    comparison = ours.comparison()
    assert (comparison.rows, comparison.canary_rows) == (1, 1)
    assert comparison.quality["champion"].brier == pytest.approx(0.125**2)
    assert comparison.quality["challenger"].brier == pytest.approx(0.375**2)


def test_signals_are_judged_where_a_stage_has_no_weight_of_its_own() -> None:
    ours = replace(comparer(), on="signal")
    ours.shadowed(shadow([1], [0.75]))
    ours.decided(decision(1, 0.25))
    ours.outcome("event-1", label=True)
    quality = ours.comparison().quality
    assert quality["champion"].brier == pytest.approx(0.75**2)
    assert quality["challenger"].brier == pytest.approx(0.25**2)


def test_rows_of_other_models_are_left_out() -> None:
    ours = comparer()
    ours.shadowed(replace(shadow([1], [0.5]), challenger=ModelRef("risk@3", "sha256:3", "fp32")))
    ours.shadowed(batch_of("risk", [1]))
    ours.decided(decision(1, 0.5, ModelRef("risk@7", "sha256:7", "fp32")))
    ours.shadowed(shadow([2], [0.5]))
    ours.decided(decision(2, 0.5, THEIRS))  # both halves say what the challenger says
    assert ours.comparison().rows == 0


def test_a_challenger_that_fails_too_often_is_worse() -> None:
    ours = comparer(max_failures=1)
    failing = replace(shadow([1, 2], [0, 0]), present=np.zeros(2, np.bool_))
    ours.shadowed(failing)
    assert ours.comparison().failures == 0, "bad events have no output of anybody's"
    ours.decided(decision(1, 0.5))
    ours.decided(decision(2, 0.5))
    comparison = ours.comparison()
    assert (comparison.failures, comparison.verdict) == (2, "worse")
    assert "no output for 2 rows" in comparison.reason


def test_the_verdict_follows_the_outcomes_and_looking_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    looked, not_looked = comparer(), comparer()
    for offset in range(3000):
        label = bool(rng.random() < 0.2)
        good, bad = (0.9, 0.4) if label else (0.1, 0.6)
        for ours in (looked, not_looked):
            ours.shadowed(shadow([offset], [good]))
            ours.decided(decision(offset, bad, other=bad))
            ours.outcome(f"event-{offset}", label=label)
        if offset % 500 == 0:
            looked.comparison()
    one, other = looked.comparison(), not_looked.comparison()
    assert (one.verdict, one.labelled) == (other.verdict, other.labelled) == ("better", 3000)
    assert one.p_better == pytest.approx(other.p_better)
