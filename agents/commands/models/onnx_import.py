"""Importing an ONNX file that a person names, and the rows that it is tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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


class BadConstant(AnabranchError):
    """What `--constant` says is no constant."""

    def __init__(self, text: str, cause: str) -> None:
        super().__init__(f"--constant {text}: {cause}; give NAME=V1,V2,… or NAME=FILE.npy")


@dataclass(frozen=True)
class OutputOptions:
    """What a person says of the file's outputs and constants, as the options have it."""

    name: str | None = None
    label: str | None = None
    link: Literal["sigmoid", "softmax"] | None = None
    constants: Sequence[str] = ()
    """NAME=V1,V2,… or NAME=FILE.npy, each."""


def register_file(
    registry: Registry,
    model: str,
    file: str,
    rows: str | None,
    note: str,
    trained_until: datetime | None = None,
    output: OutputOptions | None = None,
) -> ModelVersion:
    """Register ONNX *file* as the model that `PIPELINE/COMPONENT` names.

    Raises BadModelName, BadConstant, FileUnreadable, MissingExtra, and what
    `models.imports.import_model` and `rows_in` raise.
    """
    try:
        from models.imports.adaptation import ImportChoices
        from models.imports.import_model import import_model
        from models.imports.signal_output import OutputChoice
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
    asked = output or OutputOptions()
    choices = ImportChoices(
        OutputChoice(asked.name, asked.label, asked.link),
        dict(_constant(each) for each in asked.constants),
    )
    return import_model(
        pipeline, name.component, content, registry,
        source=file, rows=None if rows is None else lambda columns: rows_in(rows, columns),
        choices=choices, folder=Path(file).parent, note=note, trained_until=trained_until,
        clock=lambda: datetime.now(UTC),
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


def _constant(text: str) -> tuple[str, NDArray[np.float64]]:
    # Names of tensors may have an equals sign, values have none.
    name, equals, values = text.rpartition("=")
    if not equals or not name:
        raise BadConstant(text, "it names no input")
    if Path(values).suffix == ".npy":
        return name, _array(values).astype(np.float64)
    try:
        return name, np.array([float(value) for value in values.split(",")], np.float64)
    except ValueError as exc:
        raise BadConstant(text, str(exc)) from exc


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
