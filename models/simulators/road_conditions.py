"""What a road meets: the day's demand, and the weather."""

from __future__ import annotations

import numpy as np

from models.arrays import Floats64

SATURDAY = 5
SHOWER_STARTS, SHOWER_ENDS = 1 / 600, 1 / 90
"""Chance in a minute: a shower every ten hours, for an hour and a half."""
SHOWER_MM_H = 2.0
WETS, DRIES = 0.1, 0.985


def demand(weekday: int, minutes: int) -> Floats64:
    """The share of capacity that is wanted, by minute of the day; 0 is Monday."""
    hour = np.arange(minutes) / 60
    if weekday >= SATURDAY:
        return 0.08 + _peak(hour, 14.0, 3.5, 0.6)
    midday = _peak(hour, 12.5, 3.0, 0.35)
    return 0.06 + _peak(hour, 8.0, 1.2, 0.75) + _peak(hour, 17.25, 1.5, 0.8) + midday


def _peak(hour: Floats64, at: float, width: float, height: float) -> Floats64:
    return height * np.exp(-0.5 * ((hour - at) / width) ** 2)


class Weather:
    """Showers over the whole network, and the water that they leave on the road."""

    def __init__(self) -> None:
        self._rain_mm_h = 0.0
        self._water = 0.0

    def day(self, rng: np.random.Generator, minutes: int) -> tuple[Floats64, Floats64]:
        """Rain in mm/h and water on the road, 0 dry to 1 wet, by minute."""
        rain, water = np.empty(minutes), np.empty(minutes)
        chances = rng.random(minutes).tolist()
        showers = rng.exponential(SHOWER_MM_H, minutes).tolist()
        for minute, (chance, shower) in enumerate(zip(chances, showers, strict=True)):
            if self._rain_mm_h and chance < SHOWER_ENDS:
                self._rain_mm_h = 0.0
            elif not self._rain_mm_h and chance < SHOWER_STARTS:
                self._rain_mm_h = shower
            wetted = DRIES * self._water + WETS * min(self._rain_mm_h, 1.0)
            self._water = min(1.0, wetted)
            rain[minute], water[minute] = self._rain_mm_h, self._water
        return rain, water
