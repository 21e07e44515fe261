"""The stages before a score as functions, one after the other, as serving runs them.

What a graph of models cannot hold are components of one's own that are declared pure: they are
called with what the stages before them say of the same rows.

AnabranchError
└── PureComponentFailed   it raises, or gives something else than a component's output
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats32
from models.component import Batch, Component, Floats, StageOutput
from models.onnx.session import ModelSession
from models.registry import RegistryError
from topics.errors import AnabranchError
from topics.events import LARGEST_FLOAT32, as_float32
from topics.pipeline import Pipeline

_Array = TypeVar("_Array", bound=NDArray[Any])


class PureComponentFailed(AnabranchError):
    """A component that is declared pure raises, or gives something else than an output."""

    def __init__(self, component: str, cause: str) -> None:
        super().__init__(
            f"component {component} is declared pure, and fails on rows that mix an event with "
            f"usual ones: {' '.join(cause.split())[:300]}"
        )


class ModelOfOtherColumns(RegistryError):
    """A model reads another number of columns than what was recorded of an event has."""

    def __init__(self, component: str, reads: int, given: int) -> None:
        super().__init__(
            f"the model of {component} reads {reads} columns, and by this pipeline file it is "
            f"given {given}: use the file that was in service with it"
        )


@dataclass(frozen=True, slots=True)
class StageFunctions:
    """Recorded outputs in, signals of stages out."""

    pipeline: Pipeline
    needed: Sequence[str]
    """In the order of the flow."""
    sessions: Mapping[str, ModelSession]
    """The models that are run; a recorded output is of features, and its model reads these."""
    pure: Mapping[str, Component]

    def signals(
        self, outputs: Mapping[str, Floats], signals: Mapping[str, Floats32]
    ) -> dict[str, Floats32]:
        """The signal (N,) of each stage that is needed.

        `outputs` (N, F), as they were recorded, and `signals` (N,), which count for components
        without a model. Raises PureComponentFailed and ModelOfOtherColumns.
        """
        stages: dict[str, StageOutput] = {}
        for name in self.needed:
            if name in outputs:
                output = outputs[name]
                signal = self._said(name, as_float32(output)) if name in self.sessions else None
                stages[name] = StageOutput(output, signals[name] if signal is None else signal)
                continue
            sources = {source: stages[source] for source in self.pipeline.component(name).inputs}
            batch = Batch(len(next(iter(sources.values())).signal), inputs=sources)
            if name in self.pure:
                stages[name] = _called(name, self.pure[name], batch)
            else:
                stages[name] = StageOutput.of_signal(self._said(name, batch.matrix()))
        return {name: stage.signal for name, stage in stages.items()}

    def _said(self, name: str, columns: Floats32) -> Floats32:
        session = self.sessions[name]
        if columns.shape[1] != session.n_inputs:
            raise ModelOfOtherColumns(name, session.n_inputs, columns.shape[1])
        return session.signal(columns)


def _called(name: str, component: Component, batch: Batch) -> StageOutput:
    """What code of one's own says of *batch*, which it cannot change."""
    inputs = {
        source: StageOutput(_read_only(stage.output), _read_only(stage.signal))
        for source, stage in batch.inputs.items()
    }
    try:
        stage = component.transform(Batch(batch.rows, inputs=inputs))
        output, signal = np.asarray(stage.output), np.asarray(stage.signal, np.float32)
        shapes = f"output {output.shape} and signal {signal.shape}"
        if output.ndim != 2 or len(output) != batch.rows or signal.shape != (batch.rows,):
            raise TypeError(f"{shapes} instead of ({batch.rows}, F) and ({batch.rows},)")
        fits = (np.abs(output) <= LARGEST_FLOAT32).all() and ((signal >= 0) & (signal <= 1)).all()
    except Exception as exc:  # the boundary to the component's code, which may raise anything
        raise PureComponentFailed(name, f"{type(exc).__name__}: {exc}") from exc
    if not fits:
        cause = "its output is not finite or beyond float32, or its signal is not in [0, 1]"
        raise PureComponentFailed(name, cause)
    if output.dtype not in (np.float32, np.float64):
        output = output.astype(np.float64)
    return StageOutput(output, signal)


def _read_only(array: _Array) -> _Array:
    view = array.view()
    view.flags.writeable = False
    return view
