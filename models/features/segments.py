"""Many short sorted runs inside one long array, handled together in a few numpy passes.

`rounds` groups rows that arrive one after the other, so that many are added to their runs at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.arrays import Bools, Ints

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
    bound = low + np.zeros_like(targets)
    longest = int((high - low).max(initial=0))
    for bit in range(longest.bit_length() - 1, -1, -1):
        step = bound + (1 << bit)
        below = times.take(step - 1, mode="clip") <= targets
        below &= step <= high
        np.copyto(bound, step, where=below)
    return bound


def ascends(first: tuple[Ints, Ints], then: tuple[Ints, Ints]) -> Bools:
    """Where (time, order) of *then* is not before that of *first*."""
    within: Bools = (then[0] == first[0]) & (then[1] >= first[1])
    within |= then[0] > first[0]
    return within


def rounds(
    slots: Ints, times: Ints, orders: Ints, newest_times: Ints, newest_orders: Ints
) -> Iterator[tuple[Ints, Bools]]:
    """The rows (N,) as (rows, ahead), to be added round after round.

    In a round each slot has either rows that are all `ahead`, which means not before anything
    that came before them, or a single row that is not. Rows of a round are sorted by slot, and
    those of a slot stay in the order of their arrival. `newest_…` is the slot's newest entry
    before all rows. Rows in order of time, the usual case, are one round.
    """
    by_slot = slots.argsort(kind="stable")
    slots, times, orders = slots[by_slot], times[by_slot], orders[by_slot]
    opens = np.diff(slots, prepend=-1) != 0
    before = (
        np.where(opens, newest_times[by_slot], np.roll(times, 1)),
        np.where(opens, newest_orders[by_slot], np.roll(orders, 1)),
    )
    ahead = ascends(before, (times, orders))
    if ahead.all():
        if len(slots):
            yield by_slot, ahead
        return
    ahead, number = _numbered(opens, times, orders, before)
    by_round = number.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(number[by_round], prepend=-1))
    for rows in np.split(by_round, starts[1:]):
        yield by_slot[rows], ahead[rows]


def _numbered(
    opens: Bools, times: Ints, orders: Ints, before: tuple[Ints, Ints]
) -> tuple[Bools, Ints]:
    """Which rows are ahead of all before them in their slot, and the round of each."""
    ahead = np.empty(len(times), np.bool_)
    number = np.empty(len(times), np.int64)
    newest, current, joins = (0, 0), 0, False
    firsts = zip(*(each.tolist() for each in before), strict=True)
    moments = zip(times.tolist(), orders.tolist(), strict=True)
    rows = zip(opens.tolist(), firsts, moments, strict=True)
    for row, (open_, first, moment) in enumerate(rows):
        newest = first if open_ else newest
        ahead[row] = is_ahead = moment >= newest
        current = 0 if open_ else current if joins and is_ahead else current + 1
        number[row] = current
        newest, joins = max(newest, moment), is_ahead
    return ahead, number
