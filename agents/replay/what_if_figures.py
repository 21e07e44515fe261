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
from models.report.intervals import (
    Estimate,
    auc_of,
    effective_rows,
    mean_of,
    precision_interval,
    share_of,
)
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
    weights: Floats64 | None = None
    """How many events the outcome of each stands for (N,), see `models.report.selective_labels`;
    itself alone without."""

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
        weights = np.ones(len(known)) if self.weights is None else self.weights
        not_weighed = int((known & (weights == 0)).sum())
        known &= weights > 0
        if not known.any():
            return None
        labels, altered, weights = self.outcomes.labels[known], self.altered, weights[known]
        before = self._quality(labels, altered.before[known], altered.scores_before[known], weights)
        after = self._quality(labels, altered.after[known], altered.scores_after[known], weights)
        more = None
        if before.cost is not None and after.cost is not None:
            costs = [self._costs(labels, of[known]) for of in (altered.before, altered.after)]
            more = mean_of(costs[1] - costs[0], weights)
        return OutcomeFigures(
            known=len(labels), positives=int(labels.sum()),
            ambiguous=self.outcomes.ambiguous if rows is None else 0,
            before=before, after=after, cost=None if more is None else more.value,
            cost_interval=None if more is None else (more.low, more.high),
            explored=int((weights > 1).sum()), stands_for=float(weights.sum()),
            not_weighed=not_weighed,
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

    def _quality(
        self, labels: Bools, decided: Ints, scores: Floats64, weights: Floats64
    ) -> Quality:
        names = self.altered.names
        events = np.bincount(decided, minlength=len(names)).tolist()
        positives = np.bincount(decided[labels], minlength=len(names)).tolist()
        taken = {
            name: Taken(events=n, positives=true)
            for name, n, true in zip(names, events, positives, strict=True)
            if n
        }
        flagged = decided != names.index(self.otherwise)
        scored = np.isfinite(scores)
        has_costs = self.costs is not None and taken.keys() <= self.costs.keys()
        figures = {
            "precision": share_of(labels[flagged], weights[flagged]),
            "recall": share_of(flagged[labels], weights[labels]),
            "cost": mean_of(self._costs(labels, decided), weights) if has_costs else None,
            **_ranking(labels[scored], scores[scored], weights[scored]),
        }
        return Quality(
            decisions=taken,
            **{name: None if of is None else of.value for name, of in figures.items()},
            intervals={name: (of.low, of.high) for name, of in figures.items() if of is not None},
        )

    def _costs(self, labels: Bools, decided: Ints) -> Floats64:
        """What each of N events costs; 0 for a decision whose costs are not stated."""
        stated = [(self.costs or {}).get(name, DecisionCost()) for name in self.altered.names]
        positive = np.array([each.positive for each in stated])[decided]
        return np.where(labels, positive, np.array([each.negative for each in stated])[decided])


def _histogram(scores: Floats64) -> list[int]:
    bins: list[int] = np.histogram(np.clip(scores, 0, 1), BINS, (0.0, 1.0))[0].tolist()
    return bins


def _ranking(labels: Bools, scores: Floats64, weights: Floats64) -> dict[str, Estimate | None]:
    """AUC ROC and average precision."""
    auc, precision = auc_of(labels, scores, weights), None
    if auc is not None:
        try:
            from models.report.quality import ranking
        except ImportError:  # an image that only serves has no scikit-learn
            return {"auc": auc, "average_precision": None}
        value = ranking(labels, scores, weights).average_precision
        precision = Estimate(value, *precision_interval(value, effective_rows(weights[labels])))
    return {"auc": auc, "average_precision": precision}
