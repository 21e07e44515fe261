"""A history answers like a plain list of each key's entries, to the bit, however rows are cut."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.history import Aggregate, Apply, History
from models.history_errors import MalformedChunk, WrongEntries
from models.segments import Doubles, Ints, pieces, ranges, upper_bound

Entry = tuple[int, int, tuple[float, ...]]
WIDTH = 2
OVER_VALUES: tuple[Apply, ...] = ("sum", "mean", "share", "min", "max", "std", "distinct")


@dataclass
class Plain:
    """What a History must say, entry by entry."""

    keep_ms: int
    lateness_ms: int
    max_entries: int
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    late: int = 0
    too_late: int = 0
    truncated: int = 0

    def add(self, key: str, entry: Entry) -> None:
        here = self.entries.setdefault(key, [])
        newest = max([entry[0], *(time for time, _, _ in here)])
        self.late += entry[0] < newest
        if newest - entry[0] > self.lateness_ms:
            self.too_late += 1
            return
        here = sorted(e for e in [*here, entry] if e[0] > newest - self.keep_ms)
        self.entries[key] = here[-self.max_entries :]
        self.truncated += len(here) - len(self.entries[key])

    def answer(self, key: str, time: int, order: float, each: Aggregate) -> float:
        until = time - each.delay_ms
        here = self.entries.get(key, [])
        window = [e for e in here if until - each.window_ms < e[0] <= until]
        if each.apply == "count":
            return len(window)
        if each.apply == "since_last":
            before = [e[0] for e in window if (e[0], e[1]) < (time, order)]
            return (until - before[-1] if before else each.window_ms) / 1000
        values = [e[2][each.column or 0] for e in window]
        return reduced(each.apply, [value for value in values if not math.isnan(value)])


def reduced(apply: Apply, values: list[float]) -> float:
    n = max(len(values), 1)
    mean = added(values) / n
    answers: dict[Apply, float] = {
        "sum": added(values),
        "mean": mean,
        "share": mean,
        "min": min(values, default=0.0) + 0.0,
        "max": max(values, default=0.0) + 0.0,
        "std": math.sqrt(added([(x - mean) * (x - mean) for x in values]) / max(n - 1, 1)),
        "distinct": len(set(values)),
    }
    return answers[apply]


def added(values: list[float]) -> float:
    """One after the other: `sum` compensates."""
    return reduce(lambda total, value: total + value, values, 0.0)


@dataclass(frozen=True)
class Rows:
    keys: list[str]
    times: Ints
    orders: Ints
    values: Doubles

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: slice) -> Rows:
        return Rows(self.keys[rows], self.times[rows], self.orders[rows], self.values[rows])

    def taken(self, rows: Sequence[int]) -> Rows:
        at = np.array(rows, np.int64)
        return Rows([self.keys[i] for i in rows], self.times[at], self.orders[at], self.values[at])

    def cut(self, at: Sequence[int]) -> Iterator[Rows]:
        for begin, stop in pairwise([0, *sorted(at), len(self)]):
            yield self[begin:stop]


@dataclass(frozen=True)
class Bounds:
    keep_ms: int
    lateness_ms: int
    max_entries: int

    def history(self) -> History:
        return History(
            width=WIDTH,
            keep_ms=self.keep_ms,
            lateness_ms=self.lateness_ms,
            max_entries=self.max_entries,
        )


def observed(history: History, rows: Rows, aggregates: Sequence[Aggregate]) -> Doubles:
    return history.observe(rows.keys, rows.times, rows.orders, rows.values, aggregates)


def fed(history: History, rows: Rows) -> History:
    history.add(rows.keys, rows.times, rows.orders, rows.values)
    return history


numbers = st.sampled_from([math.nan, 0.0, -0.0, 1.0, 0.1, 0.2, -2.5, 1e16, 3.0])
bounds = st.builds(
    Bounds, st.integers(1, 30), st.sampled_from([0, 2, 5, 40]), st.sampled_from([1, 2, 3, 5, 100])
)
windows = st.tuples(st.integers(1, 12), st.sampled_from([0, 0, 1, 7]))
cuts = st.lists(st.integers(0, 60), max_size=8)


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


def clipped(rows: Rows, at: Sequence[int]) -> list[Rows]:
    return list(rows.cut([min(place, len(rows)) for place in at]))


@settings(max_examples=200)
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


@given(streams(), bounds, questions(), cuts, cuts)
def test_batches_change_no_bit(
    rows: Rows, limits: Bounds, asked: list[Aggregate], some: list[int], others: list[int]
) -> None:
    one, other = limits.history(), limits.history()
    first = np.concatenate([observed(one, part, asked) for part in clipped(rows, some)])
    second = np.concatenate([observed(other, part, asked) for part in clipped(rows, others)])
    assert first.tobytes() == second.tobytes()
    assert list(one.chunks(2000)) == list(other.chunks(2000))


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


def many(n: int, keys: int) -> Rows:
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 40_000, n))
    names = [f"key-{number}" for number in rng.integers(0, keys, n).tolist()]
    return Rows(names, times, np.arange(n), rng.random((n, WIDTH)))


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


CHUNK = next(fed(Bounds(10**6, 0, 100).history(), many(40, 5)).chunks(10**6))


def forged(**changes: object) -> bytes:
    """The chunk with other entries in its header."""
    end = 4 + int.from_bytes(CHUNK[:4], "little")
    header = json.dumps({**json.loads(CHUNK[4:end]), **changes}).encode()
    return len(header).to_bytes(4, "little") + header + CHUNK[end:]


def body(at: int, new: bytes) -> bytes:
    """The chunk with *new* at byte *at* behind its header."""
    at += 4 + int.from_bytes(CHUNK[:4], "little")
    return CHUNK[:at] + new + CHUNK[at + len(new) :]


TEXT, KEYS = 25, 5
"""The five keys are key-0 … key-4."""
TIMES = TEXT + 8 * KEYS


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (b"", "header would end"),
        (b"\xff\xff\xff\xff" + CHUNK[4:], "header would end"),
        (b"\x03\0\0\0[[[" + CHUNK, "not JSON"),
        (b"\x02\0\0\0\xff\xff" + CHUNK, "not JSON"),
        ((256).to_bytes(4, "little") + b"[" * 256, "not JSON"),
        (b"\x02\0\0\0[]", "does not name the format"),
        (forged(format="other"), "does not name the format"),
        (forged(keys=True), "does not give"),
        (forged(entries=1e9), "does not give"),
        (forged(entries=-1), "does not give"),
        (forged(width=3), "have 3 values, here they have 2"),
        (forged(entries=10**15), "bytes follow the header"),
        (forged(keys=10**100), "bytes follow the header"),
        (CHUNK[:-1], "bytes follow the header"),
        (CHUNK + b"\0", "bytes follow the header"),
        (body(0, b"\xff"), "not UTF-8"),
        (body(0, "ééé".encode()), "not as long as it says"),
        (body(TEXT, b"\xff\xff\xff\xff"), "not as long as it says"),
        (body(0, b"key-1"), "a key twice"),
        (body(TEXT + 4 * KEYS, b"\xff\xff\xff\xff"), "do not add up"),
        (body(TEXT + 4 * KEYS, b"\0\0\0\0"), "do not add up"),
        (body(TIMES, b"\xff" * 7 + b"\x7f"), "out of range"),
        (body(TIMES, (10**6).to_bytes(8, "little")), "not in order"),
        (body(TIMES + 16 * 40, np.array([np.inf]).tobytes()), "infinite"),
    ],
)
def test_a_malformed_chunk_says_what_is_wrong_and_changes_nothing(
    chunk: bytes, reason: str
) -> None:
    history = Bounds(10**6, 0, 100).history()
    with pytest.raises(MalformedChunk, match=reason):
        history.restore(chunk)
    assert (history.keys, history.entries) == (0, 0)
    history.restore(CHUNK)
    assert list(history.chunks(10**6)) == [CHUNK]


@settings(max_examples=300)
@given(st.data())
def test_bytes_from_anywhere_are_restored_or_refused(data: st.DataObject) -> None:
    chunk = bytearray(CHUNK)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(chunk) - 1))
        chunk[at] = data.draw(st.integers(0, 255))
    del chunk[data.draw(st.sampled_from([len(chunk), *range(len(chunk))])) :]
    history = Bounds(10**6, 0, 100).history()
    try:
        history.restore(bytes(chunk))
    except ValueError:
        assert history.keys == 0
    else:
        again = Bounds(10**6, 0, 100).history()
        for piece in history.chunks(10**6):
            again.restore(piece)
        assert again.keys == history.keys


def test_a_chunk_is_not_restored_twice_nor_into_a_smaller_history() -> None:
    history = Bounds(10**6, 0, 100).history()
    history.restore(CHUNK)
    with pytest.raises(MalformedChunk, match="here already"):
        history.restore(CHUNK)
    with pytest.raises(MalformedChunk, match="more than 2"):
        Bounds(10**6, 0, 2).history().restore(CHUNK)


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


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 12))
def test_pieces_cover_all_segments_in_order(counts: list[int], limit: int) -> None:
    array = np.array(counts, np.int64)
    parts = [array[piece].tolist() for piece in pieces(array, limit)]
    assert list(chain.from_iterable(parts)) == counts
    assert all(parts)
    assert all(sum(part) <= limit or len(part) == 1 for part in parts)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=10))
def test_ranges_are_the_indices_of_every_segment(segments: list[tuple[int, int]]) -> None:
    starts, counts = np.array(segments, np.int64).reshape(-1, 2).T
    expected = [start + place for start, count in segments for place in range(count)]
    assert ranges(starts, counts).tolist() == expected


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20).map(sorted),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(-1, 10)), max_size=8),
)
def test_the_upper_bound_is_the_first_later_time(
    times: list[int], asked: list[tuple[int, int, int]]
) -> None:
    limits = [sorted((min(a, len(times)), min(b, len(times)))) for a, b, _ in asked]
    low, high = np.array(limits, np.int64).reshape(-1, 2).T
    targets = np.array([target for _, _, target in asked], np.int64)
    assert upper_bound(np.array(times), low, high, targets).tolist() == [
        next((at for at in range(a, b) if times[at] > target), b)
        for (a, b), target in zip(limits, targets.tolist(), strict=True)
    ]
