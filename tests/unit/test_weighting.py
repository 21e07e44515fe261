"""Score = Σ contribution, contribution = weight · signal, Σ weight = 1: always, to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.weighting import combine

Case = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]
unit = st.floats(0, 1, width=32)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Signals (N, S), presence (N, S) and weights (S,) that sum to 1."""
    n, stages = draw(st.integers(0, 12)), draw(st.integers(1, 6))
    cells = n * stages
    signals = draw(st.lists(unit, min_size=cells, max_size=cells))
    present = draw(st.lists(st.booleans(), min_size=cells, max_size=cells))
    if draw(st.booleans()):
        present = [True] * cells
    shares = draw(st.lists(st.floats(0, 1), min_size=stages, max_size=stages))
    if not sum(shares):
        shares[draw(st.integers(0, stages - 1))] = 1.0
    alpha = np.array(shares) / sum(shares)
    return (
        np.array(signals, np.float32).reshape(n, stages),
        np.array(present, np.bool_).reshape(n, stages),
        alpha,
    )


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@given(cases())
def test_a_score_is_exactly_the_sum_of_its_contributions_from_left_to_right(case: Case) -> None:
    made = combine(*case)
    for row, present in enumerate(case[1]):
        if present.any():
            total = 0.0
            for share in made.contributions[row].tolist():
                total += share
            assert made.scores[row] == total


@given(cases())
def test_a_contribution_is_exactly_weight_times_signal(case: Case) -> None:
    signals, present, _ = case
    made = combine(*case)
    for row, stage in np.ndindex(*present.shape):
        weight, signal = float(made.weights[row, stage]), float(signals[row, stage])
        expected = weight * signal if present[row, stage] else 0.0
        assert made.contributions[row, stage] == expected


@given(cases())
def test_weights_sum_to_1_over_the_stages_that_are_present(case: Case) -> None:
    made = combine(*case)
    for weights, present in zip(made.weights, case[1], strict=True):
        assert (weights >= 0).all()
        if present.any():
            assert abs(math.fsum(weights) - 1) <= 1e-12


@given(cases())
def test_an_absent_stage_weighs_and_adds_nothing(case: Case) -> None:
    signals, present, alpha = case
    made = combine(*case)
    assert not made.weights[~present].any()
    assert not made.contributions[~present].any()
    noise = np.where(present, signals, np.float32(np.nan))
    again = combine(noise, present, alpha)
    assert same_bits(again.scores, made.scores)
    assert same_bits(again.contributions, made.contributions)


@given(cases())
def test_a_score_is_nan_exactly_where_nothing_is_present(case: Case) -> None:
    made = combine(*case)
    np.testing.assert_array_equal(np.isnan(made.scores), ~case[1].any(axis=1))
    assert np.isfinite(made.contributions).all()
    assert np.isfinite(made.weights).all()


@given(cases())
def test_a_score_lies_between_the_signals_of_its_row(case: Case) -> None:
    signals, present, _ = case
    scores = combine(*case).scores
    for row in np.flatnonzero(present.any(axis=1)):
        there = signals[row, present[row]]
        low, high = float(there.min()), float(there.max())
        assert low - 1e-12 <= scores[row] <= high + 1e-12


@given(cases())
def test_the_weights_of_a_complete_row_are_the_given_ones_to_the_bit(case: Case) -> None:
    _, present, alpha = case
    made = combine(*case)
    for row in np.flatnonzero(present.all(axis=1)):
        assert made.weights[row].tolist() == alpha.tolist()


@given(cases())
def test_the_weights_of_the_present_keep_their_proportions(case: Case) -> None:
    _, present, alpha = case
    weights = combine(*case).weights
    for row, there in enumerate(present):
        if alpha[there].sum() > 1e-9:
            expected = np.where(there, alpha, 0) / alpha[there].sum()
            np.testing.assert_allclose(weights[row], expected, rtol=1e-9, atol=1e-12)


@given(cases(), st.data())
def test_a_rows_bits_do_not_depend_on_its_batch(case: Case, data: st.DataObject) -> None:
    signals, present, alpha = case
    whole = combine(*case)
    rows = data.draw(st.lists(st.integers(0, len(signals) - 1))) if len(signals) else []
    some = combine(signals[rows], present[rows], alpha)
    assert same_bits(some.scores, whole.scores[rows])
    assert same_bits(some.contributions, whole.contributions[rows])
    assert same_bits(some.weights, whole.weights[rows])


def test_present_stages_without_weight_weigh_the_same() -> None:
    signals = np.array([[0.5, 0.2, 0.4]], np.float32)
    made = combine(signals, np.array([[False, True, True]]), np.array([1.0, 0.0, 0.0]))
    assert made.weights.tolist() == [[0.0, 0.5, 0.5]]
    assert made.scores[0] == 0.5 * float(np.float32(0.2)) + 0.5 * float(np.float32(0.4))


def test_one_present_stage_decides_alone() -> None:
    signals = np.array([[0.25, 0.75]], np.float32)
    made = combine(signals, np.array([[False, True]]), np.array([0.9, 0.1]))
    assert made.weights.tolist() == [[0.0, 1.0]]
    assert made.scores.tolist() == [0.75]


def test_tiny_weights_are_scaled_up_like_any() -> None:
    signals = np.array([[1.0, 1.0, 0.0]], np.float32)
    alpha = np.array([1.0, 5e-324, 5e-324])
    made = combine(signals, np.array([[False, True, True]]), alpha)
    assert made.weights.tolist() == [[0.0, 0.5, 0.5]]
    assert made.scores.tolist() == [0.5]


def test_the_arguments_are_not_changed() -> None:
    signals, present, alpha = np.ones((1, 2), np.float32), np.array([[True, False]]), np.ones(2) / 2
    combine(signals, present, alpha)
    assert signals.tolist() == [[1, 1]]
    assert alpha.tolist() == [0.5, 0.5]


def test_no_rows_have_no_scores() -> None:
    made = combine(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.bool_), np.ones(2) / 2)
    assert made.scores.shape == (0,)
    assert made.weights.shape == made.contributions.shape == (0, 2)
