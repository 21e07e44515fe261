"""Many short sorted runs inside one long array, handled together in a few numpy passes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

PIECE = 1 << 18
"""Elements that one pass handles at most: its temporary arrays stay a few MB."""


def ranges(starts: Ints, counts: Ints) -> Ints:
    """start, start + 1, …, start + count - 1 of every segment, one after the other.

    >>> ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    ends = counts.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    shifted: Ints = np.repeat(starts - ends + counts, counts)
    shifted += np.arange(total)
    return shifted


def pieces(counts: Ints, limit: int = PIECE) -> Iterator[slice]:
    """Slices that cover *counts* in order; each sums to at most *limit* or is one segment."""
    ends = counts.cumsum()
    begin = done = 0
    while begin < len(counts):
        stop = max(begin + 1, int(np.searchsorted(ends, done + limit, side="right")))
        yield slice(begin, stop)
        begin, done = stop, int(ends[stop - 1])


def upper_bound(times: Ints, low: Ints, high: Ints, targets: Ints) -> Ints:
    """The first index in [low, high) with a time above the target, or else high.

    `times` ascends within each [low, high); the other three are of one shape, or broadcast.
    """
    found = low + np.zeros_like(targets)
    longest = int((high - low).max(initial=0))
    for bit in range(longest.bit_length() - 1, -1, -1):
        step = found + (1 << bit)
        below = times.take(step - 1, mode="clip") <= targets
        below &= step <= high
        np.copyto(found, step, where=below)
    return found


def ascends(first: tuple[Ints, Ints], then: tuple[Ints, Ints]) -> NDArray[np.bool_]:
    """Where (time, order) of *then* is not before that of *first*."""
    within: NDArray[np.bool_] = (then[0] == first[0]) & (then[1] >= first[1])
    within |= then[0] > first[0]
    return within
