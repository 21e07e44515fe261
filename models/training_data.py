"""The labelled rows that a pipeline is trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.component import Column
from models.training_errors import LengthMismatch, MissingField


@dataclass(frozen=True, slots=True)
class TrainingData:
    """N events as columns, in time order, and their outcomes."""

    columns: Mapping[str, Column]
    """Event field → N values, as in `models.component.Batch.columns`."""
    labels: NDArray[np.bool_]
    """The outcomes (N,)."""

    @property
    def rows(self) -> int:
        """N."""
        return len(self.labels)

    def slice(self, rows: slice) -> dict[str, Column]:
        """The columns of some rows."""
        return {name: column[rows] for name, column in self.columns.items()}

    def in_time_order(self, time: str) -> TrainingData:
        """The same rows, ordered by the column *time*; rows of one time keep their order."""
        times = self.columns[time]
        if (times[1:] >= times[:-1]).all():
            return self
        order = np.argsort(times, kind="stable")
        columns = {name: column[order] for name, column in self.columns.items()}
        return TrainingData(columns, self.labels[order])

    def dealt(self, seed: int) -> TrainingData:
        """The same rows at random, with the same share of positives all along (stratified)."""
        rng = np.random.default_rng(seed)
        places = np.empty(self.rows)
        for label in (False, True):
            rows = np.flatnonzero(self.labels == label)
            places[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / max(len(rows), 1)
        order = np.argsort(places, kind="stable")
        columns = {name: column[order] for name, column in self.columns.items()}
        return TrainingData(columns, self.labels[order])

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

    def digest(self) -> str:
        """sha256 over the columns, by name, and the labels: equal for equal data only."""
        hashed = hashlib.sha256()
        columns = {**self.columns, "": self.labels}
        for name in sorted(columns):
            column = columns[name]
            hashed.update(json.dumps([name, column.dtype.str, column.shape]).encode())
            hashed.update(_bytes(column))
        return f"sha256:{hashed.hexdigest()}"


def _bytes(column: Column) -> bytes:
    if column.dtype == object:
        return json.dumps(column.tolist()).encode()
    return np.ascontiguousarray(column).tobytes()
