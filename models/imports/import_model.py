"""ONNX files of other makers (PyTorch, TensorFlow, …) as versions of a component's model.

What is checked is what serving relies on: the signature, the width, signals in [0, 1] for any
number of rows, and the same bits for a row in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.arrays import Floats32
from models.imports.adaptation import Adaptation, ImportChoices, adapt
from models.imports.errors import ImportRefused, NotAdaptable, NotImportable
from models.imports.external_weights import with_weights_inside
from models.imports.input_columns import Category
from models.onnx.probing import probe_of
from models.onnx.session import MOST_MODEL_BYTES, ModelSession, ModelUnreadable, opened
from models.registry import ModelCard, ModelVersion, Registry, columns_of, reads, sources_of
from topics.pipeline import ComponentSpec, Pipeline

GENERATED_ROWS = 512
LEAST_ROWS = 32
"""Fewer rows would show too little of a model."""
_SIZES = (1, 5, 64)
_LIBRARIES = ("numpy", "onnxruntime")


def import_model(
    pipeline: Pipeline,
    name: str,
    content: bytes,
    registry: Registry,
    *,
    source: str,
    rows: Callable[[Sequence[str]], Floats32] | None = None,
    choices: ImportChoices | None = None,
    folder: Path | None = None,
    note: str = "",
    trained_until: datetime | None = None,
    clock: Callable[[], datetime],
) -> ModelVersion:
    """Register the ONNX file *content*, of the name *source*, as component *name*'s newest model.

    `rows` gets the names of its columns and gives real rows (N, F) of them; without it the checks
    are made on random ones, and so are the probe rows. `choices` say what cannot be seen from the
    file; weights that it keeps beside itself are read from *folder*. `trained_until` is the time
    of the newest event that it was trained on. Raises NotImportable, ImportRefused,
    WrongWidth, WidthsUnknown, ModelUnreadable and StoreFailed; then nothing is registered.
    """
    _check_place(pipeline, name)
    tried = _TriedRows(rows, source)
    try:
        model, content, read = _read(content, source, folder)
        made_by = {model.producer_name: model.producer_version} if model.producer_name else {}
        adapted = adapt(
            model, content, source, choices or ImportChoices(),
            lambda width: _columns(pipeline, name, width, registry), tried,
        )  # fmt: skip
    except NotAdaptable as exc:
        raise ImportRefused(source, str(exc)) from exc
    session = ModelSession.of(adapted.content, source)
    _check_signals(session, tried.rows, source)
    adapted.changes[:0] = [f"its weights were read from {file}" for file in read]
    card = _card(adapted, session, made_by, source, note, trained_until, clock())
    return registry.add(pipeline.name, name, adapted.content, card, probe_of(session, tried.rows))


class _TriedRows:
    """The rows that a model is tried on: given ones, or made."""

    def __init__(self, given: Callable[[Sequence[str]], Floats32] | None, source: str) -> None:
        self._given = given
        self._source = source
        self.rows = np.zeros((0, 0), np.float32)

    def __call__(self, columns: Sequence[str], categories: Mapping[str, Category]) -> Floats32:
        """Rows (N, F) of *columns*. Raises ImportRefused."""
        if self._given is None:
            self.rows = generated_rows(len(columns), categories)
        else:
            self.rows = self._given(columns)
        _check_rows(self.rows, columns, self._source)
        return self.rows


def _read(content: bytes, source: str, folder: Path | None) -> tuple[Any, bytes, list[str]]:
    """The file's model with its weights inside, its bytes then, and the files that had them.

    Raises ModelUnreadable and NotAdaptable.
    """
    try:
        model: Any = onnx.load_model_from_string(content)
    except Exception as exc:  # protobuf's own
        opened(content, source)  # says what is wrong with what is no ONNX file
        raise ModelUnreadable(source, "it is no ONNX file, or one that is cut off") from exc
    files = [] if folder is None else with_weights_inside(model, folder, MOST_MODEL_BYTES)
    return model, model.SerializeToString() if files else content, files


def _card(
    adapted: Adaptation, session: ModelSession, made_by: Mapping[str, str], source: str, note: str,
    trained_until: datetime | None, now: datetime,
) -> ModelCard:  # fmt: skip
    return ModelCard(
        estimator="onnx",
        parameters={},
        inputs=adapted.columns,
        n_inputs=len(adapted.columns),
        rows=0,
        data_hash="",
        created_at=now.isoformat(),
        metrics={},
        libraries={name: library_version(name) for name in _LIBRARIES} | dict(made_by),
        note=note,
        source=source,
        changes=adapted.changes,
        signature=session.signature,
        trained_until=None if trained_until is None else trained_until.isoformat(),
    )


def generated_rows(width: int, categories: Mapping[str, Category] | None = None) -> Floats32:
    """Rows whose columns are of very different size, and a row of zeros; always the same.

    Columns of *categories* have what such columns have.
    """
    rng = np.random.default_rng(0)
    size = 10.0 ** (np.arange(width) % 5 - 2)
    rows = (rng.normal(size=(GENERATED_ROWS, width)) * size).astype(np.float32)
    for category in (categories or {}).values():
        chosen = rng.integers(-1, len(category.choices), GENERATED_ROWS)
        if len(category.places) == 1:
            rows[:, category.places[0]] = chosen
        else:
            rows[:, list(category.places)] = chosen[:, None] == np.arange(len(category.choices))
    rows[0] = 0
    return rows


def _check_place(pipeline: Pipeline, name: str) -> None:
    spec = next((component for component in pipeline.components if component.name == name), None)
    if spec is None:
        known = ", ".join(component.name for component in pipeline.components)
        raise NotImportable(pipeline.name, name, f"the pipeline has only {known}")
    if why := _why_not(spec):
        raise NotImportable(pipeline.name, name, why)


def _why_not(spec: ComponentSpec) -> str | None:
    if spec.import_path is not None:
        return f"it is a component of your own ({spec.import_path}), which opens its models itself"
    if spec.model is None:
        return "it has no model; give it one in the pipeline file (model: {estimator: …})"
    return None


def _columns(
    pipeline: Pipeline, name: str, width: int | None, registry: Registry
) -> tuple[Sequence[str], Mapping[str, Category]]:
    """What the model's columns are called, as before where that still fits; the categories."""
    columns = None
    if registry.has(pipeline.name, name):
        before = registry.latest(pipeline.name, name).card.inputs
        if len(before) == (width or len(before)) and reads(pipeline, name, before):
            columns = before
    columns = columns or columns_of(pipeline, name, width)
    return columns, _categories(pipeline, name, columns)


def _categories(pipeline: Pipeline, name: str, columns: Sequence[str]) -> Mapping[str, Category]:
    """The features with categories among *columns*: by their names, and by their fields'."""
    found: dict[str, Category] = {}
    for source in sources_of(pipeline, name):
        for feature in source.features or []:
            if feature.choices is not None and feature.columns[0] in columns:
                places = [columns.index(column) for column in feature.columns]
                category = Category(places, feature.choices)
                found[feature.name] = category
                found.setdefault(feature.of, category)
    return found


def _check_rows(rows: Floats32, columns: Sequence[str], source: str) -> None:
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        raise ImportRefused(source, f"the rows have shape {rows.shape}, not (N, {len(columns)})")
    if len(rows) < LEAST_ROWS:
        raise ImportRefused(source, f"{len(rows)} rows show too little: give {LEAST_ROWS} or more")
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise ImportRefused(source, f"row {row + 1} of the rows has no number in {columns[column]}")


def _check_signals(session: ModelSession, rows: Floats32, source: str) -> None:
    for size in (*_SIZES, len(rows)):
        some = rows[:size]
        try:
            signals = session.signal(some)
        except Exception as exc:  # onnxruntime raises its own types
            cause = " ".join(str(exc).split())[:200]
            raise ImportRefused(
                source, f"it fails on {size} rows: {cause}; export it with a dynamic batch axis"
            ) from exc
        if not ((signals >= 0) & (signals <= 1)).all():
            row = int(np.argmin((signals >= 0) & (signals <= 1)))
            raise ImportRefused(
                source, f"its signal of row {row + 1} is {signals[row]:g}; signals are in [0, 1]: "
                "end it with a sigmoid",
            )  # fmt: skip
