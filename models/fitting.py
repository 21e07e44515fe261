"""Fitting one component: from an estimator to a model in the registry, and again on all rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version as library_version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from models.estimators import fit, is_supervised
from models.export import export
from models.registry import ModelCard, ModelVersion, Registry
from models.session import ModelSession
from models.stage_outputs import StageOutputs
from models.training_plan import Plan
from models.training_report import ranking
from topics.pipeline import Pipeline

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


def fit_component(
    pipeline: Pipeline,
    name: str,
    plan: Plan,
    stages: StageOutputs,
    registry: Registry,
    *,
    data_hash: str,
    clock: Callable[[], datetime],
) -> ModelVersion:
    """Fit component *name* as *plan* says, add it to *registry*, and return its version.

    Its card's metrics are those of the exported model on rows that no model is fitted on.
    """
    spec, estimator, rows = pipeline.component(name).model, plan.estimators[name], plan.rows(name)
    if spec is None or spec.estimator is None:
        raise ValueError(f"component {name} has no estimator")
    x = stages.model_input(name, rows)
    labels = stages.data.labels[rows] if is_supervised(estimator) else None
    model = export(fit(estimator, x, labels, stages.model_input_names(name)), x)

    held_out = plan.blocks.held_out
    signal = _signal(model, stages.model_input(name, held_out))
    card = ModelCard(
        estimator=spec.estimator,
        parameters=dict(spec.parameters),
        inputs=stages.model_input_names(name),
        n_inputs=x.shape[1],
        rows=len(x),
        data_hash=data_hash,
        created_at=clock().isoformat(),
        metrics=ranking(stages.data.labels[held_out], signal).model_dump(),
        libraries={library: library_version(library) for library in _LIBRARIES},
    )
    return registry.add(pipeline.name, name, model, card)


def refit_component(
    name: str, plan: Plan, stages: StageOutputs, first: ModelVersion
) -> tuple[bytes, ModelCard]:
    """Component *name*, fitted again on all rows that its inputs are honest on; and its card.

    Nothing is left to judge that model on: the metrics stay those of *first*, its model
    fitted on fewer rows.
    """
    estimator, rows = clone(plan.estimators[name]), plan.refit_rows(name)
    x = stages.model_input(name, rows)
    labels = stages.data.labels[rows] if is_supervised(estimator) else None
    model = export(fit(estimator, x, labels, stages.model_input_names(name)), x)
    return model, first.card.model_copy(update={"rows": len(x)})


def _signal(model: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        return ModelSession.open(path).signal(x)
