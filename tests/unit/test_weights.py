"""Learned weights are a point of the simplex that no other mixture beats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import learned_weights as weights
from models.errors import LengthMismatch, WeightsNotOptimal
from models.learned_weights import MAX_GAP, learn_weights
from models.weighting import CLIP

Doubles = NDArray[np.float64]


@st.composite
def held_out(draw: st.DrawFn) -> tuple[Doubles, NDArray[np.bool_]]:
    """Signals of 1 to 6 stages, some of them sure, wrong, constant or alike, and labels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(1, 300))
    labels = rng.random(rows) < draw(st.floats(0, 1))
    columns = []
    for _ in range(draw(st.integers(1, 6))):
        sharpness = draw(st.sampled_from([0.0, 0.5, 4.0, 40.0]))
        towards = draw(st.sampled_from([-1, 1])) * (2.0 * labels - 1)
        columns.append(1 / (1 + np.exp(-sharpness * (towards + rng.normal(size=rows)))))
    if draw(st.booleans()):
        columns.append(columns[0])
    signals: Doubles = np.stack(columns, axis=1).astype(np.float64)
    return np.round(signals, draw(st.sampled_from([1, 17]))), labels


def names(signals: Doubles) -> list[str]:
    return [f"stage-{place}" for place in range(signals.shape[1])]


def log_loss(signals: Doubles, labels: NDArray[np.bool_], alpha: Doubles) -> float:
    score = np.clip(signals, CLIP, 1 - CLIP) @ alpha
    return -float(np.log(np.where(labels, score, 1 - score)).mean())


@given(held_out())
def test_weights_lie_on_the_simplex(data: tuple[Doubles, NDArray[np.bool_]]) -> None:
    signals, labels = data
    learned = learn_weights(signals, labels, names(signals))
    alpha = np.array(list(learned.values.values()))
    assert list(learned.values) == names(signals)
    assert (alpha >= 0).all()
    assert abs(alpha.sum() - 1) <= 1e-12
    assert not ((alpha > 0) & (alpha < 1e-9)).any()


@given(held_out())
def test_no_single_stage_and_no_uniform_mix_is_better(
    data: tuple[Doubles, NDArray[np.bool_]],
) -> None:
    signals, labels = data
    learned = learn_weights(signals, labels, names(signals))
    stages = signals.shape[1]
    others = [*np.eye(stages), np.full(stages, 1 / stages)]
    assert learned.loss <= min(log_loss(signals, labels, other) for other in others) + 1e-6
    assert learned.loss == pytest.approx(
        log_loss(signals, labels, np.array(list(learned.values.values()))), abs=1e-9
    )


@given(held_out(), st.integers(0, 2**32 - 1))
def test_the_gap_bounds_what_any_other_mixture_could_gain(
    data: tuple[Doubles, NDArray[np.bool_]], seed: int
) -> None:
    signals, labels = data
    learned = learn_weights(signals, labels, names(signals))
    assert 0 <= learned.gap <= MAX_GAP
    for other in np.random.default_rng(seed).dirichlet(np.full(signals.shape[1], 0.5), size=20):
        assert learned.loss - log_loss(signals, labels, other) <= learned.gap + 1e-9


@settings(max_examples=20)
@given(st.integers(1, 99))
def test_two_constant_stages_are_mixed_to_the_base_rate(positives: int) -> None:
    labels = np.arange(100) < positives
    signals = np.tile([0.0, 1.0], (100, 1))
    learned = learn_weights(signals, labels, ["never", "always"])
    assert learned.values["always"] == pytest.approx(positives / 100, abs=2 * CLIP)


def test_a_stage_that_is_always_right_gets_all_the_weight() -> None:
    labels = np.arange(50) % 5 == 0
    signals = np.stack([np.where(labels, 0.9, 0.1), np.full(50, 0.5)], axis=1)
    learned = learn_weights(signals.astype(np.float32), labels, ["right", "unsure"])
    assert learned.values == {"right": 1.0, "unsure": 0.0}


def test_one_stage_gets_weight_one() -> None:
    learned = learn_weights(np.array([[0.2], [0.9]]), np.array([True, False]), ["only"])
    assert learned.values == {"only": 1.0}


def test_rows_in_another_order_give_the_same_weights() -> None:
    rng = np.random.default_rng(3)
    signals, labels = rng.random((500, 4)), rng.random(500) < 0.3
    one = learn_weights(signals, labels, names(signals))
    other = learn_weights(signals[::-1], labels[::-1], names(signals))
    assert list(other.values.values()) == pytest.approx(list(one.values.values()), abs=1e-6)


def test_a_search_that_stops_too_early_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_MOST_STEPS", 0)
    labels = np.arange(50) % 5 == 0
    signals = np.stack([labels * 0.98 + 0.01, np.full(50, 0.5)], axis=1)
    with pytest.raises(WeightsNotOptimal, match=r"may lose up to .* log loss"):
        learn_weights(signals, labels, ["right", "unsure"])


def test_signals_that_are_not_numbers_are_an_error() -> None:
    with pytest.raises(ValueError, match="every signal must be a number"):
        learn_weights(np.array([[np.nan, 0.5]]), np.array([True]), ["broken", "unsure"])


@pytest.mark.parametrize(
    ("rows", "labels", "stages", "message"),
    [
        (3, 2, 1, "the labels must have one value for each of 3 rows, but has 2"),
        (0, 0, 1, "the labels"),
        (3, 3, 2, "the names of the stages"),
    ],
)
def test_lengths_that_do_not_fit_are_an_error(
    rows: int, labels: int, stages: int, message: str
) -> None:
    with pytest.raises(LengthMismatch, match=message):
        learn_weights(np.full((rows, 1), 0.5), np.zeros(labels, bool), ["a", "b"][:stages])
