"""The sequential test: seldom wrong, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.report.sequential_test import SequentialTest

Doubles = NDArray[np.float64]
RUNS, ROWS = 400, 4000


def rare_fraud(rng: np.random.Generator, better: float) -> tuple[Doubles, Doubles]:
    """Brier losses of two models on rows of which one in a hundred is positive."""
    labels = rng.random(ROWS) < 0.01
    risk = np.clip(rng.beta(1, 50, ROWS) + labels * rng.beta(2, 2, ROWS), 0, 1)
    one, other = (np.clip(risk + rng.normal(0, 0.05, ROWS), 0, 1) for _ in range(2))
    other = np.clip(other + better * labels, 0, 1)
    return np.square(one - labels), np.square(other - labels)


@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_of_two_equal_models_it_calls_one_better_no_more_often_than_alpha(alpha: float) -> None:
    rng = np.random.default_rng(0)
    verdicts = [SequentialTest(alpha).add(*rare_fraud(rng, 0)).verdict for _ in range(RUNS)]
    # Looked at after every row: a fixed-size test at 5 % would be wrong in a third of these.
    wrong = sum(verdict != "undecided" for verdict in verdicts) / RUNS
    assert wrong <= alpha + 2 * np.sqrt(alpha / RUNS)


@pytest.mark.parametrize(("better", "verdict"), [(0.2, "better"), (-0.2, "worse")])
def test_a_model_that_is_better_or_worse_is_found_out(better: float, verdict: str) -> None:
    rng = np.random.default_rng(1)
    found = [SequentialTest().add(*rare_fraud(rng, better)).verdict for _ in range(50)]
    assert found.count(verdict) >= 45  # type: ignore[arg-type]  # a text
    assert len({*found} - {verdict, "undecided"}) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60),
       st.integers(1, 59))  # fmt: skip
def test_it_says_the_same_in_one_piece_and_in_two(
    losses: list[tuple[float, float]], cut: int
) -> None:
    rows = np.array(losses)
    whole = SequentialTest().add(rows[:, 0], rows[:, 1])
    parts = SequentialTest().add(rows[:cut, 0], rows[:cut, 1]).add(rows[cut:, 0], rows[cut:, 1])
    assert whole.rows == parts.rows == len(rows)
    assert np.isclose(whole.p_better, parts.p_better, rtol=1e-9)
    assert np.isclose(whole.p_worse, parts.p_worse, rtol=1e-9)


def test_losses_outside_0_to_1_are_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        SequentialTest().add(np.array([0.0]), np.array([1.5]))
    with pytest.raises(ValueError, match="from 0 to 1"):
        SequentialTest().add(np.array([np.nan]), np.array([0.5]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        SequentialTest(alpha=0)
