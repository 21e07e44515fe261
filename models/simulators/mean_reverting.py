"""A random walk that is pulled back to 0: one with a standard deviation, however long it runs."""

from __future__ import annotations

import math

import numpy as np

from models.arrays import Floats64


def walk(
    rng: np.random.Generator, state: Floats64, *, std: float, memory: float, steps: int
) -> Floats64:
    """The *steps* values after *state* (n,), of n walks side by side: (steps, n).

    An autoregressive process of order 1 (an Ornstein-Uhlenbeck process, seen at every step):
    stationary with mean 0 and deviation *std*, correlation exp(-lag / memory).
    """
    keep = math.exp(-1 / memory)
    path = rng.normal(0, std * math.sqrt(1 - keep**2), (steps, len(state)))
    before = state
    for now in path:
        now += keep * before  # noqa: PLW2901 (in place: *now* is a row of path)
        before = now
    return path
