"""What was served, from a file that `anabranch dataset` has written: windows, and chances.

Of the rows that have an outcome, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from models.arrays import Bools, Floats32, Floats64
from models.data.errors import FeaturesNotServed
from models.data.formats import arrow_errors
from topics.pipeline import OUTCOME

if TYPE_CHECKING:
    from topics.pipeline import Pipeline

_BATCH_ROWS = 65_536
_EXPLORED, _PROPENSITY = "explored", "propensity"

Windows = Mapping[str, Mapping[str, Floats32]]
"""Component → windowed feature → its values (N,), NaN where the component had no output."""


class ServedPart(NamedTuple):
    """What was served of N rows that have an outcome."""

    windowed: Windows
    explored: Bools
    """Whether the decision was explored (N,)."""
    propensity: Floats64
    """The probability with which it was what it was (N,); 1 for an event without a decision."""

    def picked(self, rows: slice | Bools) -> ServedPart:
        """Some of them."""
        windowed = {
            name: {column: values[rows] for column, values in of.items()}
            for name, of in self.windowed.items()
        }
        return ServedPart(windowed, self.explored[rows], self.propensity[rows])


def served_parts(
    pipeline: Pipeline, path: str, batch_rows: int = _BATCH_ROWS
) -> Iterator[ServedPart]:
    """The rows of a file in parts; one at least.

    Raises FeaturesNotServed where the file lacks a feature that the pipeline file has now: of the
    rows with an outcome alone its window would be another.
    """
    names = {
        (spec.name, column): f"{spec.name}.{column}"
        for spec in pipeline.components
        for feature in spec.windowed
        for column in feature.columns
    }
    with arrow_errors(path):
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            if lacking := [name for name in names.values() if name not in there]:
                raise FeaturesNotServed(path, lacking)
            chances = [name for name in (_EXPLORED, _PROPENSITY) if name in there]
            wanted = [OUTCOME, *names.values(), *chances]
            count = 0
            for batch in file.iter_batches(batch_rows, columns=wanted):
                yield _part(batch, names)
                count += 1
            if not count:
                windowed: dict[str, dict[str, Floats32]] = {}
                for component, column in names:
                    windowed.setdefault(component, {})[column] = np.zeros(0, np.float32)
                yield ServedPart(windowed, np.zeros(0, np.bool_), np.ones(0))


def joined_parts(parts: list[ServedPart]) -> ServedPart:
    """The rows of *parts*, of which there is one at least, one after the other."""
    windowed = {
        name: {column: np.concatenate([part.windowed[name][column] for part in parts])
               for column in of}
        for name, of in parts[0].windowed.items()
    }  # fmt: skip
    return ServedPart(
        windowed,
        np.concatenate([part.explored for part in parts]),
        np.concatenate([part.propensity for part in parts]),
    )


def _part(batch: Any, names: Mapping[tuple[str, str], str]) -> ServedPart:
    """The rows of a pyarrow batch that have an outcome."""
    known = batch.column(OUTCOME).is_valid().to_numpy(zero_copy_only=False)
    windowed: dict[str, dict[str, Floats32]] = {}
    for (component, column), name in names.items():
        values = batch.column(name).to_numpy(zero_copy_only=False)[known]
        windowed.setdefault(component, {})[column] = values.astype(np.float32)
    explored, propensity = np.zeros(int(known.sum()), np.bool_), np.ones(int(known.sum()))
    if {_EXPLORED, _PROPENSITY} <= {*batch.schema.names}:
        explored = np.array(batch.column(_EXPLORED).fill_null(False), np.bool_)[known]
        chance = batch.column(_PROPENSITY).to_numpy(zero_copy_only=False)[known]
        propensity = np.where(np.isnan(chance), 1.0, chance)
    return ServedPart(windowed, explored, propensity)
