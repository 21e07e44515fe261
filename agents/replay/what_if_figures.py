"""Figures of a what-if: of any of its events, before the change and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.replay.altered_decisions import AlteredDecisions
from agents.replay.what_if_report import (
    BINS,
    Flow,
    OutcomeFigures,
    Quality,
    ScoreShift,
    SegmentFigures,
    Taken,
)
from models.arrays import Bools, Floats64, Ints
from topics.pipeline import DecisionCost

_QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came true of N events."""

    known: Bools
    """(N,)."""
    labels: Bools
    """(N,); False where unknown."""
    ambiguous: int = 0
    """Events with an outcome whose id another event has too."""

    @classmethod
    def unknown(cls, count: int) -> Outcomes:
        """Of so many events nothing is known."""
        return cls(np.zeros(count, np.bool_), np.zeros(count, np.bool_))


@dataclass(frozen=True, slots=True)
class FigureMaker:
    """Makes figures of any of N events, before and after a change."""

    altered: AlteredDecisions
    outcomes: Outcomes
    otherwise: str
    """The decision of the lowest scores."""
    costs: Mapping[str, DecisionCost] | None

    def flows(self) -> list[Flow]:
        """Every pair of decisions, by how many events go that way; changes first."""
        altered, n = self.altered, len(self.altered.names)
        counts = np.bincount(altered.before * n + altered.after, minlength=n * n).tolist()
        flows = [
            Flow(
                before=altered.names[pair // n], after=altered.names[pair % n], events=count,
                share=count / len(altered.before),
            )
            for pair, count in enumerate(counts)
            if count
        ]  # fmt: skip
        return sorted(flows, key=lambda flow: (flow.before == flow.after, -flow.events))

    def shift(self, rows: Bools | None = None) -> ScoreShift | None:
        """How scores move; None where no event has both."""
        before, after = self.altered.scores_before, self.altered.scores_after
        both = np.isfinite(before) & np.isfinite(after)
        if rows is not None:
            both &= rows
        if not both.any():
            return None
        before, after = before[both], after[both]
        moved = after - before
        absolute = np.abs(moved)
        values = np.quantile(moved, _QUANTILES).tolist()
        return ScoreShift(
            events=len(moved), mean=float(moved.mean()), mean_absolute=float(absolute.mean()),
            largest_absolute=float(absolute.max()),
            quantiles={f"{at:g}": value for at, value in zip(_QUANTILES, values, strict=True)},
            before=_histogram(before), after=_histogram(after),
        )  # fmt: skip

    def quality(self, rows: Bools | None = None) -> OutcomeFigures | None:
        """What decisions are worth before and after; None where no outcome is known."""
        # One that would be dead has no decision to be judged by.
        known = self.outcomes.known & self.altered.decided
        if rows is not None:
            known &= rows
        if not known.any():
            return None
        labels, altered = self.outcomes.labels[known], self.altered
        before = self._quality(labels, altered.before[known], altered.scores_before[known])
        after = self._quality(labels, altered.after[known], altered.scores_after[known])
        cost = None
        if before.cost is not None and after.cost is not None:
            cost = after.cost - before.cost
        return OutcomeFigures(
            known=len(labels), positives=int(labels.sum()),
            ambiguous=self.outcomes.ambiguous if rows is None else 0,
            before=before, after=after, cost=cost,
        )  # fmt: skip

    def segments(self, names: Sequence[str], place: Ints) -> list[SegmentFigures]:
        """The segments by name; *place* (N,) says which one an event is in, -1 for none."""
        changed, figures = self.altered.changed, []
        for at, name in enumerate(names):
            rows = place == at
            events, moved = int(rows.sum()), int(changed[rows].sum())
            shift = self.shift(rows)
            figures.append(
                SegmentFigures(
                    segment=name,
                    events=events,
                    changed=moved,
                    share=moved / max(events, 1),
                    mean_shift=None if shift is None else shift.mean,
                    outcomes=self.quality(rows),
                )
            )
        return figures

    def _quality(self, labels: Bools, decided: Ints, scores: Floats64) -> Quality:
        names = self.altered.names
        events = np.bincount(decided, minlength=len(names)).tolist()
        positives = np.bincount(decided[labels], minlength=len(names)).tolist()
        taken = {
            name: Taken(events=n, positives=true)
            for name, n, true in zip(names, events, positives, strict=True)
            if n
        }
        flagged = [each for name, each in taken.items() if name != self.otherwise]
        found, of = sum(each.positives for each in flagged), sum(each.events for each in flagged)
        scored = np.isfinite(scores)
        auc, average_precision = _ranking(labels[scored], scores[scored])
        return Quality(
            decisions=taken, precision=found / of if of else None,
            recall=found / int(labels.sum()) if labels.any() else None,
            auc=auc, average_precision=average_precision, cost=self._cost(taken, len(labels)),
        )  # fmt: skip

    def _cost(self, taken: Mapping[str, Taken], events: int) -> float | None:
        """Mean cost; None without costs, or where those of a decision are not stated."""
        if self.costs is None or not taken.keys() <= self.costs.keys():
            return None
        total = sum(
            self.costs[name].positive * each.positives
            + self.costs[name].negative * (each.events - each.positives)
            for name, each in taken.items()
        )
        return total / events


def _histogram(scores: Floats64) -> list[int]:
    bins: list[int] = np.histogram(np.clip(scores, 0, 1), BINS, (0.0, 1.0))[0].tolist()
    return bins


def _ranking(labels: Bools, scores: Floats64) -> tuple[float | None, float | None]:
    """AUC ROC and average precision."""
    if not len(labels) or labels.all() or not labels.any():
        return None, None
    try:
        from models.report.quality import ranking
    except ImportError:  # an image that only serves has no scikit-learn
        return None, None
    ranks = ranking(labels, scores)
    return ranks.auc, ranks.average_precision
