"""Whether and when the mean of a series has changed: ADWIN on what is left of hourly means.

ADWIN (Bifet & Gavaldà, *Learning from Time-Changing Data with Adaptive Windowing*, SDM 2007) takes
independent values in [0, 1]. Single events would drown a small lasting shift, and hours of a day
hang together. So it is given hourly means, less the reference's of that hour of the week,
prewhitened (less what the hour before lets expect, AR(1)), in standard deviations, four to each
side. An hour with few rows is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from river.drift import ADWIN

from models.arrays import Floats64
from models.drift.hour_counts import SLOTS, HourCounts, slots_of

FEWEST_IN_HOUR = 10
_DEVIATIONS = 4.0
_KEPT = 28 * 24
_OWN = 50.0
_MOST_CORRELATION = 0.95


def hourly_means(counts: HourCounts) -> Floats64:
    """Means (H, S); NaN for an hour with fewer rows than are enough."""
    rows = counts.present
    means: Floats64 = np.where(rows >= FEWEST_IN_HOUR, counts.sums / np.maximum(rows, 1), np.nan)
    return means


@dataclass(frozen=True, slots=True, eq=False)
class OrdinaryMeans:
    """What hourly means of S series are ordinarily."""

    slots: Floats64
    """The mean of each slot of the week, (48, S)."""
    correlation: Floats64
    """Of what is left of an hour with the hour before, (S,)."""
    deviation: Floats64
    """Of what is left beyond that, (S,); 0 where there is nothing to watch."""

    @classmethod
    def of(cls, counts: HourCounts) -> OrdinaryMeans:
        """Of the reference's counts."""
        at, rows = slots_of(counts.hours), counts.present
        sums = np.zeros((SLOTS, rows.shape[1]))
        total = np.zeros((SLOTS, rows.shape[1]))
        np.add.at(sums, at, counts.sums)
        np.add.at(total, at, rows)
        hour_sums, hour_rows = sums[:24] + sums[24:], total[:24] + total[24:]
        overall = hour_sums.sum(axis=0) / np.maximum(hour_rows.sum(axis=0), 1)
        of_hours = (hour_sums + _OWN * overall) / (hour_rows + _OWN)
        slots = (sums + _OWN * np.concatenate([of_hours, of_hours])) / (total + _OWN)
        left = hourly_means(counts) - slots[at]
        follows = np.diff(counts.hours) == 1
        before, after = left[:-1][follows], left[1:][follows]
        both = np.isfinite(before) & np.isfinite(after)
        before, after = np.where(both, before, 0.0), np.where(both, after, 0.0)
        power = (before**2).sum(axis=0)
        correlation = np.where(
            power > 0, (before * after).sum(axis=0) / np.where(power > 0, power, 1), 0
        )
        correlation = np.clip(correlation, 0.0, _MOST_CORRELATION)
        rest = np.where(both, after - correlation * before, np.nan)
        seen = np.maximum(both.sum(axis=0), 1)
        deviation = np.sqrt(np.nansum(rest**2, axis=0) / seen)
        return cls(slots, correlation, deviation)

    def left(self, counts: HourCounts) -> Floats64:
        """What is left of hourly means, (H, S), in the series' own units; NaN where too few."""
        return hourly_means(counts) - self.slots[slots_of(counts.hours)]


class ChangePoint:
    """ADWIN on one series. *false_alarm*: the share of hours that may be taken for a change."""

    def __init__(self, false_alarm: float) -> None:
        self._delta = false_alarm
        self._adwin = self._new()
        self._fed: deque[float] = deque(maxlen=_KEPT)

    def _new(self) -> ADWIN:
        return ADWIN(  # type: ignore[no-untyped-call]  # river ships no types for it
            delta=self._delta, clock=1, grace_period=10, min_window_length=5
        )

    def update(self, deviations: float) -> bool:
        """Take in what is left of an hour, in standard deviations; whether the mean has changed."""
        bounded = float(np.clip(deviations, -_DEVIATIONS, _DEVIATIONS))
        self._fed.append(bounded)
        share = (bounded + _DEVIATIONS) / (2 * _DEVIATIONS)
        self._adwin.update(share)  # type: ignore[no-untyped-call]  # river ships no types for it
        return bool(self._adwin.drift_detected)

    @property
    def hours(self) -> int:
        """How many of the newest hours are alike: a change was so long ago."""
        return int(self._adwin.width)

    @property
    def fed(self) -> Floats64:
        """The newest of what was taken in, 28 days at most."""
        return np.array(self._fed, np.float64)

    def restore(self, fed: Iterable[float]) -> None:
        """Begin anew with what was taken in before."""
        self._adwin = self._new()
        self._fed.clear()
        for value in fed:
            self.update(value)
