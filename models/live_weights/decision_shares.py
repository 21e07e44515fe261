"""Thresholds that move with the weights, so that no decision becomes more or less frequent by it.

Other weights give other scores, and the same thresholds then decide otherwise of the same traffic:
twice as many reviews, say, for people who are not twice as many. The guard holds both sets of
weights against the same recent rows. Where the share of some decision would leave the band around
what it is with the trained weights and their policy, thresholds are matched: each goes to the score
from which on are as many rows as are from the old threshold on with the trained weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Floats32, Floats64
from models.weighting import combine

_LEAST_GAP = 1e-9
"""Between thresholds, which ascend strictly."""


@dataclass(frozen=True, slots=True)
class ThresholdMove:
    """Thresholds for other weights, and what they come to on recent rows."""

    thresholds: Floats64
    """(T,), ascending."""
    moved: bool
    """They are others than the policy's."""
    shares: Floats64
    """Of each of T+1 decisions with the other weights and these thresholds."""


class ScoreWindow:
    """Signals of the newest rows, at most *size*."""

    def __init__(self, size: int, stages: int) -> None:
        self._signals = np.zeros((size, stages), np.float32)
        self._present = np.zeros((size, stages), np.bool_)
        self._next = 0
        self.rows = 0
        """How many there are."""

    def add(self, signals: Floats32, present: Bools) -> None:
        """Take in N rows (N, S); they replace the oldest."""
        size = len(self._signals)
        signals, present = signals[-size:], present[-size:]
        places = (self._next + np.arange(len(signals))) % size
        self._signals[places], self._present[places] = signals, present
        self._next = int((self._next + len(signals)) % size)
        self.rows = min(size, self.rows + len(signals))

    def scores(self, alpha: Floats64) -> Floats64:
        """What *alpha* (S,) makes of the rows, ascending; rows without any stage have none."""
        signals, present = self._signals[: self.rows], self._present[: self.rows]
        scores = combine(signals, present, alpha).scores
        return np.sort(scores[~np.isnan(scores)])


def guarded_thresholds(
    shares: Floats64, scores: Floats64, thresholds: Floats64, band: float
) -> ThresholdMove:
    """The thresholds (T,) that keep the share of each decision within *band* of what it was.

    *shares* (T+1,) are those of the trained weights, *scores* (N,), ascending, what the others make
    of recent rows; a band of 0.2 lets a share of 5 % become 4 to 6 %. Without rows, and where all
    is within the band, the thresholds stay. Rows of one score are decided alike, however many.

    >>> scores = np.arange(100) / 200
    >>> guarded_thresholds(np.array([0.9, 0.1]), scores, np.array([0.9]), 0.2).thresholds.tolist()
    [0.45]
    """
    n, unmoved = len(scores), decision_shares(scores, thresholds)
    # One row more or less is no matter of weights.
    if not n or (np.abs(unmoved - shares) <= band * shares + 1 / n).all():
        return ThresholdMove(thresholds, False, unmoved)
    moved = [
        _cut(scores, round(below * n), threshold)
        for below, threshold in zip(
            np.cumsum(shares)[:-1].tolist(), thresholds.tolist(), strict=True
        )
    ]
    for at in range(1, len(moved)):
        moved[at] = max(moved[at], moved[at - 1] + _LEAST_GAP)
    for at in reversed(range(len(moved))):
        moved[at] = min(moved[at], 1.0 - (len(moved) - 1 - at) * _LEAST_GAP)
    ascending = np.array(moved)
    return ThresholdMove(ascending, True, decision_shares(scores, ascending))


def decision_shares(scores: Floats64, thresholds: Floats64) -> Floats64:
    """Share of *scores* (N,), ascending, below the first threshold, and from each on (T+1,)."""
    places = [0, *np.searchsorted(scores, thresholds, "left").tolist(), len(scores)]
    shares: Floats64 = np.diff(places) / max(1, len(scores))
    return shares


def _cut(scores: Floats64, place: int, threshold: float) -> float:
    """The threshold below which *place* of the *scores* lie.

    At an end of the scores there is nothing to match: a threshold that no row has reached is not
    lowered to what none has reached either, and one that each has reached is not raised.
    """
    if place >= len(scores):
        return max(threshold, float(np.nextafter(scores[-1], 2.0)))
    return float(scores[place]) if place else min(threshold, float(scores[0]))
