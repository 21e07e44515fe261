"""The rows of a renewal's data set whose outcome is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Floats64
from models.report.selective_labels import outcome_weights
from topics.pipeline import OUTCOME


def labelled_rows(path: Path, columns: list[str]) -> Any:
    """A pyarrow table of those rows of a data set whose outcome is known, in their order."""
    import pyarrow.compute as pc
    from pyarrow.parquet import read_table

    table = read_table(path, columns=[*columns, OUTCOME, "explored", "propensity"])
    return table.filter(pc.is_valid(table[OUTCOME]))


def stood_for(table: Any) -> Floats64:
    """How many events the outcome of each of its rows stands for (N,), see `outcome_weights`."""
    explored = np.array(table["explored"].fill_null(False).to_numpy(), np.bool_)
    propensity = doubles(table["propensity"])
    return outcome_weights(explored, np.where(np.isnan(propensity), 1.0, propensity))


def doubles(column: Any) -> Floats64:
    """The values of a pyarrow column, NaN for null."""
    return np.array(column.to_numpy(), np.float64)
