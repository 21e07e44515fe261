"""Aggregates over windows of sorted entries: counts, sums, spreads, for many rows at once.

A row gets the same bits alone and in any batch: every sum is taken by `np.bincount`, which
adds one entry after the other, in the entries' order, wherever they lie in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from models.arrays import Floats64, Ints
from models.features.entry_store import EntryStore
from models.features.segments import pieces, ranges, upper_bound

Apply = Literal["count", "sum", "mean", "min", "max", "std", "distinct", "since_last", "share"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One number about the entries of a row's key in a window before the row.

    The window of a row at time t is (t - delay_ms - window_ms, t - delay_ms]. `count` counts
    entries; the others are over the column's values that are not NaN, and 0 without any. `std`
    is the sample's (n - 1), 0 for one value; `share` is the mean of a column of 0 and 1.
    `since_last` is the time in seconds from the last entry in the window, the row itself
    excepted, until t - delay_ms; without one it is the window's length.
    """

    apply: Apply
    column: int | None
    """Column of the values; None for count and since_last."""
    window_ms: int
    delay_ms: int = 0


class VisibleEntries(NamedTuple):
    """What each of N rows may see of a store: positions (N,) and times (N,)."""

    first: Ints
    stop: Ints
    """Entries in [first, stop) may be in its windows."""
    before: Ints
    """Entries before this one came before the row, for since_last."""
    floors: Ints
    """Entries at or before this time are invisible."""


def aggregated(
    store: EntryStore, view: VisibleEntries, times_ms: Ints, aggregates: Sequence[Aggregate]
) -> Floats64:
    """The aggregates (N, A) of rows at *times_ms* that see *view*."""
    answers = np.zeros((len(times_ms), len(aggregates)))
    edges = _edges(store, view, times_ms, aggregates)
    over_values: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, each in enumerate(aggregates):
        low, high = edges[each.delay_ms + each.window_ms], edges[each.delay_ms]
        if each.apply == "count":
            answers[:, place] = high - low
        elif each.apply == "since_last":
            until = times_ms - each.delay_ms
            last = np.minimum(high, view.before) - 1
            since = np.where(
                last >= low, until - store.times.take(last, mode="clip"), each.window_ms
            )
            answers[:, place] = since / 1000
        else:
            over_values[each.window_ms, each.delay_ms].append(place)
    for (window_ms, delay_ms), places in over_values.items():
        low, high = edges[delay_ms + window_ms], edges[delay_ms]
        _fill(answers, places, aggregates, store, low, high - low)
    return answers


def _edges(
    store: EntryStore, view: VisibleEntries, times_ms: Ints, aggregates: Sequence[Aggregate]
) -> dict[int, Ints]:
    """How long before the row → the first position after that moment: where windows end."""
    back = sorted(
        {ms for each in aggregates for ms in (each.delay_ms, each.delay_ms + each.window_ms)}
    )
    moments = np.maximum(times_ms - np.array(back, np.int64)[:, None], view.floors)
    return dict(zip(back, upper_bound(store.times, view.first, view.stop, moments), strict=True))


def _fill(
    answers: Floats64,
    places: Sequence[int],
    aggregates: Sequence[Aggregate],
    store: EntryStore,
    low: Ints,
    counts: Ints,
) -> None:
    """Write aggregates[places] over the entries from *low* on, *counts* for each row."""
    for rows in pieces(counts):
        at = ranges(low[rows], counts[rows])
        row = np.repeat(np.arange(len(counts[rows])), counts[rows])
        for column in {aggregates[place].column for place in places}:
            values, of = _present(store.values[column or 0].take(at), row)
            present = np.bincount(of, minlength=len(counts[rows]))
            for place in places:
                if aggregates[place].column == column:
                    reduce = _REDUCE[aggregates[place].apply]
                    answers[rows, place] = reduce(values, of, present)


def _present(values: Floats64, row: Ints) -> tuple[Floats64, Ints]:
    absent = np.isnan(values)
    return (values[~absent], row[~absent]) if absent.any() else (values, row)


def _sum(values: Floats64, row: Ints, counts: Ints) -> Floats64:
    return np.bincount(row, values, len(counts)).astype(np.float64, copy=False)


def _mean(values: Floats64, row: Ints, counts: Ints) -> Floats64:
    mean: Floats64 = _sum(values, row, counts) / np.maximum(counts, 1)
    return mean


def _std(values: Floats64, row: Ints, counts: Ints) -> Floats64:
    with np.errstate(over="ignore"):  # beyond 1e154 the answer is infinity: the row is absent
        apart = values - _mean(values, row, counts)[row]
        squares = _sum(apart * apart, row, counts)
    std: Floats64 = np.sqrt(squares / np.maximum(counts - 1, 1))
    return std


def _extreme(ufunc: np.ufunc) -> Callable[[Floats64, Ints, Ints], Floats64]:
    def reduce(values: Floats64, row: Ints, counts: Ints) -> Floats64:
        extreme = np.zeros(len(counts))
        starts = np.flatnonzero(np.diff(row, prepend=-1))
        extreme[row[starts]] = ufunc.reduceat(values, starts)
        return extreme + 0.0  # one zero: which of -0.0 and 0.0 is less depends on the address

    return reduce


def _distinct(values: Floats64, row: Ints, counts: Ints) -> Floats64:
    by_value = np.lexsort((values, row))
    value, of = values[by_value], row[by_value]
    fresh = np.ones(len(value), np.bool_)
    fresh[1:] = (value[1:] != value[:-1]) | (of[1:] != of[:-1])
    return _sum(fresh.astype(np.float64), of, counts)


_REDUCE: Mapping[Apply, Callable[[Floats64, Ints, Ints], Floats64]] = {
    "sum": _sum,
    "mean": _mean,
    "share": _mean,
    "min": _extreme(np.minimum),
    "max": _extreme(np.maximum),
    "std": _std,
    "distinct": _distinct,
}
"""Values, the row of each (ascending), how many each row has → one number per row."""
