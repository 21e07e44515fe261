"""Importing an ONNX file that a person names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agents.commands.model_names import BadModelName, parsed
from agents.commands.model_rows import rows_in
from topics.errors import AnabranchError, MissingExtra
from topics.file_content import read_file
from topics.pipeline import find_pipeline, load_pipeline

if TYPE_CHECKING:
    from models.registry import ModelVersion, Registry


class FileUnreadable(AnabranchError):
    """A file that was named cannot be read."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(f"{path} cannot be read: {cause}")


def imported(
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
    name = parsed(model)
    if name.version is not None:
        raise BadModelName(model, "PIPELINE/COMPONENT: the new version gets the next number")
    pipeline = load_pipeline(find_pipeline(name.pipeline)).pipeline
    try:
        content = read_file(file, MOST_MODEL_BYTES)
    except OSError as exc:
        raise FileUnreadable(file, exc.strerror or str(exc)) from exc
    return import_model(
        pipeline, name.component, content, registry,
        source=file, rows=None if rows is None else lambda columns: rows_in(rows, columns),
        note=note, trained_until=trained_until, clock=lambda: datetime.now(UTC),
    )  # fmt: skip
