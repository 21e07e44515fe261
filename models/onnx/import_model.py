"""ONNX files of other makers (PyTorch, TensorFlow, …) as versions of a component's model.

What is checked is what serving relies on: the signature, the width, signals in [0, 1] for any
number of rows, and the same bits for a row in any batch.

RegistryError
├── NotImportable    the pipeline file has no place for a registered model there
└── ImportRefused    the model cannot be a component's
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version as library_version
from typing import Any

import numpy as np
import onnx

from models.arrays import Floats32
from models.onnx.bit_stability import moving_rows
from models.onnx.probing import probe_of
from models.onnx.session import ModelSession
from models.registry import ModelCard, ModelVersion, Registry, RegistryError, columns_of, reads
from topics.pipeline import ComponentSpec, Pipeline

GENERATED_ROWS = 512
LEAST_ROWS = 32
"""Fewer rows would show too little of a model."""
_MOVED_ROWS = 500
_SIZES = (1, 5, 64)
_LIBRARIES = ("numpy", "onnxruntime")


class NotImportable(RegistryError):
    """The pipeline file has no place for a registered model there."""

    def __init__(self, pipeline: str, name: str, why: str) -> None:
        super().__init__(f"no model can be imported for {pipeline}/{name}: {why}")


class ImportRefused(RegistryError):
    """The model cannot be a component's."""

    def __init__(self, source: str, cause: str) -> None:
        super().__init__(f"{source} is not imported: {cause}")


def import_model(
    pipeline: Pipeline,
    name: str,
    content: bytes,
    registry: Registry,
    *,
    source: str,
    rows: Callable[[Sequence[str]], Floats32] | None = None,
    note: str = "",
    trained_until: datetime | None = None,
    clock: Callable[[], datetime],
) -> ModelVersion:
    """Register the ONNX file *content*, of the name *source*, as component *name*'s newest model.

    `rows` gets the names of its columns and gives real rows (N, F) of them; without it the checks
    are made on random ones, and so are the probe rows. `trained_until` is the time of the newest
    event that it was trained on. Raises NotImportable, ImportRefused,
    WrongWidth, WidthsUnknown, ModelUnreadable, ModelSignatureError and StoreFailed; then nothing
    is registered.
    """
    _check_place(pipeline, name)
    session = ModelSession.of(content, source)
    maker = _made_by(content)
    columns = _columns(pipeline, name, session.n_inputs, registry)
    tried = generated_rows(len(columns)) if rows is None else rows(columns)
    _check_rows(tried, columns, source)
    _check_signals(session, tried, source)
    card = ModelCard(
        estimator="onnx",
        parameters={},
        inputs=columns,
        n_inputs=len(columns),
        rows=0,
        data_hash="",
        created_at=clock().isoformat(),
        metrics={},
        libraries={name: library_version(name) for name in _LIBRARIES} | maker,
        note=note,
        source=source,
        signature=session.signature,
        trained_until=None if trained_until is None else trained_until.isoformat(),
    )
    return registry.add(pipeline.name, name, content, card, probe_of(session, tried))


def generated_rows(width: int) -> Floats32:
    """Rows whose columns are of very different size, and a row of zeros; always the same."""
    rng = np.random.default_rng(0)
    size = 10.0 ** (np.arange(width) % 5 - 2)
    rows = (rng.normal(size=(GENERATED_ROWS, width)) * size).astype(np.float32)
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
    if spec.model.path is not None:
        return (
            f"its model is the file {spec.model.path}; replace that, or give an estimator instead"
        )
    return None


def _made_by(content: bytes) -> dict[str, str]:
    """The tool that says it has written the file: {"pytorch": "2.7.0"}; none for no ONNX file."""
    try:
        model: Any = onnx.load_model_from_string(content)
    except Exception:  # protobuf's own; the session says it of what is no ONNX file
        return {}
    return {model.producer_name: model.producer_version} if model.producer_name else {}


def _columns(pipeline: Pipeline, name: str, width: int, registry: Registry) -> list[str]:
    """What the model's columns are called: as before, where that still fits."""
    if registry.has(pipeline.name, name):
        before = registry.latest(pipeline.name, name).card.inputs
        if len(before) == width and reads(pipeline, name, before):
            return before
    return columns_of(pipeline, name, width)


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
    moved = rows[:_MOVED_ROWS]
    if moving := moving_rows(session.signal, moved):
        raise ImportRefused(
            source,
            f"{moving} of {len(moved)} rows get other bits in a smaller batch, so decisions could "
            "not be replayed: it must not normalise over the batch (export it in inference mode), "
            "nor sum four columns or more by ReduceSum, ReduceMean or Einsum (multiply by ones)",
        )
