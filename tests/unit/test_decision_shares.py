"""Thresholds that move with the weights: no decision becomes more or less frequent by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.live_weights import ScoreWindow, decision_shares, guarded_thresholds
from models.weighting import combine

THRESHOLDS = np.array([0.1, 0.5])


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.5), st.floats(0.2, 5))
def test_shares_stay_within_the_band_whatever_other_weights_make_of_the_scores(
    seed: int, band: float, power: float
) -> None:
    rng = np.random.default_rng(seed)
    before = np.sort(rng.beta(0.5, 2, 4000))
    shares = decision_shares(before, THRESHOLDS)
    after = np.sort(before**power)
    move = guarded_thresholds(shares, after, THRESHOLDS, band)
    counted = np.histogram(after, [-1, *move.thresholds, 2])[0] / len(after)
    assert (np.abs(counted - shares) <= band * shares + 1 / len(after)).all()
    assert (np.diff(move.thresholds) > 0).all()
    assert move.shares == pytest.approx(counted)


def test_within_the_band_thresholds_stay_to_the_bit() -> None:
    scores = np.sort(np.random.default_rng(0).random(5000))
    shares = decision_shares(scores, THRESHOLDS)
    move = guarded_thresholds(shares, scores * 1.01, THRESHOLDS, 0.2)
    assert not move.moved
    assert move.thresholds is THRESHOLDS


def test_without_rows_nothing_is_known_and_thresholds_stay() -> None:
    assert not guarded_thresholds(np.ones(3) / 3, np.zeros(0), THRESHOLDS, 0.2).moved


def test_a_decision_that_was_never_made_does_not_begin_to_be() -> None:
    shares = np.array([0.9, 0.1, 0.0])
    after = np.linspace(0, 0.9, 1000)
    move = guarded_thresholds(shares, after, THRESHOLDS, 0.2)
    assert move.shares == pytest.approx(shares, abs=0.002)
    assert move.thresholds[1] > after[-1]


def test_many_rows_of_one_score_are_decided_alike() -> None:
    shares, after = np.array([0.7, 0.2, 0.1]), np.full(1000, 0.3)
    move = guarded_thresholds(shares, after, THRESHOLDS, 0.2)
    assert sorted(move.shares.tolist()) == [0, 0, 1]
    assert (np.diff(move.thresholds) > 0).all()
    assert (move.thresholds <= 1).all()


def test_the_window_holds_the_newest_rows_and_scores_them_as_the_weighting_agent_does() -> None:
    rng = np.random.default_rng(1)
    signals = rng.random((250, 2)).astype(np.float32)
    present = rng.random((250, 2)) < 0.8
    window, alpha = ScoreWindow(100, 2), np.array([0.7, 0.3])
    for start in range(0, 250, 30):
        window.add(signals[start : start + 30], present[start : start + 30])
    expected = combine(signals[-100:], present[-100:], alpha).scores
    assert window.rows == 100
    assert window.scores(alpha).tolist() == sorted(expected[~np.isnan(expected)].tolist())
