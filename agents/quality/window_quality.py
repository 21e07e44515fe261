"""The quality of one window: decisions with their outcomes to what is published of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import orjson

from agents.monitor import LabelledDecisions
from agents.quality.promises import Promises, outside
from models.arrays import Bools, Floats64
from models.quality import Calibration, Figure, estimated_figures, judged_figures
from models.report.selective_labels import outcome_weights
from topics.pipeline import Pipeline, Policy
from topics.records import (
    COMPOSED,
    DecisionCoverage,
    Interval,
    QualityFinding,
    SubjectQuality,
    rfc3339_time,
)

MOST_SEGMENTS = 20
"""Of each field, the values that most decisions have."""
_METHOD = (
    "95 % intervals: bootstrap of keys, Poisson frequencies, 200 replicates, percentiles; rows "
    "count by 1 / propensity where explored; estimates: CBPE"
)
Estimates = Mapping[str, Mapping[str, Interval]]
"""Subject → figure → what was estimated."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window of event time, in milliseconds: [start, end)."""

    start_ms: int
    end_ms: int


class WindowJudge:
    """Judges windows of one pipeline; the same rows always to the same figures."""

    def __init__(self, pipeline: Pipeline, promises: Promises) -> None:
        self._pipeline, self._promises = pipeline, promises

    def matured(
        self, window: Window, rows: LabelledDecisions, policy: Policy, revision: int,
        estimates: Estimates,
    ) -> QualityFinding:  # fmt: skip
        """The finding on a window whose outcomes are there."""
        decisions, known = rows.decisions, rows.known & (_weights(rows) > 0)
        scored = known & np.isfinite(decisions.scores)
        subjects = [self._subject(window, rows, COMPOSED, decisions.scores, scored, policy)]
        for column, stage in enumerate(decisions.stages):
            signals = decisions.signals[:, column]
            present = known & np.isfinite(signals)
            subjects.append(self._subject(window, rows, stage, signals, present, None))
        subjects += [
            self._subject(window, rows, name, decisions.scores, scored & of_segment, policy)
            for name, of_segment in self._segments(rows)
        ]
        if _unknown(_coverage(rows)):
            # Cards speak of all events: without those that are declined, most of them fraud,
            # figures are worse whatever the models do.
            subjects = [each.model_copy(update={"outside": []}) for each in subjects]
        against = [_against(each, estimates.get(each.subject, {})) for each in subjects]
        return self._finding(window, "matured", rows, revision, against)

    def estimated(
        self, window: Window, rows: LabelledDecisions, policy: Policy, revision: int,
        calibrations: Mapping[str, Calibration],
    ) -> QualityFinding:  # fmt: skip
        """The finding on a window whose outcomes are not there: what they are likely to show."""
        decisions, subjects = rows.decisions, []
        columns = {COMPOSED: decisions.scores} | {
            stage: decisions.signals[:, column] for column, stage in enumerate(decisions.stages)
        }
        for name, values in columns.items():
            there = np.isfinite(values)
            if name not in calibrations or not there.any():
                continue
            keys = [decisions.keys[row] for row in np.flatnonzero(there).tolist()]
            figures = estimated_figures(
                values[there], calibrations[name], keys, policy if name == COMPOSED else None,
                _rng(window, name),
            )  # fmt: skip
            models = _models(rows, name, there)
            promised = self._promised(rows, name, models, there)
            subjects.append(SubjectQuality(
                subject=name, rows=int(there.sum()), positives=0, figures=_published(figures),
                models=models, promised=promised, outside=outside(figures, promised),
            ))  # fmt: skip
        return self._finding(window, "estimated", rows, revision, subjects)

    def _subject(
        self, window: Window, rows: LabelledDecisions, name: str, scores: Floats64, there: Bools,
        policy: Policy | None,
    ) -> SubjectQuality:  # fmt: skip
        labels, figures = rows.positive[there], dict[str, Figure]()
        if there.any():
            decisions = rows.decisions
            keys = [decisions.keys[row] for row in np.flatnonzero(there).tolist()]
            figures = judged_figures(
                labels, scores[there], _weights(rows)[there], keys, policy,
                _rng(window, name),
            )  # fmt: skip
        models = _models(rows, name, there)
        promised = {} if "=" in name else self._promised(rows, name, models, there)
        return SubjectQuality(
            subject=name, rows=len(labels), positives=int(labels.sum()),
            figures=_published(figures), models=models, promised=promised,
            outside=outside(figures, promised),
        )  # fmt: skip

    def _promised(
        self, rows: LabelledDecisions, name: str, models: Sequence[str], there: Bools
    ) -> dict[str, float]:
        if name != COMPOSED:
            return self._promises.of_component(models)
        return self._promises.of_weights(np.unique(rows.decisions.weights[there]).tolist())

    def _segments(self, rows: LabelledDecisions) -> list[tuple[str, Bools]]:
        """FIELD=VALUE, and which rows (N,) are of it; the most frequent values alone."""
        segments: list[tuple[str, Bools]] = []
        contents = [None if text is None else orjson.loads(text) for text in rows.values]
        for place, field in enumerate(self._pipeline.quality.segments):
            values = [None if row is None else str(row[place]) for row in contents]
            counts = Counter(value for value in values if value is not None)
            segments += [
                (f"{field}={value}", np.array([each == value for each in values], np.bool_))
                for value, _ in counts.most_common(MOST_SEGMENTS)
            ]
        return segments

    def _finding(
        self, window: Window, state: Literal["estimated", "matured"], rows: LabelledDecisions,
        revision: int, subjects: list[SubjectQuality],
    ) -> QualityFinding:  # fmt: skip
        coverage = _coverage(rows)
        return QualityFinding(
            pipeline=self._pipeline.name, since=rfc3339_time(window.start_ms),
            until=rfc3339_time(window.end_ms), state=state, revision=revision,
            decisions=len(rows), known=int(rows.known.sum()), coverage=coverage,
            unknown=_unknown(coverage) if state == "matured" else [], subjects=subjects,
            method=_METHOD,
        )  # fmt: skip


def calibrations(rows: LabelledDecisions) -> dict[str, Calibration]:
    """Subject → what makes its scores probabilities, by rows whose outcomes are known."""
    decisions, weights = rows.decisions, _weights(rows)
    columns = {COMPOSED: decisions.scores} | {
        stage: decisions.signals[:, column] for column, stage in enumerate(decisions.stages)
    }
    fitted = dict[str, Calibration]()
    for name, values in columns.items():
        there = rows.known & np.isfinite(values) & (weights > 0)
        calibration = Calibration.fitted(rows.positive[there], values[there], weights[there])
        if calibration is not None:
            fitted[name] = calibration
    return fitted


def _weights(rows: LabelledDecisions) -> Floats64:
    """How many events each of N rows stands for."""
    return outcome_weights(rows.decisions.explored, rows.decisions.propensity)


def _coverage(rows: LabelledDecisions) -> dict[str, DecisionCoverage]:
    counts = dict[str, list[int]]()
    explored = rows.decisions.explored.tolist()
    for name, known, is_explored in zip(
        rows.decisions.decided, rows.known.tolist(), explored, strict=True
    ):
        of = counts.setdefault(name, [0, 0, 0])
        of[0] += 1
        of[1] += known
        of[2] += known and is_explored
    return {
        name: DecisionCoverage(decisions=of[0], known=of[1], explored=of[2])
        for name, of in sorted(counts.items())
    }


def _unknown(coverage: Mapping[str, DecisionCoverage]) -> list[str]:
    """What figures cannot say for want of outcomes."""
    return [
        f"{name}: of none of {of.decisions:,} it is known what came true, and none was explored: "
        "these figures say nothing of such events, and are not held against what was promised"
        for name, of in coverage.items()
        if not of.known and not any(each.explored for each in coverage.values())
    ]


def _models(rows: LabelledDecisions, name: str, there: Bools) -> list[str]:
    """component@version of what gave the signals of component *name*."""
    named = {rows.decisions.models[row] for row in np.flatnonzero(there).tolist()}
    return sorted({each.model for models in named for each in models if each.stage == name})


def _published(figures: Mapping[str, Figure]) -> dict[str, Interval]:
    return {
        name: Interval(value=figure.value, low=figure.low, high=figure.high)
        for name, figure in figures.items()
    }


def _against(subject: SubjectQuality, estimated: Mapping[str, Interval]) -> SubjectQuality:
    """The same with what was estimated of it, and how far off that was."""
    errors = {
        name: estimate.value - subject.figures[name].value
        for name, estimate in estimated.items()
        if name in subject.figures
    }
    return subject.model_copy(update={"estimated": dict(estimated), "estimate_error": errors})


def _rng(window: Window, name: str) -> np.random.Generator:
    """The same for the same window and subject: figures do not move by being made again."""
    return np.random.default_rng([max(0, window.start_ms), *name.encode()])
