"""Fitting components on an engine: from an estimator to an ONNX model, and its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline as FittedPipeline

from models.arrays import Floats32, Floats64, Ints
from models.onnx.probing import probe_of
from models.onnx.session import ModelSession
from models.registry import ModelCard, Probe, library_versions
from models.training.calibration import calibrated, fitted_map, unseen_signals
from models.training.engines import Engine, Task
from models.training.estimator_libraries import versions_of
from models.training.estimators import fit, is_supervised
from models.training.export import export
from models.training.stage_outputs import StageOutputs
from models.training.training_plan import TrainingPlan
from models.training.training_state import state_of
from models.training.unseen_rows import rfc3339_of
from topics.pipeline import Pipeline

Labels = NDArray[np.bool_]
CalibrationKind = Literal["none", "sigmoid", "isotonic"]


class Fit(NamedTuple):
    """What a fit comes to."""

    onnx: bytes
    state: bytes | None = None
    """The fitted estimator, where a renewal will go on with it."""


class FittedModel(NamedTuple):
    """What `Registry.add` takes of a model."""

    onnx: bytes
    card: ModelCard
    probe: Probe
    """Rows that it was fitted on."""


class Fits:
    """The fits of one training: tasks for an engine, which has each matrix once.

    What component *name* reads must have been run by `StageOutputs` before it is submitted.
    """

    def __init__(
        self, pipeline: Pipeline, plan: TrainingPlan, stages: StageOutputs, engine: Engine
    ) -> None:
        self._pipeline, self._plan, self._stages, self._engine = pipeline, plan, stages, engine
        self._labels = engine.share(stages.data.labels)
        weights = stages.data.weights
        self._weights = None if weights is None else engine.share(weights)
        self._matrices: dict[tuple[str, ...], tuple[Floats32, Any]] = {}

    def submit(self, name: str, rows: slice, *, keeps_state: bool = False) -> Task[Fit]:
        """Have component *name* fitted on *rows*; the result is an ONNX model, and its state."""
        estimator, spec = clone(self._plan.estimators[name]), self._pipeline.component(name).model
        _, shared = self._matrix(name)
        names = self._stages.model_input_names(name)
        calibration = "none" if spec is None else spec.calibration
        return self._engine.submit(
            fitted_model, estimator, shared, self._labels, rows, names, calibration,
            self._weights, keeps_state,
        )  # fmt: skip

    def first(
        self, name: str, onnx: bytes, *, data_hash: str, clock: Callable[[], datetime]
    ) -> FittedModel:
        """What there is to register of *onnx*, fitted on the first rows of component *name*.

        Its card has no metrics yet.
        """
        spec = self._pipeline.component(name).model
        if spec is None or spec.estimator is None:
            raise ValueError(f"component {name} has no estimator")
        (x, _), session = self._matrix(name), ModelSession.of(onnx, name)
        own = x[self._plan.rows(name)]
        card = ModelCard(
            estimator=spec.estimator,
            parameters=dict(spec.parameters),
            inputs=self._stages.model_input_names(name),
            n_inputs=x.shape[1],
            rows=len(own),
            data_hash=data_hash,
            created_at=clock().isoformat(),
            metrics={},
            libraries={**library_versions(), **versions_of(spec.estimator)},
            signature=session.signature,
        )
        return FittedModel(onnx, card, probe_of(session, own))

    def again(
        self, name: str, onnx: bytes, first: ModelCard, metrics: Mapping[str, float]
    ) -> FittedModel:
        """What there is to register of *onnx*, fitted on all rows that its inputs are honest on.

        Nothing is left to judge that model on: *metrics* are of that of *first*, the card of
        the model fitted on fewer rows.
        """
        rows = self._plan.refit_rows(name)
        own = self._matrix(name)[0][rows]
        timed = self._pipeline.data.published_at is None
        times = self._stages.data.columns[self._pipeline.event.time]
        until = rfc3339_of(int(times[rows.stop - 1])) if timed else None
        changes = {"rows": len(own), "metrics": dict(metrics), "trained_until": until}
        card = first.model_copy(update=changes)
        return FittedModel(onnx, card, probe_of(ModelSession.of(onnx, name), own))

    def _matrix(self, name: str) -> tuple[Floats32, Any]:
        """What *name* reads for all N rows, and what stands for it with the engine.

        Components that read the same share it.
        """
        spec = self._pipeline.component(name)
        key = (name,) if spec.features is not None else ("from", *spec.inputs)
        if key not in self._matrices:
            x = self._stages.model_input(name, slice(0, self._stages.data.rows))
            self._matrices[key] = x, self._engine.share(x)
        return self._matrices[key]


def fitted_model(
    estimator: Any,
    x: Floats32,
    y: Labels,
    rows: slice,
    names: Sequence[str],
    calibration: CalibrationKind = "none",
    weights: Floats64 | None = None,
    keeps_state: bool = False,
) -> Fit:
    """The ONNX model of *estimator*, fitted on *rows* of *x* (N, F) and, with labels, of *y* (N,).

    Rows count by *weights* (N,), where there are any. `names` are those of the F columns. With a
    `calibration`, five more models are fitted, each without a fifth of the rows; with *keeps_state*
    the fitted estimator is kept. Raises as `estimators.fit`, `export` and `unseen_signals` do.
    """
    own, labels = np.array(x[rows]), np.array(y[rows])  # no views: what engines share is read-only
    counts = None if weights is None else np.array(weights[rows])

    def fitted(some: Ints | slice) -> FittedPipeline:
        fresh = clone(estimator)
        of_them = labels[some] if is_supervised(fresh) else None
        return fit(fresh, own[some], of_them, names, None if counts is None else counts[some])

    def unseen(others: Ints) -> Callable[[Floats32], Floats32]:
        return ModelSession.of(export(fitted(others), own[others]), "fold").signal

    model = fitted(slice(None))
    onnx, state = export(model, own), state_of(model) if keeps_state else None
    if calibration == "none":
        return Fit(onnx, state)
    signals = unseen_signals(own, labels, unseen)
    return Fit(calibrated(onnx, fitted_map(calibration, signals, labels, counts), own), state)
