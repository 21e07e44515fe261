"""Rows of a model's inputs from a file: what an imported model is tried on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data import UnreadableDataset, read_rows
from topics.errors import AnabranchError
from topics.events import as_float32
from topics.file_content import check_file

MOST_ROWS = 2048


class ColumnsMissing(AnabranchError):
    """A file of rows lacks columns that the model reads."""

    def __init__(self, path: str, missing: Sequence[str]) -> None:
        super().__init__(f"{path} has no column {', '.join(missing)}: the model reads it")


def rows_in(path: str, columns: Sequence[str]) -> NDArray[np.float32]:
    """The first rows (N, F) of a Parquet, CSV or JSONL file by its *columns*, or of a .npy array.

    Raises ColumnsMissing, BeyondFloat32, DatasetError and MissingExtra.
    """
    if Path(path).suffix == ".npy":
        return _array(path)
    parts: list[NDArray[np.float32]] = []
    for batch in read_rows(
        path, columns={}, fields=columns, types=dict.fromkeys(columns, "number"), optional=columns
    ):
        if missing := [name for name in columns if name not in batch.columns]:
            raise ColumnsMissing(path, missing)
        found = [np.asarray(batch.columns[name], np.float64) for name in columns]
        parts.append(as_float32(np.stack(found, axis=1), columns))
        if sum(map(len, parts)) >= MOST_ROWS:
            break
    return np.concatenate([np.zeros((0, len(columns)), np.float32), *parts])[:MOST_ROWS]


def _array(path: str) -> NDArray[np.float32]:
    try:
        check_file(path)
        # Mapped: the header alone says how many rows there are, which may be more than memory has.
        array = np.load(path, allow_pickle=False, mmap_mode="r")
        return as_float32(np.asarray(array[:MOST_ROWS]))
    except OSError as exc:
        raise UnreadableDataset(path, exc.strerror or str(exc)) from exc
    except (ValueError, EOFError, IndexError, TypeError) as exc:
        raise UnreadableDataset(path, str(exc).splitlines()[0]) from exc
