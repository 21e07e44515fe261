"""The labelled rows that a pipeline is trained on, and those declared unseen behind them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.arrays import Bools, Floats64, Ints
from models.component import Column, StageOutput
from models.errors import HoldoutSeen, LengthMismatch, MissingField
from models.features import over_all_rows
from topics.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class TrainingData:
    """N events as columns, in time order, and their outcomes."""

    columns: Mapping[str, Column]
    """Event field → N values, as in `models.component.Batch.columns`."""
    labels: Bools
    """The outcomes (N,)."""
    windowed: Mapping[str, Mapping[str, Column]] = field(default_factory=dict)
    """Component → its windowed features, of N values each; see `with_windows`."""
    weights: Floats64 | None = None
    """How many events each outcome stands for (N,), above 0; None: each for its own."""
    called: Mapping[str, StageOutput] = field(default_factory=dict)
    """Component that calls another system → its answers; see `called_rows`."""

    @property
    def rows(self) -> int:
        """N."""
        return len(self.labels)

    def weights_of(self, rows: slice) -> Floats64 | None:
        """Of some rows; None where each outcome stands for its own event."""
        return None if self.weights is None else self.weights[rows]

    def picked(self, rows: Bools | Ints) -> TrainingData:
        """Some rows, in the order given."""

        def of(columns: Mapping[str, Column]) -> dict[str, Column]:
            return {name: column[rows] for name, column in columns.items()}

        windowed = {name: of(columns) for name, columns in self.windowed.items()}
        called = {
            name: StageOutput(stage.output[rows], stage.signal[rows])
            for name, stage in self.called.items()
        }
        weights = None if self.weights is None else self.weights[rows]
        return TrainingData(of(self.columns), self.labels[rows], windowed, weights, called)

    def in_time_order(self, time: str) -> TrainingData:
        """The same rows, ordered by the column *time*; rows of one time keep their order."""
        times = self.columns[time]
        if (times[1:] >= times[:-1]).all():
            return self
        order = np.argsort(times, kind="stable")
        return self.picked(order)

    def dealt(self, seed: int) -> TrainingData:
        """The same rows at random, with the same share of positives all along (stratified)."""
        rng = np.random.default_rng(seed)
        places = np.empty(self.rows)
        for label in (False, True):
            rows = np.flatnonzero(self.labels == label)
            places[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / max(len(rows), 1)
        order = np.argsort(places, kind="stable")
        return self.picked(order)

    def check(self, fields: Sequence[str]) -> None:
        """Raise MissingField or LengthMismatch unless each of *fields* has N values."""
        if missing := [name for name in dict.fromkeys(fields) if name not in self.columns]:
            raise MissingField(missing)
        lengths = {name: len(column) for name, column in self.columns.items()}
        rows = len(next(iter(self.columns.values())))
        for name, length in lengths.items():
            if length != rows:
                raise LengthMismatch(f"the column {name}", length, rows)
        if self.labels.shape != (rows,):
            raise LengthMismatch("the labels", len(self.labels), rows)

    def constant(self, fields: Sequence[str]) -> list[str]:
        """Those of *fields* that have the same value in all rows."""
        columns = [(name, self.columns[name]) for name in fields]
        return [name for name, column in columns if len(column) and (column == column[:1]).all()]

    def digest(self) -> str:
        """sha256 over the columns, by name, and the labels: equal for equal data only."""
        hashed = hashlib.sha256()
        windowed = {f"{component}.{name}": column for component, its in self.windowed.items()
                    for name, column in its.items()}  # fmt: skip
        columns = {**self.columns, **windowed, "": self.labels}
        if self.weights is not None:
            columns[" weights"] = self.weights
        for name in sorted(columns):
            column = columns[name]
            hashed.update(json.dumps([name, column.dtype.str, column.shape]).encode())
            hashed.update(_bytes(column))
        return f"sha256:{hashed.hexdigest()}"


def with_windows(pipeline: Pipeline, data: TrainingData) -> TrainingData:
    """The data, in time order, with the windowed features of every row.

    Those that it has already stay: they may be of more rows than are left.
    """
    stateful = [spec.name for spec in pipeline.components if spec.windowed]
    if data.windowed or not stateful:
        return data
    windowed = {name: over_all_rows(pipeline, name, data.columns, data.labels) for name in stateful}
    return replace(data, windowed=windowed)


def with_holdout(pipeline: Pipeline, data: TrainingData, holdout: TrainingData) -> TrainingData:
    """The rows of *data* and then those of *holdout*, each in order of time.

    Windowed features are those of all rows in order of time, as in service, unless both have them.
    Raises HoldoutSeen when events are in both, MissingField and LengthMismatch.
    """
    holdout.check(list(data.columns))
    _check_ids(pipeline, data, holdout)
    columns = {
        name: np.concatenate([column, holdout.columns[name]])
        for name, column in data.columns.items()
    }
    windowed = {
        name: {column: np.concatenate([values, holdout.windowed[name][column]])
               for column, values in of.items()}
        for name, of in data.windowed.items()
    } if data.windowed.keys() == holdout.windowed.keys() else {}  # fmt: skip
    weights = None
    if data.weights is not None or holdout.weights is not None:
        weights = np.concatenate([
            np.ones(each.rows) if each.weights is None else each.weights for each in (data, holdout)
        ])  # fmt: skip
    both = TrainingData(columns, np.concatenate([data.labels, holdout.labels]), windowed, weights)
    order = np.argsort(columns[pipeline.event.time], kind="stable")
    in_time = with_windows(pipeline, both.picked(order))
    declared = order >= data.rows
    return in_time.picked(np.concatenate([np.flatnonzero(~declared), np.flatnonzero(declared)]))


def joined(parts: Sequence[TrainingData]) -> TrainingData:
    """The rows of *parts*, of which there is one at least, one after the other."""
    first = parts[0]
    weights = None
    if any(part.weights is not None for part in parts):
        weights = np.concatenate([
            np.ones(part.rows) if part.weights is None else part.weights for part in parts
        ])  # fmt: skip
    return TrainingData(
        {name: np.concatenate([part.columns[name] for part in parts]) for name in first.columns},
        np.concatenate([part.labels for part in parts]),
        {
            name: {
                column: np.concatenate([part.windowed[name][column] for part in parts])
                for column in of
            }
            for name, of in first.windowed.items()
        },
        weights,
    )


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


def _bytes(column: Column) -> bytes:
    if column.dtype == object:
        return json.dumps(column.tolist()).encode()
    return np.ascontiguousarray(column).tobytes()
