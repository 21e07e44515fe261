"""Counts by time in at most 120 bins, however long it goes on: bins double their width."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from topics.records import Decision

MOST_BINS = 120
_FIRST_WIDTH_MS = 1000
_SCORE_BINS = 200
_LATENCY_STEPS = 160
_PER_TENFOLD = 20
"""Steps of latency: a step is an eighth longer than the one before, from 1 ms on."""
_MOST_NAMES = 50


@dataclass(slots=True)
class BinCounts:
    """What ended in one bin of time."""

    decisions: Counter[str] = field(default_factory=Counter)
    explored: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    """Rows by what made them: `risk@3`, `weights@2`, `policy card-fraud@1`."""
    dead_letters: int = 0
    degraded: int = 0
    late: int = 0
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_SCORE_BINS, np.int64))
    latencies: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LATENCY_STEPS, np.int64))
    weights: dict[str, float] = field(default_factory=dict)
    """Stage → the sum of its weights."""

    @property
    def decided(self) -> int:
        """Decisions."""
        return self.decisions.total()

    def count(self, decision: Decision) -> None:
        """Take in one decision."""
        self.decisions[decision.decision] += 1
        self.degraded += decision.degraded
        self.late += decision.decided_by == "late"
        if decision.explored:
            self.explored[decision.decision] += 1
        if decision.score is not None:
            self.scores[min(int(decision.score * _SCORE_BINS), _SCORE_BINS - 1)] += 1
        self.latencies[latency_step(decision.latency_ms)] += 1
        for stage, part in decision.contributions.items():
            self.weights[stage] = self.weights.get(stage, 0.0) + part.weight
            self._version(part.model)
        self._version(f"weights@{decision.weights}")
        self._version(f"policy {decision.policy}")

    def _version(self, name: str) -> None:
        if name in self.versions or len(self.versions) < _MOST_NAMES:
            self.versions[name] += 1
        else:
            self.versions["others"] += 1

    def add(self, other: BinCounts) -> None:
        """Take in all of another one."""
        self.decisions += other.decisions
        self.explored += other.explored
        self.versions += other.versions
        self.dead_letters += other.dead_letters
        self.degraded += other.degraded
        self.late += other.late
        self.scores = self.scores + other.scores
        self.latencies = self.latencies + other.latencies
        for stage, weight in other.weights.items():
            self.weights[stage] = self.weights.get(stage, 0.0) + weight


class TimeBins:
    """Bins of equal width, a second at first."""

    def __init__(self) -> None:
        self.width_ms = _FIRST_WIDTH_MS
        self._bins: dict[int, BinCounts] = {}

    def at(self, time_ms: int) -> BinCounts:
        """The bin of a time."""
        place = time_ms // self.width_ms
        if (counts := self._bins.get(place)) is not None:
            return counts
        self._bins[place] = BinCounts()
        while max(self._bins) - min(self._bins) >= MOST_BINS:
            self._double()
        return self._bins[time_ms // self.width_ms]

    def _double(self) -> None:
        wider: dict[int, BinCounts] = {}
        for place, counts in self._bins.items():
            wider.setdefault(place // 2, BinCounts()).add(counts)
        self._bins, self.width_ms = wider, self.width_ms * 2

    @property
    def bins(self) -> list[tuple[int, BinCounts]]:
        """Where each begins, in milliseconds, and its counts; empty ones between are there, too."""
        if not self._bins:
            return []
        places = range(min(self._bins), max(self._bins) + 1)
        return [(place * self.width_ms, self._bins.get(place, BinCounts())) for place in places]

    @property
    def total(self) -> BinCounts:
        """All bins together."""
        whole = BinCounts()
        for counts in self._bins.values():
            whole.add(counts)
        return whole


def latency_step(latency_ms: float) -> int:
    """The step of a latency.

    >>> [latency_step(each) for each in (0, 1, 10, 1e9)]
    [0, 0, 20, 159]
    """
    place = int(np.floor(_PER_TENFOLD * np.log10(max(latency_ms, 1.0)) + 1e-9))
    return min(place, _LATENCY_STEPS - 1)


def latency_quantile(counts: NDArray[np.int64], share: float) -> float | None:
    """The latency in ms below which so large a *share* is, to 12 %; None of nothing.

    >>> counts = np.zeros(160, np.int64)
    >>> counts[20] = 5
    >>> round(latency_quantile(counts, 0.5), 1)
    10.6
    """
    if not counts.sum():
        return None
    step = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
    return float(10 ** ((step + 0.5) / _PER_TENFOLD))


def score_quantile(counts: NDArray[np.int64], share: float) -> float | None:
    """The score below which so large a *share* is, to half a percent; None of nothing."""
    if not counts.sum():
        return None
    place = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
    return float((place + 0.5) / _SCORE_BINS)
