"""The first rows of a data file as whole columns, to infer a schema from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.data import (
    Column,
    check_dataset,
    guess_format,
    is_csv,
    json_values,
    open_data_file,
    without,
)
from models.schema.column_types import MISSING_WORDS
from topics.pipeline import CsvFormat

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
    csv: CsvFormat
    """How the file is written, where that is not as usual."""
    remarks: Sequence[str]
    """What of that is a guess, as sentences."""


def sample_columns(
    path: str, most_rows: int = MOST_ROWS, *, missing: Sequence[str] = (),
    encoding: str | None = None,
) -> SampledColumns:  # fmt: skip
    """The first *most_rows* rows of FILE.parquet, .csv, .tsv or .jsonl.

    *missing* is further text that stands for no value, *encoding* that of a CSV file. Raises
    DatasetError and MissingExtra.
    """
    as_text = is_csv(path)
    kind = "string" if as_text else None
    form, remarks = _format(path, encoding)
    with open_data_file(path, _BATCH_ROWS, csv=form) as source:
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
    words = {"", *MISSING_WORDS, *missing}
    texts = {
        value
        for column in joined.values() if isinstance(column, list)
        for value in column if isinstance(value, str) and (value in words or value.strip() in words)
    }  # fmt: skip
    columns: dict[str, Column] = {
        name: column if isinstance(column, np.ndarray) else without(column, texts)
        for name, column in joined.items()
    }
    return SampledColumns(columns, sorted(texts), as_text, complete, form, remarks)


def _format(path: str, encoding: str | None) -> tuple[CsvFormat, list[str]]:
    check_dataset(path)
    return guess_format(path, encoding) if is_csv(path) else (CsvFormat(), [])


def _joined(parts: Sequence[Column]) -> Column:
    times = [part for part in parts if isinstance(part, np.ndarray) and part.dtype.kind == "M"]
    if times and len(times) == len(parts):
        return np.concatenate(times)
    return [value for part in parts for value in json_values(part)]
