"""How far ordinary windows lie from the reference, and from where on one is not ordinary.

A window is the last 24 hours; where they have fewer than 1,000 rows, whole days before them too, 7
at most. What is expected of it is the reference of the same hours of the week: Σ rows of a slot ×
shares of that slot, over the 48 slots of working days and weekends. So neither night nor Sunday is
drift.

The limit of a window's index comes from the reference itself, by subsampling (Politis & Romano,
*Large Sample Confidence Regions Based on Subsamples*, 1994): each window of the reference is
compared with the rest of it. That has in it how rows hang together: customers who come again, a
hall that is warm for a day. A scaled χ² with the mean and variance of these indices (Satterthwaite,
*An Approximate Distribution of Estimates of Variance Components*, 1946; for counts of clustered
rows: Rao & Scott, 1981) is what the limit is a quantile of. Its variance is taken two standard
errors higher, as windows that overlap are few. No limit is below what independent rows would
need, nor below an effect that matters.

Of the alarms a week that are allowed, each series, each of three tests (distribution; mean; missing
and outside) and each of 28 looks a week (windows that move by a quarter) gets its equal part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from models.arrays import Bools, Floats64, Ints
from models.drift.binning import MISSING, OUTSIDE, PLACES
from models.drift.effect_sizes import psi, shares
from models.drift.hour_counts import SLOTS, HourCounts, slots_of
from models.drift.reference import REFERENCE_DAYS, Reference

WINDOW_HOURS, MOST_WINDOW_HOURS = 24, 168
WINDOW_ROWS = 1000
FEWEST_ROWS = 300
"""Of a series in a window: below, nothing is said of it."""
READY_DAYS = 14
"""Of fewer days, two weekends among them, nobody knows what an ordinary one is. Where windows
differ of themselves by more than matters (a temperature that wanders), it takes all 28."""
LEAST_PSI = 0.05
"""Half of what credit scoring calls some shift: a spread that is a fifth wider has 0.06."""
LEAST_ODD_SHARE = 0.01
"""Missing values, or those that the reference does not have: so much more than usual matters."""
TESTS = 3
_LOOKS_A_WEEK = 28
_OWN = 50.0
"""By so many rows a slot's shares are drawn to those of its hour, and these to those of all."""
_TOWARDS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class WindowSizes:
    """How a window differs from what is expected of it; each (S,), NaN with too few rows."""

    counts: Ints
    """(S, PLACES)."""
    shares: Floats64
    expected: Floats64
    """(S, PLACES) each."""
    psi: Floats64
    missing: Floats64
    outside: Floats64
    """Shares beyond those that are expected."""


def window_before(counts: HourCounts, behind: int) -> HourCounts:
    """The window of *counts* that ends before hour *behind*."""
    for hours in range(WINDOW_HOURS, MOST_WINDOW_HOURS + 1, 24):
        window = counts.between(behind - hours, behind)
        if window.rows.sum(axis=0).max(initial=0) >= WINDOW_ROWS:
            break
    return window


def by_slot(counts: HourCounts) -> Ints:
    """Counts of each slot of the week, (48, S, PLACES)."""
    total = np.zeros((SLOTS, counts.counts.shape[1], PLACES), np.int64)
    np.add.at(total, slots_of(counts.hours), counts.counts.sum(axis=3))
    return total


def slot_shares(slots: Ints) -> Floats64:
    """Shares (48, S, PLACES) of counts by slot; those of a slot with few rows are its hour's."""
    hours = slots[:24] + slots[24:]
    of_all = shares(hours.sum(axis=0))
    of_hours = (hours + _OWN * of_all) / (hours.sum(axis=-1, keepdims=True) + _OWN)
    wide = np.concatenate([of_hours, of_hours])
    drawn: Floats64 = (slots + _OWN * wide) / (slots.sum(axis=-1, keepdims=True) + _OWN)
    return drawn


def window_sizes(window: HourCounts, reference: Floats64) -> WindowSizes:
    """How *window* differs from *reference*, the shares of slots (48, S, PLACES)."""
    slots = by_slot(window)
    rows = slots.sum(axis=-1)
    counts = slots.sum(axis=0)
    total = counts.sum(axis=-1, keepdims=True)
    expected = (rows[..., None] * reference).sum(axis=0) / np.maximum(total, 1)
    expected = np.where(total > 0, expected, 1 / PLACES)
    now = (counts + _TOWARDS * expected) / (total + _TOWARDS)
    few = total[:, 0] < FEWEST_ROWS
    more = counts / np.maximum(total, 1) - expected
    return WindowSizes(
        counts, now, expected,
        np.where(few, np.nan, psi(now, expected)),
        np.where(few, np.nan, more[:, MISSING]),
        np.where(few, np.nan, more[:, OUTSIDE].sum(axis=-1)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Ordinary:
    """What is expected of windows, and how far they may be from it."""

    shares: Floats64
    """(48, S, PLACES)."""
    rows: Ints
    """Of the reference, (S,)."""
    widths: Ints
    """Places in use, (S,)."""
    psi_limit: Floats64
    missing_limit: Floats64
    outside_limit: Floats64
    """(S,) each; infinite for a series whose reference has too few days."""
    ready: Bools
    """Which series' reference has enough days, (S,)."""
    false_alarm: float
    """The share of looks at a series that may exceed a limit by chance."""

    @classmethod
    def of(cls, reference: Reference, alarms_a_week: float) -> Ordinary:
        """Limits such that all series together exceed them no more often than that by chance."""
        counts = reference.counts
        series = max(len(reference.series), 1)
        alpha = alarms_a_week / (_LOOKS_A_WEEK * series * TESTS)
        total = by_slot(counts)
        sizes = [] if not len(counts.hours) else _of_windows(counts, total)
        independent = _independent(counts) if sizes else 0.0

        def upper(kind: str) -> Floats64:
            if not sizes:
                return np.full(len(reference.series), np.inf)
            values = np.array([getattr(each, kind) for each in sizes])
            return np.array([_upper(column, independent, alpha) for column in values.T])

        def limit(high: Floats64, least: float) -> Floats64:
            return np.where(ready, np.maximum(high, least), np.inf)

        high, days = upper("psi"), reference.days
        ready = (days >= REFERENCE_DAYS) | ((days >= READY_DAYS) & (high <= LEAST_PSI))
        return cls(
            slot_shares(total), total.sum(axis=(0, 2)),
            np.array([each.width for each in reference.series], np.int64),
            limit(high, LEAST_PSI), limit(upper("missing"), LEAST_ODD_SHARE),
            limit(upper("outside"), LEAST_ODD_SHARE), ready, alpha,
        )  # fmt: skip

    def psi_limit_of(self, rows: Ints) -> Floats64:
        """The limit for a window of so many *rows* (S,): not below that of independent ones."""
        independent = special.chdtri(self.widths - 1, self.false_alarm)
        apart = 1 / np.maximum(rows, 1) + 1 / np.maximum(self.rows, 1)
        limit: Floats64 = np.maximum(self.psi_limit, independent * apart)
        return limit


def _of_windows(counts: HourCounts, total: Ints) -> Sequence[WindowSizes]:
    """Each window of the reference against the rest of it; a window begins every hour."""
    first, last = int(counts.hours[0]), int(counts.hours[-1]) + 1
    sizes = []
    for behind in range(first + WINDOW_HOURS, last + 1):
        window = window_before(counts, behind)
        if len(window.hours):
            rest = slot_shares(total - by_slot(window))
            sizes.append(window_sizes(window, rest))
    return sizes


def _independent(counts: HourCounts) -> float:
    """How many windows there are that do not overlap."""
    hours = int(counts.hours[-1] - counts.hours[0]) + 1
    window = window_before(counts, int(counts.hours[-1]) + 1)
    length = int(window.hours[-1] - window.hours[0]) + 1
    return hours / max(length, WINDOW_HOURS)


def _upper(values: Floats64, independent: float, alpha: float) -> float:
    """The quantile 1 - *alpha* of what windows like these *values* (W,) come from."""
    values = np.maximum(values[np.isfinite(values)], 0.0)
    if not len(values):
        return float("inf")
    mean = float(values.mean())
    variance = float(values.var()) * (1 + 2 * np.sqrt(2 / independent))
    if mean <= 0 or variance <= 0:
        return mean
    shape, scale = mean**2 / variance, variance / mean
    return float(special.gammaincinv(shape, 1 - alpha) * scale)
