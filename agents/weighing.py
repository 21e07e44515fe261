"""Which joined rows end in a decision, and with what score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.alignment import MISSING
from agents.decisions import Weights
from agents.join import Joined
from models.weighting import Weighed, combine
from topics.pipeline import Weighting
from topics.stage_batch import Bools, Failure, Ints


@dataclass(frozen=True, slots=True)
class Verdict:
    """About N joined rows and their S weighed stages."""

    present: Bools
    """Which stages have an output (N, S)."""
    decidable: Bools
    """Which rows have what a decision needs (N,); the others are dead."""
    weighed: Weighed


class Scale:
    """Weighs joined rows as the pipeline file says."""

    def __init__(self, weighting: Weighting, weights: Weights) -> None:
        self._alpha = np.array([weights.values[name] for name in weighting.inputs])
        self._fail_incomplete = weighting.missing == "fail"

    def verdict(self, joined: Joined) -> Verdict:
        """Weigh the rows."""
        stages = list(joined.stages.values())
        present = np.stack([stage.present for stage in stages], axis=1)
        signals = np.stack([stage.signal for stage in stages], axis=1)
        enough = np.all if self._fail_incomplete else np.any
        decidable: Bools = enough(present, axis=1)
        return Verdict(present, decidable, combine(signals, present, self._alpha))


def causes_of_death(joined: Joined, verdict: Verdict, rows: Ints) -> list[Failure]:
    """Why *rows* cannot be decided: the first failure in stage order, or what is missing."""
    failures, names = joined.failures(), list(joined.stages)
    found: list[Failure] = []
    for row in rows.tolist():
        missing = [names[at] for at in np.flatnonzero(~verdict.present[row])]
        unexplained = Failure(row, missing[0], MISSING, f"no output of {', '.join(missing)}")
        found.append(failures.get(row, unexplained))
    return found
