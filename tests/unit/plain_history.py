"""Rows for histories, and what a History must say of them, as a plain list of entries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise

import numpy as np

from models.arrays import Floats64, Ints
from models.features.history import Aggregate, Apply, History

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
    values: Floats64

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


def observed(history: History, rows: Rows, aggregates: Sequence[Aggregate]) -> Floats64:
    return history.observe(rows.keys, rows.times, rows.orders, rows.values, aggregates)


def fed(history: History, rows: Rows) -> History:
    history.add(rows.keys, rows.times, rows.orders, rows.values)
    return history


def many(n: int, keys: int) -> Rows:
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 40_000, n))
    names = [f"key-{number}" for number in rng.integers(0, keys, n).tolist()]
    return Rows(names, times, np.arange(n), rng.random((n, WIDTH)))


def clipped(rows: Rows, at: Sequence[int]) -> list[Rows]:
    return list(rows.cut([min(place, len(rows)) for place in at]))
