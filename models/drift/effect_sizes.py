"""How far two distributions are apart, from counts: sizes, which do not grow with the rows.

Each takes counts or shares in the same bins and broadcasts over leading axes.

- Population stability index, the symmetric Kullback–Leibler divergence (Jeffreys, *An Invariant
  Form for the Prior Probability in Estimation Problems*, 1946; the name is credit scoring's:
  Siddiqi, *Credit Risk Scorecards*, 2006, where 0.1 is some and 0.25 a large shift).
- Jensen–Shannon distance (Lin, *Divergence Measures Based on the Shannon Entropy*, 1991), in bits.
- Wasserstein-1 (Vallender, *Calculation of the Wasserstein Distance Between Probability
  Distributions on the Line*, 1974), of the bins' centres.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats64

_HALF = 0.5
"""Added to each count: a bin that one side lacks is rare there, not impossible (Jeffreys)."""


def shares(counts: NDArray[Any]) -> Floats64:
    """Counts (…, B) as shares that are never 0."""
    smooth = np.asarray(counts, np.float64) + _HALF
    drawn: Floats64 = smooth / smooth.sum(axis=-1, keepdims=True)
    return drawn


def psi(now: Floats64, before: Floats64) -> Floats64:
    """The population stability index of shares (…, B): Σ (q - p) · ln(q / p).

    >>> float(psi(np.array([0.5, 0.5]), np.array([0.6, 0.4])).round(4))
    0.0405
    """
    total: Floats64 = ((now - before) * np.log(now / before)).sum(axis=-1)
    return total


def jensen_shannon(now: Floats64, before: Floats64) -> Floats64:
    """The Jensen–Shannon distance of shares (…, B): 0 to 1, the root of the divergence in bits."""
    middle = (now + before) / 2
    ways = now * np.log2(now / middle) + before * np.log2(before / middle)
    distance: Floats64 = np.sqrt(np.maximum(ways.sum(axis=-1) / 2, 0.0))
    return distance


def wasserstein(now: Floats64, before: Floats64, centres: Floats64) -> Floats64:
    """The Wasserstein-1 distance of shares (…, B) at *centres* (B,) ascending, in their unit."""
    apart = np.abs(np.cumsum(now - before, axis=-1))[..., :-1]
    distance: Floats64 = (apart * np.diff(centres)).sum(axis=-1)
    return distance
