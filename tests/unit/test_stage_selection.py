"""Stages are weighed by more than one row, and no mixture is weighed that is worse than a stage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.learned_weights import learn_weights
from models.training.stage_selection import FEWEST, select_weights

Doubles = NDArray[np.float64]


def rare(rows: int, positives: int, seed: int = 0) -> tuple[NDArray[np.bool_], Doubles]:
    """Labels (N,), and what two good, different stages make of them (N, 2)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(rows, np.bool_)
    labels[rng.choice(rows, positives, replace=False)] = True
    base = np.log(positives / (rows - positives))
    logits = base + np.where(labels, 6.0, 0.0)[:, None] + rng.normal(0, 2.0, (rows, 2))
    return labels, 1 / (1 + np.exp(-logits))


def test_a_weight_that_one_positive_could_have_made_is_none() -> None:
    labels, good = rare(6000, 60)
    rng = np.random.default_rng(1)
    novelty = np.clip(rng.normal(0.1, 0.2, 6000), 0, 1)
    novelty[np.flatnonzero(labels)[:1]] = 1.0  # the one fraud that only it has seen
    good[np.flatnonzero(labels)[:1]] = 1e-6
    signals, names = np.column_stack([novelty, good]), ["novelty", "a", "b"]
    assert 0 < learn_weights(signals, labels, names).values["novelty"] < 1 / 60
    values = select_weights(signals, labels, names).values
    assert values["novelty"] == 0
    assert values["a"] > 0.1
    assert values["b"] > 0.1


def test_two_stages_that_are_good_at_different_rows_are_both_weighed() -> None:
    labels, signals = rare(6000, 60)
    names = ["a", "b"]
    assert select_weights(signals, labels, names) == learn_weights(signals, labels, names)


def test_where_the_mixture_is_not_better_elsewhere_the_best_stage_decides_alone() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(2000)
    labels = rng.random(2000) < truth  # the first stage is exactly right; the others are not
    others = np.clip(truth[:, None] + rng.normal(0, 0.3, (2000, 2)), 0, 1)
    signals = np.column_stack([truth, others])
    selected = select_weights(signals, labels, ["true", "b", "c"])
    assert selected.values == {"true": 1.0, "b": 0.0, "c": 0.0}
    alone = learn_weights(signals[:, :1], labels, ["true"])
    assert selected.loss == alone.loss


def test_of_too_few_positives_weights_are_as_they_were_learned() -> None:
    labels, signals = rare(400, FEWEST - 1)
    signals = np.column_stack([signals, np.full(400, 0.5)])
    names = ["a", "b", "half"]
    assert select_weights(signals, labels, names) == learn_weights(signals, labels, names)


def test_rows_count_by_their_mass() -> None:
    labels, signals = rare(600, 60)
    twice = np.repeat(np.arange(600), np.where(labels, 1, 3))
    mass = np.where(labels, 1.0, 3.0)
    by_mass = select_weights(signals, labels, ["a", "b"], mass).values
    by_rows = select_weights(signals[twice], labels[twice], ["a", "b"]).values
    assert by_mass["a"] == pytest.approx(by_rows["a"], abs=1e-6)


def test_one_stage_has_all_the_weight() -> None:
    labels, signals = rare(400, 40)
    assert select_weights(signals[:, :1], labels, ["only"]).values == {"only": 1.0}


@pytest.mark.parametrize("constant", [0.0, 0.5, 1.0])
def test_stages_that_all_say_the_same_of_every_row_are_weighed_all_the_same(
    constant: float,
) -> None:
    labels, _ = rare(400, 40)
    values = select_weights(np.full((400, 3), constant), labels, ["a", "b", "c"]).values
    assert sum(values.values()) == pytest.approx(1)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(20, 200))
def test_weights_stay_on_the_simplex(seed: int, stages: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < rng.uniform(0.05, 0.95)
    signals = rng.random((rows, stages)) ** rng.uniform(0.2, 5, stages)
    values = select_weights(signals, labels, [str(at) for at in range(stages)]).values
    assert min(values.values()) >= 0
    assert abs(sum(values.values()) - 1) < 1e-9
