"""The first rows of a data file as whole columns, to infer a schema from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.data import Column, json_values, open_data_file, without
from models.schema.errors import RepeatedColumn
from models.schema.inferred_columns import MISSING_WORDS

MOST_ROWS = 200_000
_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class SampledColumns:
    """Columns of a file, and what of their text stands for no value."""

    columns: Mapping[str, Column]
    """Name → N values, in the order of the file; None for no value."""
    missing_values: Sequence[str]
    """The words for no value that occur."""
    numbers_as_text: bool
    """Whether the format has no types: CSV."""
    complete: bool
    """Whether N are all rows of the file."""


def sample_columns(path: str, most_rows: int = MOST_ROWS) -> SampledColumns:
    """The first *most_rows* rows of FILE.parquet, .csv or .jsonl.

    Raises DatasetError, RepeatedColumn and MissingExtra.
    """
    as_text = Path(path).suffix.lower() == ".csv"
    kind = "string" if as_text else None
    with open_data_file(path, _BATCH_ROWS) as source:
        for name, count in Counter(source.names).items():
            if count > 1:
                raise RepeatedColumn(name)
        parts: dict[str, list[Column]] = {name: [] for name in source.names}
        rows, complete = 0, True
        for batch in source.batches(dict.fromkeys(source.names, kind)):
            if rows >= most_rows:
                complete = False
                break
            for name, values in batch.items():
                parts[name].append(values)
            rows += len(next(iter(batch.values()), ()))
    joined = {name: _joined(columns) for name, columns in parts.items()}
    words = {"", *MISSING_WORDS}
    texts = {
        value
        for column in joined.values() if isinstance(column, list)
        for value in column if isinstance(value, str) and value.strip() in words
    }  # fmt: skip
    columns: dict[str, Column] = {
        name: column if isinstance(column, np.ndarray) else without(column, texts)
        for name, column in joined.items()
    }
    return SampledColumns(columns, sorted(texts), as_text, complete)


def _joined(parts: Sequence[Column]) -> Column:
    times = [part for part in parts if isinstance(part, np.ndarray) and part.dtype.kind == "M"]
    if times and len(times) == len(parts):
        return np.concatenate(times)
    return [value for part in parts for value in json_values(part)]
