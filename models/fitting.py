"""Fitting one component: from an estimator to a model in the registry, and again on all rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version as library_version
from typing import NamedTuple

from sklearn.base import clone

from models.estimators import fit, is_supervised
from models.export import export
from models.probe import Probe
from models.probing import probe_of
from models.registry import ModelCard, ModelVersion, Registry
from models.session import ModelSession
from models.stage_outputs import StageOutputs
from models.training_plan import Plan
from models.training_report import ranking
from topics.pipeline import Pipeline

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


class Refitted(NamedTuple):
    """What `Registry.add` takes of a model."""

    onnx: bytes
    card: ModelCard
    probe: Probe
    """Rows that it was fitted on."""


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

    held_out, session = plan.blocks.held_out, ModelSession.of(model, name)
    signal = session.signal(stages.model_input(name, held_out))
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
        signature=session.signature,
    )
    return registry.add(pipeline.name, name, model, card, probe_of(session, x))


def refit_component(name: str, plan: Plan, stages: StageOutputs, first: ModelVersion) -> Refitted:
    """Component *name*, fitted again on all rows that its inputs are honest on.

    Nothing is left to judge that model on: the metrics stay those of *first*, its model
    fitted on fewer rows.
    """
    estimator, rows = clone(plan.estimators[name]), plan.refit_rows(name)
    x = stages.model_input(name, rows)
    labels = stages.data.labels[rows] if is_supervised(estimator) else None
    model = export(fit(estimator, x, labels, stages.model_input_names(name)), x)
    card = first.card.model_copy(update={"rows": len(x)})
    return Refitted(model, card, probe_of(ModelSession.of(model, name), x))
