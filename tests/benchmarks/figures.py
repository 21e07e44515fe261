"""Statistics of a benchmark: medians, percentiles, slopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0)
"""Of latencies: those of the table, and enough between them for a curve."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Some figures by their middle and their ends."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of *values*, of which there must be one at least.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, lowest=1.0, highest=3.0)
        """
        return cls(float(np.median(values)), min(values), max(values))


def percentiles(values: NDArray[np.floating]) -> dict[str, float]:
    """The PERCENTILES of *values* (N,), by name: each is a value that was seen.

    >>> percentiles(np.arange(1.0, 101.0))["p99"]
    99.0
    """
    found = np.percentile(values, PERCENTILES, method="inverted_cdf")
    return {f"p{q:g}": float(value) for q, value in zip(PERCENTILES, found, strict=True)}


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """By how much *values* grow per unit of *at*: the line of least squares.

    >>> round(slope([0, 1, 2], [1, 3, 5]), 6)
    2.0
    """
    x, y = np.asarray(at, np.float64), np.asarray(values, np.float64)
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())


def after_first_quarter(
    at: Sequence[float], values: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Samples later than the first quarter of the time: what starts up is left out."""
    from_then_on = at[0] + (at[-1] - at[0]) / 4
    kept = [(t, value) for t, value in zip(at, values, strict=True) if t >= from_then_on]
    return [t for t, _ in kept], [value for _, value in kept]
