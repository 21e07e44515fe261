"""Windowed features as they were served, from a file that `anabranch dataset` has written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from models.arrays import Floats32
from models.data.errors import FeaturesNotServed
from models.data.formats import arrow_errors
from topics.pipeline import OUTCOME

if TYPE_CHECKING:
    from topics.pipeline import Pipeline

_BATCH_ROWS = 65_536


def served_windows(pipeline: Pipeline, path: str) -> Mapping[str, Mapping[str, Floats32]]:
    """Component → windowed feature → its values (N,), of the N rows that have an outcome.

    NaN where the component had no output. Raises FeaturesNotServed where the file lacks a feature
    that the pipeline file has now: of the rows with an outcome alone its window would be another.
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
            parts = [
                {key: batch.column(name).to_numpy(zero_copy_only=False)[known].astype(np.float32)
                 for key, name in names.items()}
                for batch in file.iter_batches(_BATCH_ROWS, columns=[OUTCOME, *names.values()])
                for known in [batch.column(OUTCOME).is_valid().to_numpy(zero_copy_only=False)]
            ]  # fmt: skip
    windowed: dict[str, dict[str, Floats32]] = {}
    for component, column in names:
        values = [part[component, column] for part in parts] or [np.zeros(0, np.float32)]
        windowed.setdefault(component, {})[column] = np.concatenate(values)
    return windowed
