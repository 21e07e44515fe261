"""Segments of an array, handled together, are what a loop over them would give."""

from __future__ import annotations

from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.features.segments import pieces, ranges, upper_bound


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
