"""Training rows with the windowed features that were served, not ones made again from few days."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Bools, Floats64
from models.errors import LengthMismatch
from models.training.data import TrainingData
from topics.pipeline import OUTCOME, Pipeline


def with_served_windows(pipeline: Pipeline, path: Path, data: TrainingData) -> TrainingData:
    """*data*, the N labelled rows of the data set at *path*, with the windows that decided them.

    A data set begins on some day: windows that are counted from there on would know too little.
    Rows of which a component had no windows are left out. Raises LengthMismatch.
    """
    columns = {
        spec.name: [column for feature in spec.windowed for column in feature.columns]
        for spec in pipeline.components
        if spec.windowed
    }
    if not columns:
        return data
    wanted = [f"{name}.{column}" for name, names in columns.items() for column in names]
    table = labelled_rows(path, wanted)
    if table.num_rows != data.rows:
        raise LengthMismatch(f"the labelled rows of {path}", table.num_rows, data.rows)
    windowed = {
        name: {column: doubles(table[f"{name}.{column}"]) for column in names}
        for name, names in columns.items()
    }
    known: Bools = np.ones(data.rows, np.bool_)
    for served in windowed.values():
        for values in served.values():
            known &= ~np.isnan(values)
    return replace(data, windowed=windowed).picked(known)


def labelled_rows(path: Path, columns: list[str]) -> Any:
    """A pyarrow table of those rows of a data set whose outcome is known, in their order."""
    import pyarrow.compute as pc
    from pyarrow.parquet import read_table

    table = read_table(path, columns=[*columns, OUTCOME])
    return table.filter(pc.is_valid(table[OUTCOME]))


def doubles(column: Any) -> Floats64:
    """The values of a pyarrow column, NaN for null."""
    return np.array(column.to_numpy(), np.float64)
