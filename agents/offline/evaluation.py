"""How good the scores of a file are by the outcomes that stand in it: each stage's, and all's.

Figures and intervals are those of `models.quality`, by which decisions on a stream are judged too:
keys are resampled, not rows, as events of one key come true together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from agents.offline.errors import NothingToJudge
from agents.offline.row_tables import LABEL, RowTable
from models.quality import Figure, judged_figures
from models.report.training_report import COMPOSED
from topics.pipeline import Pipeline, Policy

RANKING = ("auc", "average_precision", "brier", "calibration_error")
"""Figures that each stage has; what depends on thresholds is of the composed score."""


class JudgedFigure(BaseModel):
    """A figure, and its 95 % interval where it has one."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, figure: Figure) -> JudgedFigure:
        """The same."""
        return cls(value=figure.value, low=figure.low, high=figure.high)


class FileEvaluation(BaseModel):
    """What a file says of a pipeline. Rows without an outcome or a decision are not judged."""

    model_config = ConfigDict(frozen=True)

    pipeline: str
    source: str
    rows: int
    dead: int
    unlabelled: int
    """Rows with a decision whose outcome is not known."""
    judged: int
    positives: int
    stages: dict[str, dict[str, JudgedFigure]]
    """Stage → figure → value; of the rows that it has a signal for."""
    composed: dict[str, JudgedFigure]
    """With `precision.DECISION` and `recall.DECISION`, of what reaches that decision's threshold,
    and `cost`, a row's mean, where the pipeline file states costs."""
    decisions: dict[str, int]
    """Of the rows judged."""
    models: dict[str, str]
    weights: int


class Judge:
    """Takes scored rows, and judges them in the end; it keeps a few numbers of each."""

    def __init__(self, pipeline: Pipeline, policy: Policy) -> None:
        self._pipeline, self._policy = pipeline, policy
        self._tables: list[Any] = []
        self._rows = self._dead = self._unlabelled = 0

    def take(self, rows: RowTable) -> None:
        """The next rows."""
        import pyarrow.compute as pc

        key = self._pipeline.event.key
        names = [*(f"signal.{name}" for name in self._pipeline.weighting.inputs), "score",
                 "decision", LABEL]  # fmt: skip
        kept = rows.table.select([_field(rows.table, key), *names]).rename_columns([key, *names])
        labelled = kept.filter(pc.is_valid(kept[LABEL]))
        self._rows += rows.table.num_rows + len(rows.dead)
        self._dead += len(rows.dead)
        self._unlabelled += kept.num_rows - labelled.num_rows
        self._tables.append(labelled)

    def evaluation(
        self, source: str, *, models: dict[str, str], weights: int, seed: int = 0
    ) -> FileEvaluation:
        """Judge all rows. Raises NothingToJudge."""
        import pyarrow as pa

        if not self._rows:
            raise NothingToJudge(source, "it has no rows")
        table = pa.concat_tables(self._tables).unify_dictionaries()
        labels = table[LABEL].to_numpy().astype(np.bool_)
        if not len(labels):
            label = self._pipeline.data.label
            why = f"none of {self._rows:,} rows has both a decision and an outcome (column {label})"
            if label is None:
                why = "the pipeline file names no label column: add data.label to it"
            raise NothingToJudge(source, why)
        if labels.all() or not labels.any():
            raise NothingToJudge(
                source, f"all {len(labels):,} rows have the outcome {str(bool(labels[0])).lower()}:"
                " nothing can be ranked; data.positive in the pipeline file says which is true",
            )  # fmt: skip
        keys = [str(key) for key in table[self._pipeline.event.key].to_pylist()]
        stages = {
            name: self._stage(table[f"signal.{name}"], labels, keys, seed)
            for name in self._pipeline.weighting.inputs
        }
        composed = _figures(labels, table["score"].to_numpy(), keys, self._policy, seed)
        return FileEvaluation(
            pipeline=self._pipeline.name, source=source, rows=self._rows, dead=self._dead,
            unlabelled=self._unlabelled, judged=len(labels), positives=int(labels.sum()),
            stages=stages, composed=composed,
            decisions=dict(Counter(table["decision"].to_pylist()).most_common()),
            models=models, weights=weights,
        )  # fmt: skip

    @staticmethod
    def _stage(
        signals: Any, labels: Any, keys: Sequence[str], seed: int
    ) -> dict[str, JudgedFigure]:
        there = np.flatnonzero(~np.asarray(signals.is_null().to_numpy()))
        if not len(there):
            return {}
        values = signals.drop_null().to_numpy().astype(np.float64)
        figures = _figures(labels[there], values, [keys[row] for row in there.tolist()], None, seed)
        return {name: figure for name, figure in figures.items() if name in RANKING}

    def curves(self) -> dict[str, tuple[Any, Any]]:
        """Stage, or COMPOSED → labels and values (N,) each, for a plot."""
        import pyarrow as pa

        table = pa.concat_tables(self._tables)
        columns = {name: f"signal.{name}" for name in self._pipeline.weighting.inputs}
        found = {}
        for name, column in {**columns, COMPOSED: "score"}.items():
            part = table.select([LABEL, column]).drop_null()
            found[name] = (
                part[LABEL].to_numpy().astype(np.bool_), part[column].to_numpy().astype(np.float64)
            )  # fmt: skip
        return found


def _field(table: Any, name: str) -> str:
    return f"field.{name}" if f"field.{name}" in table.column_names else name


def _figures(
    labels: Any, scores: Any, keys: Sequence[str], policy: Policy | None, seed: int
) -> dict[str, JudgedFigure]:
    figures = judged_figures(
        labels, scores, np.ones(len(scores)), keys, policy, np.random.default_rng(seed)
    )
    return {name: JudgedFigure.of(figure) for name, figure in figures.items()}
