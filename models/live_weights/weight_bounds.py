"""The floor and the cap of a stage's weight."""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Floats64

_LEAST = 1e-12
"""A weight of 0 counts as this, where only a floor's worth of it is needed to reach 1."""


def bounded(alpha: Floats64, floored: Bools, floor: float, cap: float) -> Floats64:
    """The weights nearest to *alpha* (S,): sum 1, none above *cap*, *floored* ones from *floor* on.

    Nearest in relative entropy: weights strictly between the bounds keep their ratios (Herbster &
    Warmuth, *Tracking the Best Linear Predictor*, J. Mach. Learn. Res. 1 (2001), section 5). Bounds
    that S weights cannot keep are widened: no cap is below 1/S, no floor above it.

    >>> bounded(np.array([0.98, 0.01, 0.01]), np.array([True, True, False]), 0.05, 0.9).round(4)
    array([0.9 , 0.05, 0.05])
    """
    stages = len(alpha)
    low = np.where(floored, min(floor, 1 / stages), 0.0)
    high = np.full(stages, max(cap, 1 / stages))
    # Σ clip(scale·α, low, high) grows with the scale: its solution for 1 is found by halving.
    weights = np.maximum(alpha, _LEAST)
    smallest, largest = 0.0, float((high / weights).max())
    for _ in range(200):
        scale = (smallest + largest) / 2
        if np.clip(scale * weights, low, high).sum() < 1:
            smallest = scale
        else:
            largest = scale
    within = np.clip(largest * weights, low, high)
    normalised: Floats64 = within / within.sum()
    return normalised
