"""Who pays with cards, how often and how much, and which terminals are in reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Floats64, Ints

SIDE = 100.0


@dataclass(frozen=True, slots=True)
class Population:
    """Who pays: columns of C customers, and the terminals that each of them can reach."""

    daily_rate: Floats64
    mean_amount: Floats64
    terminal: Ints
    """Terminals in reach, one customer's after the other's."""
    first: Ints
    """Where a customer's terminals begin in `terminal`."""
    reach: Ints
    """How many they are."""


def populate(rng: np.random.Generator, customers: int, terminals: int, radius: float) -> Population:
    """Draw places, rates and amounts; a customer without a terminal in reach has rate 0."""
    homes = rng.uniform(0, SIDE, (customers, 2))
    shops = rng.uniform(0, SIDE, (terminals, 2))
    mean_amount = rng.uniform(5, 100, customers)
    daily_rate = rng.uniform(0, 4, customers)

    by_x = np.argsort(shops[:, 0], kind="stable")
    x = shops[by_x, 0]
    west = np.searchsorted(x, homes[:, 0] - radius)
    east = np.searchsorted(x, homes[:, 0] + radius)
    near = []
    for home, low, high in zip(homes, west, east, strict=True):
        strip = by_x[low:high]
        near.append(strip[np.hypot(*(shops[strip] - home).T) < radius])
    reach = np.array([len(shop) for shop in near], dtype=np.int64)
    return Population(
        daily_rate=np.where(reach > 0, daily_rate, 0.0),
        mean_amount=mean_amount,
        terminal=np.concatenate([np.empty(0, np.int64), *near]),
        first=np.cumsum(reach) - reach,
        reach=reach,
    )
