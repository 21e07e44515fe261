"""A history answers like a plain list of each key's entries, to the bit, however rows are cut."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.features.history import Aggregate, WrongEntries
from tests.unit.plain_history import (
    OVER_VALUES,
    WIDTH,
    Bounds,
    Plain,
    Rows,
    clipped,
    fed,
    many,
    observed,
)

numbers = st.sampled_from([math.nan, 0.0, -0.0, 1.0, 0.1, 0.2, -2.5, 1e16, 3.0])
bounds = st.builds(
    Bounds, st.integers(1, 30), st.sampled_from([0, 2, 5, 40]), st.sampled_from([1, 2, 3, 5, 100])
)
windows = st.tuples(st.integers(1, 12), st.sampled_from([0, 0, 1, 7]))
cuts = st.lists(st.integers(0, 60), max_size=8)
quick = settings(max_examples=50)
"""A stream has many rows, and each of them many answers: a few streams find what is wrong."""


@st.composite
def streams(draw: st.DrawFn) -> Rows:
    """Up to 60 rows of three keys, mostly in order, with many ties."""
    n = draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    drift, spread = draw(st.sampled_from([(0.0, 8), (0.5, 1), (0.5, 6), (2.0, 3)]))
    times = (np.arange(n) * drift).astype(np.int64) - 20 + rng.integers(0, spread, n)
    orders = np.arange(n) if draw(st.booleans()) else rng.permutation(n)
    palette = np.array(draw(st.lists(numbers, min_size=1, max_size=4)))
    keys = [draw(st.sampled_from(["", "é\ud800", "a"])) for _ in range(n)]
    return Rows(keys, times, orders, rng.choice(palette, (n, WIDTH)))


@st.composite
def questions(draw: st.DrawFn) -> list[Aggregate]:
    """Every aggregate over one or two windows."""
    return [
        aggregate
        for window_ms, delay_ms in draw(st.lists(windows, min_size=1, max_size=2))
        for aggregate in (
            Aggregate("count", None, window_ms, delay_ms),
            Aggregate("since_last", None, window_ms, delay_ms),
            *(Aggregate(apply, column, window_ms, delay_ms)
              for apply in OVER_VALUES for column in range(WIDTH)),
        )
    ]  # fmt: skip


@quick
@given(streams(), bounds, questions(), cuts)
def test_observe_answers_like_a_plain_list_of_entries(
    rows: Rows, limits: Bounds, asked: list[Aggregate], at: list[int]
) -> None:
    history = limits.history()
    plain = Plain(limits.keep_ms, limits.lateness_ms, limits.max_entries)
    answers = [observed(history, part, asked) for part in clipped(rows, at)]
    entries = zip(rows.times.tolist(), rows.orders.tolist(), rows.values.tolist(), strict=True)
    expected = []
    for key, (time, order, values) in zip(rows.keys, entries, strict=True):
        plain.add(key, (time, order, tuple(values)))
        expected.append([plain.answer(key, time, order, each) for each in asked])
    assert np.concatenate(answers).tobytes() == np.array(expected, np.float64).tobytes()
    assert (history.late, history.too_late) == (plain.late, plain.too_late)
    assert history.truncated == plain.truncated
    assert history.keys == len(plain.entries)


@quick
@given(streams(), bounds, questions(), cuts, st.lists(st.integers(-30, 120), max_size=8))
def test_look_up_answers_like_a_plain_list_of_entries(
    rows: Rows, limits: Bounds, asked: list[Aggregate], at: list[int], times: list[int]
) -> None:
    history = limits.history()
    plain = Plain(limits.keep_ms, limits.lateness_ms, limits.max_entries)
    for part in clipped(rows, at):
        fed(history, part)
    for row in range(len(rows)):
        values = tuple(rows.values[row].tolist())
        plain.add(rows.keys[row], (int(rows.times[row]), int(rows.orders[row]), values))
    keys = ["a", "nobody", ""] * len(times)
    moments = np.repeat(np.array(times, np.int64), 3)
    answers = history.look_up(keys, moments, asked)
    assert answers.tolist() == [
        [plain.answer(key, time, math.inf, each) for each in asked]
        for key, time in zip(keys, moments.tolist(), strict=True)
    ]
    assert history.keys == len(plain.entries)


@quick
@given(streams(), bounds, questions(), cuts, cuts)
def test_batches_change_no_bit(
    rows: Rows, limits: Bounds, asked: list[Aggregate], some: list[int], others: list[int]
) -> None:
    one, other = limits.history(), limits.history()
    first = np.concatenate([observed(one, part, asked) for part in clipped(rows, some)])
    second = np.concatenate([observed(other, part, asked) for part in clipped(rows, others)])
    assert first.tobytes() == second.tobytes()
    assert list(one.chunks(2000)) == list(other.chunks(2000))


@quick
@given(streams(), st.randoms(use_true_random=False), cuts)
def test_entries_in_another_order_leave_the_same_state(
    rows: Rows, order: random.Random, at: list[int]
) -> None:
    limits = Bounds(keep_ms=30, lateness_ms=1000, max_entries=100)
    one, other = fed(limits.history(), rows), limits.history()
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    for part in clipped(rows.taken(shuffled), at):
        fed(other, part)
    assert list(one.chunks(500)) == list(other.chunks(500))


@quick
@given(streams(), bounds, questions(), st.integers(0, 60), st.integers(257, 3000))
def test_a_snapshot_in_the_middle_changes_nothing(
    rows: Rows, limits: Bounds, asked: list[Aggregate], at: int, max_bytes: int
) -> None:
    at = min(at, len(rows))
    went_on, restored = fed(limits.history(), rows[:at]), limits.history()
    for chunk in went_on.chunks(max_bytes):
        restored.restore(chunk)
    assert list(restored.chunks(max_bytes)) == list(went_on.chunks(max_bytes))
    expected = observed(went_on, rows[at:], asked)
    assert observed(restored, rows[at:], asked).tobytes() == expected.tobytes()
    assert list(restored.chunks(max_bytes)) == list(went_on.chunks(max_bytes))


@quick
@given(streams(), bounds, questions(), st.integers(0, 60))
def test_evicting_what_no_window_reaches_changes_no_answer(
    rows: Rows, limits: Bounds, asked: list[Aggregate], at: int
) -> None:
    at = min(at, len(rows))
    longest = max(each.window_ms + each.delay_ms for each in asked)
    before = int(rows.times[at:].min(initial=1000)) - longest
    whole, evicted = (fed(limits.history(), rows[:at]) for _ in range(2))
    evicted.evict(before)
    expected = observed(whole, rows[at:], asked)
    assert observed(evicted, rows[at:], asked).tobytes() == expected.tobytes()


def test_more_entries_than_one_pass_handles_give_the_same_bits() -> None:
    rows = many(300_000, 1_000)
    limits = Bounds(keep_ms=30_000, lateness_ms=0, max_entries=10_000)
    asked = [Aggregate("sum", 1, 30_000), Aggregate("std", 0, 20_000, 5_000)]
    one, other = limits.history(), limits.history()
    halves = clipped(rows, [150_000])
    fed(one, halves[0])
    for part in clipped(halves[0], list(range(0, 150_000, 20_000))):
        fed(other, part)
    some = halves[1][:3_000]
    assert (
        observed(one, some, asked).tobytes()
        == np.concatenate(
            [observed(other, part, asked) for part in clipped(some, [7, 1_000])]
        ).tobytes()
    )


def test_evicting_gives_memory_back_and_forgets_keys() -> None:
    history = fed(Bounds(10**6, 0, 10_000).history(), many(50_000, 20_000))
    before = history.nbytes
    history.evict(39_000)
    assert 0 < history.keys < 5_000
    assert history.nbytes < before / 5
    history.evict(40_000)
    assert (history.keys, history.entries) == (0, 0)
    assert list(history.chunks(10_000)) == []


def test_memory_does_not_grow_when_windows_slide() -> None:
    history = Bounds(keep_ms=50, lateness_ms=0, max_entries=10_000).history()
    sizes = []
    for start in range(0, 20_000, 500):
        at = np.arange(start, start + 500)
        history.add(["a", "b"] * 250, at, at, np.zeros((500, WIDTH)))
        sizes.append(history.nbytes)
    assert max(sizes[5:]) <= 2 * sizes[4]
    assert history.entries < 2_000


def test_pieces_of_a_snapshot_have_at_most_the_size_asked_for_or_one_key() -> None:
    rows = many(2_000, 300)
    history = fed(Bounds(10**6, 0, 10_000).history(), rows)
    chunks = list(history.chunks(1_000))
    assert max(map(len, chunks)) <= 1_000
    assert len(list(history.chunks(1))) == history.keys
    assert len(list(history.chunks(10**6))) == 1


@pytest.mark.parametrize(
    ("times", "values", "reason"),
    [
        ([1], [[0.0, 0.0]], "shapes"),
        ([1, 2], [[0.0], [0.0]], "shapes"),
        ([1, 2**61], [[0.0, 0.0], [0.0, 0.0]], "times must be within"),
        ([1, 2], [[0.0, 0.0], [0.0, np.inf]], "values must be finite"),
    ],
)
def test_wrong_entries_are_refused_and_change_nothing(
    times: list[int], values: list[list[float]], reason: str
) -> None:
    history = Bounds(10, 0, 10).history()
    with pytest.raises(WrongEntries, match=reason):
        history.add(["a", "b"], np.array(times), np.arange(2), np.array(values))
    assert (history.keys, history.entries) == (0, 0)


def test_no_rows_and_no_questions_are_fine() -> None:
    history = Bounds(10, 0, 10).history()
    none = Rows([], np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, WIDTH)))
    assert observed(history, none, [Aggregate("sum", 0, 5)]).shape == (0, 1)
    assert history.look_up([], none.times, []).shape == (0, 0)
    assert history.look_up(["a"], np.array([5]), []).shape == (1, 0)
    history.evict(0)
    assert list(history.chunks(1000)) == []


@quick
@given(streams(), questions(), st.integers(0, 59), st.booleans())
def test_a_glimpse_is_what_the_row_would_have_seen_in_its_turn_and_changes_nothing(
    rows: Rows, asked: list[Aggregate], place: int, taken_in: bool
) -> None:
    if not len(rows):
        return
    turn = np.lexsort((rows.orders, rows.times)).tolist()
    place %= len(turn)
    row = rows.taken([turn[place]])
    forever = Bounds(keep_ms=10_000, lateness_ms=10_000, max_entries=10_000)
    history = fed(
        forever.history(), rows if taken_in else rows.taken(sorted({*turn} - {turn[place]}))
    )
    before = list(history.chunks(1_000_000)), history.late
    seen = history.glimpse(row.keys[0], int(row.times[0]), int(row.orders[0]), row.values[0], asked)
    wanted = observed(fed(forever.history(), rows.taken(turn[:place])), row, asked)
    assert seen.tobytes() == wanted.tobytes()
    assert (list(history.chunks(1_000_000)), history.late) == before


@quick
@given(streams(), questions())
def test_many_glimpses_at_once_are_those_of_one_row_after_the_other(
    rows: Rows, asked: list[Aggregate]
) -> None:
    history = fed(Bounds(keep_ms=10_000, lateness_ms=10_000, max_entries=10_000).history(), rows)
    seen = history.glimpses(rows.keys, rows.times, rows.orders, rows.values, asked)
    for row in range(len(rows)):
        alone = history.glimpse(
            rows.keys[row], int(rows.times[row]), int(rows.orders[row]), rows.values[row], asked
        )
        assert seen[row].tobytes() == alone.tobytes()
