"""What an hour of events looked like, as counts: the unit that windows are added up from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats64, Ints
from models.drift.binning import MISSING, PLACES, Places

HOUR_MS = 3_600_000
SLOTS = 48
"""Hours of a working day, then those of a Saturday or Sunday, in UTC."""
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday
_FIRST_OF_WEEKEND = 5


@dataclass(frozen=True, slots=True, eq=False)
class HourCounts:
    """Counts of H hours, S series and D kinds of decision."""

    hours: Ints
    """Hours since 1970, (H,), ascending, each once."""
    counts: NDArray[np.int64]
    """(H, S, PLACES, D). Where decisions do not matter, D is 1."""
    sums: Floats64
    """Of numbers, drawn into the reference's range, (H, S); 0 for words."""

    @classmethod
    def empty(cls, series: int, decisions: int = 1) -> HourCounts:
        """No hours."""
        counts = np.zeros((0, series, PLACES, decisions), np.int64)
        return cls(np.zeros(0, np.int64), counts, np.zeros((0, series)))

    @classmethod
    def of_rows(
        cls,
        hours: Ints,
        places: Sequence[Places],
        numbers: Sequence[Floats64 | None],
        decisions: Ints | None = None,
        kinds: int = 1,
    ) -> HourCounts:
        """Count N rows: their *hours* (N,), and of each series places (N,) and numbers (N,).

        *decisions* (N,) are places among the *kinds* of decision.
        """
        distinct, at = np.unique(hours, return_inverse=True)
        decided = np.zeros(len(hours), np.int64) if decisions is None else decisions
        shape = (len(distinct), PLACES, kinds)
        counts = np.zeros((len(distinct), len(places), PLACES, kinds), np.int64)
        sums = np.zeros((len(distinct), len(places)))
        for series, (place, number) in enumerate(zip(places, numbers, strict=True)):
            flat = np.ravel_multi_index((at, place.astype(np.int64), decided), shape)
            counts[:, series] = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)
            if number is not None:
                sums[:, series] = np.bincount(at, number, minlength=len(distinct))
        return cls(distinct, counts, sums)

    @property
    def rows(self) -> Ints:
        """Rows of each hour and series, (H, S)."""
        total: Ints = self.counts.sum(axis=(2, 3))
        return total

    @property
    def present(self) -> Ints:
        """Rows that are not missing, (H, S)."""
        total: Ints = self.rows - self.counts[:, :, MISSING].sum(axis=-1)
        return total

    def added(self, other: HourCounts) -> HourCounts:
        """Both together; hours of both are added up."""
        hours = np.union1d(self.hours, other.hours)
        counts = np.zeros((len(hours), *self.counts.shape[1:]), np.int64)
        sums = np.zeros((len(hours), self.sums.shape[1]))
        for part in (self, other):
            at = np.searchsorted(hours, part.hours)
            counts[at] += part.counts
            sums[at] += part.sums
        return HourCounts(hours, counts, sums)

    def between(self, first: int, behind: int) -> HourCounts:
        """The hours from *first* up to, without, *behind*."""
        kept = slice(*np.searchsorted(self.hours, [first, behind]).tolist())
        return HourCounts(self.hours[kept], self.counts[kept], self.sums[kept])

    def last(self, hours: int) -> HourCounts:
        """The newest *hours* of those that there are."""
        start = max(0, len(self.hours) - hours)
        return HourCounts(self.hours[start:], self.counts[start:], self.sums[start:])

    def whatever_decided(self) -> HourCounts:
        """The same with D = 1."""
        return HourCounts(self.hours, self.counts.sum(axis=3, keepdims=True), self.sums)


def slots_of(hours: Ints) -> Ints:
    """Which of the 48 slots of a week each of *hours* (N,) is.

    >>> slots_of(np.array([0, 24, 48])).tolist()  # Thursday, Friday, Saturday, each at midnight
    [0, 0, 24]
    """
    weekday = (hours // 24 + _EPOCH_WEEKDAY) % 7
    return hours % 24 + 24 * (weekday >= _FIRST_OF_WEEKEND)
