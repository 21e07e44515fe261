"""What the outcomes that are known stand for, where some decisions let none become known.

Of a decision that exploration applies to (`policy: explore:`) only the events that were explored
tell, each of 1 / propensity events: Horvitz and Thompson, J. Am. Stat. Assoc. 47, 1952.
"""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Floats64


def outcome_weights(explored: Bools, propensity: Floats64) -> Floats64:
    """How many events the outcome of each of N events stands for (N,).

    1 / *propensity* for what was explored, and 1 for what is no matter of chance. What might have
    been explored and was not counts 0: if its outcome is known all the same, then because somebody
    had a reason to look; the explored events stand for it.

    >>> outcome_weights(np.array([True, False, False]), np.array([0.05, 0.95, 1.0])).tolist()
    [20.0, 0.0, 1.0]
    """
    return np.where(explored, 1 / propensity, np.where(propensity < 1, 0.0, 1.0))


def outcome_weight(*, explored: bool, propensity: float) -> float:
    """The same of one event.

    >>> outcome_weight(explored=True, propensity=0.05), outcome_weight(explored=False, propensity=1)
    (20.0, 1.0)
    """
    if explored:
        return 1 / propensity
    return 0.0 if propensity < 1 else 1.0
