"""Rows that are declared unseen by every model, behind those to train on."""

from __future__ import annotations

import numpy as np

from models.errors import HoldoutSeen
from models.training.data import TrainingData, with_windows
from topics.pipeline import Pipeline


def with_holdout(pipeline: Pipeline, data: TrainingData, holdout: TrainingData) -> TrainingData:
    """The rows of *data* and then those of *holdout*, each in order of time.

    Windowed features are those of all rows in order of time, as in service. Raises HoldoutSeen
    when events are in both, MissingField and LengthMismatch.
    """
    holdout.check(list(data.columns))
    _check_ids(pipeline, data, holdout)
    columns = {
        name: np.concatenate([column, holdout.columns[name]])
        for name, column in data.columns.items()
    }
    both = TrainingData(columns, np.concatenate([data.labels, holdout.labels]))
    order = np.argsort(columns[pipeline.event.time], kind="stable")
    in_time = with_windows(pipeline, both.picked(order))
    declared = order >= data.rows
    return in_time.picked(np.concatenate([np.flatnonzero(~declared), np.flatnonzero(declared)]))


def first_rows(data: TrainingData, rows: int) -> TrainingData:
    """The first *rows* of *data*."""
    return data if rows == data.rows else data.picked(np.arange(rows))


def _check_ids(pipeline: Pipeline, data: TrainingData, holdout: TrainingData) -> None:
    name = pipeline.event.id
    if name in pipeline.data.generated:  # row numbers begin anew in every file
        return
    common = set(data.columns[name].tolist()).intersection(holdout.columns[name].tolist())
    if common:
        raise HoldoutSeen(len(common), name, str(min(common, key=str)))
