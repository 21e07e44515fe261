"""Rows that arrive one after the other, grouped so that many are added at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.features.segments import Ints, ascends

Bools = NDArray[np.bool_]


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
