"""Importing an ONNX file that a person names, and the rows that it is tried on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.commands.models.model_names import BadModelName, model_name
from agents.commands.options import pipeline_file
from models.data import UnreadableDataset, read_rows
from topics.errors import AnabranchError, MissingExtra
from topics.events import as_float32
from topics.file_content import check_file, read_file

if TYPE_CHECKING:
    from models.registry import ModelVersion, Registry

MOST_ROWS = 2048


class FileUnreadable(AnabranchError):
    """A file that was named cannot be read."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(f"{path} cannot be read: {cause}")


class ColumnsMissing(AnabranchError):
    """A file of rows lacks columns that the model reads."""

    def __init__(self, path: str, missing: Sequence[str]) -> None:
        super().__init__(f"{path} has no column {', '.join(missing)}: the model reads it")


def register_file(
    registry: Registry,
    model: str,
    file: str,
    rows: str | None,
    note: str,
    trained_until: datetime | None = None,
) -> ModelVersion:
    """Register ONNX *file* as the model that `PIPELINE/COMPONENT` names.

    Raises BadModelName, FileUnreadable, MissingExtra, and what `models.onnx.import_model` and
    `rows_in` raise.
    """
    try:
        from models.onnx.import_model import import_model
        from models.onnx.session import MOST_MODEL_BYTES
    except ModuleNotFoundError as exc:
        raise MissingExtra("importing a model", "train") from exc
    name = model_name(model)
    if name.version is not None:
        raise BadModelName(model, "PIPELINE/COMPONENT: the new version gets the next number")
    pipeline = pipeline_file(name.pipeline).pipeline
    try:
        content = read_file(file, MOST_MODEL_BYTES)
    except OSError as exc:
        raise FileUnreadable(file, exc.strerror or str(exc)) from exc
    return import_model(
        pipeline, name.component, content, registry,
        source=file, rows=None if rows is None else lambda columns: rows_in(rows, columns),
        note=note, trained_until=trained_until, clock=lambda: datetime.now(UTC),
    )  # fmt: skip


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
        values = [np.asarray(batch.columns[name], np.float64) for name in columns]
        parts.append(as_float32(np.stack(values, axis=1), columns))
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
