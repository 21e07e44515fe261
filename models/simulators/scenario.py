"""What a simulated stream yields, and what may happen to it: inputs that drift, and incidents.

Times are days of event time since the stream's start, as fractions: 1.5 is noon of the
second day. What a shift or an incident does is the simulator's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.arrays import Bools, Floats64


class LabelledEvent(NamedTuple):
    """An event as producers publish it, and its outcome, which is never part of it."""

    event: dict[str, object]
    label: bool


@dataclass(frozen=True, slots=True)
class Incident:
    """A burst: it starts at once, lasts, and is over."""

    start_day: float = 8 / 24
    hours: float = 2.0

    @property
    def end_day(self) -> float:
        """When it is over; that moment is no part of it."""
        return self.start_day + self.hours / 24


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a stream departs from the usual; without arguments it does not.

    >>> Scenario(drift=2.0, drift_from_day=1, drift_days=4).shift(np.array([0.0, 2.0, 9.0]))
    array([0. , 0.5, 2. ])
    """

    drift: float = 0.0
    """How far the inputs have moved once the drift is complete."""
    drift_from_day: float = 0.0
    drift_days: float = 1.0
    """How long they move, evenly; then they stay there."""
    incidents: tuple[Incident, ...] = ()

    def shift(self, days: Floats64) -> Floats64:
        """How far the inputs have moved at each of *days*: from 0 to `drift`."""
        since = (days - self.drift_from_day) / self.drift_days
        return self.drift * np.clip(since, 0.0, 1.0)

    def in_incident(self, days: Floats64) -> Bools:
        """Whether an incident goes on at each of *days*."""
        going = np.zeros(days.shape, np.bool_)
        for incident in self.incidents:
            going |= (days >= incident.start_day) & (days < incident.end_day)
        return going


CALM = Scenario()
"""No drift, no incident."""
