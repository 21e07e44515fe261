"""Weights that learn from outcomes: the bound, the function, the order, and the state."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.arrays import Bools, Floats32, Floats64
from models.live_weights.experts import Experts
from models.live_weights.fixed_share import (
    MOST_ROW_WEIGHT,
    FixedShare,
    LabelledRows,
    LearningRate,
    regret_bound,
)
from models.live_weights.weight_bounds import bounded
from models.weighting import CLIP, combine

FREE = LearningRate(rate=1.0, share=0.02, floor=0.0, cap=1.0, period_ms=1)
TRAINED = np.array([0.6, 0.3, 0.1])


def rows_at(
    times: list[int], signals: Floats32, labels: Bools, *, used: Floats64 = TRAINED,
    present: Bools | None = None, row_weights: Floats64 | None = None, sign: int = 1,
) -> LabelledRows:  # fmt: skip
    """Rows that are decided, and known, at these times."""
    n, at = len(labels), np.array(times)
    there = np.ones(signals.shape, np.bool_) if present is None else present
    weights = np.ones(n) if row_weights is None else row_weights
    return LabelledRows(
        signals, there, np.broadcast_to(used, signals.shape), labels, weights, at, at,
        np.full(n, sign),
    )  # fmt: skip


def loss(alpha: Floats64, signals: Floats32, label: bool, present: Bools) -> float:
    """Of the score that the weighting agent gives the row, by `models.weighting` alone."""
    clipped = np.clip(signals.astype(np.float64), CLIP, 1 - CLIP)[None]
    score = float(combine(clipped, present[None], alpha).scores[0])  # type: ignore[arg-type]
    return -math.log(score if label else 1 - score)


def trial_losses(
    speed: LearningRate, signals: Floats32, labels: Bools, present: Bools
) -> tuple[float, Floats64]:
    """What the learner loses, row by row; what each expert loses of each row (T, E)."""
    learner, experts = FixedShare(TRAINED, speed), Experts.of(TRAINED)
    total, of_experts = 0.0, np.zeros((len(labels), len(experts.alpha)))
    for at, label in enumerate(labels.tolist()):
        row = slice(at, at + 1)
        alpha = learner.weights
        total += loss(alpha, signals[at], label, present[at])
        of_experts[at] = [loss(each, signals[at], label, present[at]) for each in experts.alpha]
        used = combine(signals[row], present[row], alpha).weights
        learner.observe(rows_at([at], signals[row], labels[row], used=used, present=present[row]))
        learner.close(at + 1)
    return total, of_experts


def best_sequence(losses: Floats64, switches: int) -> float:
    """The least loss of any sequence of experts with at most so many switches, (T, E)."""
    best = np.full((switches + 1, losses.shape[1]), np.inf)
    best[0] = losses[0]
    for row in losses[1:]:
        after = best + row
        for k in range(1, switches + 1):
            after[k] = np.minimum(after[k], best[k - 1].min() + row)
        best = after
    return float(best.min())


def streams(seed: int, periods: int) -> tuple[Floats32, Bools]:
    """Stage 0 is good at first, stage 1 in the end; stage 2 says nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.random(periods) < 0.3
    good = np.clip(labels + rng.normal(0, 0.3, periods), 0, 1)
    noise = rng.random((periods, 3))
    signals = noise.copy()
    signals[: periods // 2, 0] = good[: periods // 2]
    signals[periods // 2 :, 1] = good[periods // 2 :]
    return signals.astype(np.float32), labels


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("rate", "share"), [(1.0, 0.02), (0.1, 0.01)])
def test_no_sequence_with_k_switches_is_better_by_more_than_the_bound(
    seed: int, rate: float, share: float
) -> None:
    signals, labels = streams(seed, periods=200)
    speed = LearningRate(rate, share, floor=0.0, cap=1.0, period_ms=1)
    learned, of_experts = trial_losses(speed, signals, labels, np.ones(signals.shape, np.bool_))
    least = Experts.of(TRAINED).prior.min()
    for switches in range(4):
        bound = regret_bound(speed, least, len(labels), switches)
        assert learned <= best_sequence(of_experts, switches) + bound + 1e-6


def test_the_bound_is_of_the_best_of_all_not_of_all() -> None:
    """Were it far from what is lost, it would hold of a learner that learns nothing."""
    signals, labels = streams(0, periods=600)
    learned, of_experts = trial_losses(FREE, signals, labels, np.ones(signals.shape, np.bool_))
    bound = regret_bound(FREE, Experts.of(TRAINED).prior.min(), len(labels), 1)
    trained = of_experts[:, 0].sum()
    assert trained > best_sequence(of_experts, 1) + bound > learned


@pytest.mark.parametrize("rows", [4, 25])
def test_blocks_keep_the_bound_with_a_rate_of_one_through_their_rows(rows: int) -> None:
    signals, labels = streams(1, periods=1000)
    speed = LearningRate(1 / rows, share=0.02, floor=0.0, cap=1.0, period_ms=1)
    learner, experts = FixedShare(TRAINED, speed), Experts.of(TRAINED)
    present = np.ones(3, np.bool_)
    total, of_experts = 0.0, []
    for at, start in enumerate(range(0, len(labels), rows)):
        block = slice(start, start + rows)
        pairs = list(zip(signals[block], labels[block].tolist(), strict=True))
        total += sum(loss(learner.weights, row, label, present) for row, label in pairs)
        of_experts.append(
            [sum(loss(each, row, label, present) for row, label in pairs)
             for each in experts.alpha]
        )  # fmt: skip
        learner.observe(rows_at([at] * rows, signals[block], labels[block]))
        learner.close(at + 1)
    bound = regret_bound(speed, experts.prior.min(), len(of_experts), 1)
    assert total <= best_sequence(np.array(of_experts), 1) + bound + 1e-6


@given(st.integers(0, 2**32 - 1))
def test_with_missing_stages_what_is_lost_is_the_mixture_of_what_experts_would_lose(
    seed: int,
) -> None:
    """An expert that is awake as far as it has weights there: no belief is lost or made."""
    rng = np.random.default_rng(seed)
    signals = rng.random((1, 3)).astype(np.float32)
    labels, present = rng.random(1) < 0.5, rng.random((1, 3)) < 0.6
    present[0, rng.integers(3)] = True
    learner, experts = FixedShare(TRAINED, FREE), Experts.of(TRAINED)
    before = learner.belief.copy()
    mixture = before @ experts.alpha
    used = combine(signals, present, mixture).weights
    learner.observe(rows_at([0], signals, labels, used=used, present=present))
    learner.close(1)
    posterior = (learner.belief - FREE.share * experts.prior) / (1 - FREE.share)
    awake = (experts.alpha * present).sum(axis=1)
    lost = np.array([
        loss(each, signals[0], bool(labels[0]), present[0]) if part > 0 else 0.0
        for each, part in zip(experts.alpha, awake, strict=True)
    ])  # fmt: skip
    decided = loss(mixture, signals[0], bool(labels[0]), present[0])
    likelihood = awake * np.exp(-lost) + (1 - awake) * np.exp(-decided)
    assert posterior == pytest.approx(before * likelihood / np.exp(-decided), abs=1e-6)


def test_a_stage_that_nobody_hears_of_keeps_its_belief() -> None:
    learner = FixedShare(np.array([0.5, 0.5]), FREE)
    absent = np.array([[True, False]])
    signals = np.array([[0.2, 0.0]], np.float32)
    learner.observe(
        rows_at([0], signals, np.array([True]), used=np.array([1.0, 0.0]), present=absent)
    )
    learner.close(1)
    assert learner.weights == pytest.approx([0.5, 0.5])


@given(st.permutations(range(40)), st.integers(1, 7))
def test_neither_order_nor_batches_within_a_period_change_a_bit(
    order: list[int], batch: int
) -> None:
    signals, labels = streams(2, periods=40)
    speed = LearningRate(0.3, 0.02, floor=0.01, cap=0.95, period_ms=10)
    in_order, shuffled = FixedShare(TRAINED, speed), FixedShare(TRAINED, speed)
    times = np.arange(40)
    in_order.observe(rows_at(times.tolist(), signals, labels))
    for start in range(0, 40, batch):
        some = np.array(order[start : start + batch])
        shuffled.observe(rows_at(times[some].tolist(), signals[some], labels[some]))
    assert in_order.close(1000) == shuffled.close(1000) == 4
    assert in_order.weights.tobytes() == shuffled.weights.tobytes()
    assert in_order.belief.tobytes() == shuffled.belief.tobytes()


def test_an_outcome_that_is_taken_back_leaves_nothing() -> None:
    signals, labels = streams(3, periods=20)
    learner, other = FixedShare(TRAINED, FREE), FixedShare(TRAINED, FREE)
    first, rest = slice(0, 1), slice(1, 20)
    wrong = rows_at([0], signals[first], ~labels[first])
    learner.observe(wrong)
    learner.observe(rows_at([0], signals[first], ~labels[first], sign=-1))
    for each in (learner, other):
        each.observe(rows_at([0], signals[first], labels[first]))
        each.observe(rows_at([0] * 19, signals[rest], labels[rest]))
        each.close(1)
    assert learner.weights.tobytes() == other.weights.tobytes()
    assert learner.sums.rows == other.sums.rows == 20
    assert learner.sums.decided == pytest.approx(other.sums.decided)


def test_an_outcome_of_a_period_that_is_closed_counts_in_the_open_one() -> None:
    signals, labels = streams(4, periods=3)
    learner = FixedShare(TRAINED, LearningRate(1.0, 0.02, 0.0, 1.0, period_ms=10))
    learner.observe(rows_at([5], signals[:1], labels[:1]))
    assert learner.close(20) == 1
    after = learner.weights.copy()
    learner.observe(rows_at([3], signals[1:2], labels[1:2]))
    assert (learner.weights == after).all()
    assert learner.close(20) == 1
    assert (learner.weights != after).any()


def test_nothing_is_learned_before_its_period_has_ended_and_trained_weights_are_kept_to_the_bit(
) -> None:  # fmt: skip
    signals, labels = streams(5, periods=5)
    learner = FixedShare(TRAINED, LearningRate(1.0, 0.02, 0.0, 0.5, period_ms=10))
    learner.observe(rows_at([0, 1, 2, 3, 4], signals, labels))
    assert learner.close(9) == 0
    assert learner.weights.tobytes() == TRAINED.tobytes()


def test_what_was_learned_is_held_against_decisions_that_came_after() -> None:
    """A decision of before a step would not have had its weights, however late its outcome is."""
    signals, labels = streams(6, periods=200)
    learner = FixedShare(TRAINED, FREE)
    learner.observe(rows_at([0] * 200, signals, labels))
    learner.close(1)
    before = learner.sums.learned, learner.sums.trained
    assert before[0] == pytest.approx(before[1])
    learner.observe(rows_at([0], signals[:1], labels[:1]))
    assert learner.sums.learned - before[0] == pytest.approx(learner.sums.trained - before[1])
    learner.observe(rows_at([1], signals[:1], labels[:1]))
    assert learner.sums.learned - before[0] != pytest.approx(learner.sums.trained - before[1])


def test_one_outcome_counts_as_a_bounded_number() -> None:
    signals, labels = streams(7, periods=1)
    learners = [FixedShare(TRAINED, FREE) for _ in range(2)]
    for learner, weight in zip(learners, (MOST_ROW_WEIGHT, 1e9), strict=True):
        learner.observe(rows_at([0], signals, labels, row_weights=np.array([weight])))
        learner.close(1)
    assert learners[0].weights.tobytes() == learners[1].weights.tobytes()


def test_a_learner_goes_on_from_its_bytes_as_if_it_had_never_stopped() -> None:
    signals, labels = streams(8, periods=60)
    speed = LearningRate(0.3, 0.02, floor=0.01, cap=0.95, period_ms=10)
    whole, part = FixedShare(TRAINED, speed), FixedShare(TRAINED, speed)
    for at in range(60):
        for learner in (whole, part):
            learner.close(at)
            learner.observe(rows_at([at], signals[at : at + 1], labels[at : at + 1]))
        part = FixedShare.from_bytes(part.to_bytes(), speed)
    assert whole.to_bytes() == part.to_bytes()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"format":2}', FixedShare(TRAINED, FREE).to_bytes().replace(b"0.5,", b"")],
)
def test_bytes_that_are_no_state_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="no state of learned weights"):
        FixedShare.from_bytes(content, FREE)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda each: sum(each) > 0.01),
    st.floats(0, 0.5), st.floats(0.2, 1),
)  # fmt: skip
def test_weights_within_bounds_sum_to_one_and_keep_their_ratios_inside(
    values: list[float], floor: float, cap: float
) -> None:
    alpha = np.array(values) / sum(values)
    stages = len(alpha)
    within = bounded(alpha, np.ones(stages, np.bool_), floor, cap)
    low, high = min(floor, 1 / stages), max(cap, 1 / stages)
    assert within.sum() == pytest.approx(1, abs=1e-12)
    assert (within >= low - 1e-9).all()
    assert (within <= high + 1e-9).all()
    inside = (within > low + 1e-6) & (within < high - 1e-6) & (alpha > 1e-9)
    ratios = within[inside] / alpha[inside]
    assert ratios == pytest.approx(ratios.mean() if len(ratios) else 0, rel=1e-6)
