"""Components whose signal an ONNX model makes, and how components are opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from models.arrays import Floats32
from models.component import Batch, Component, Floats, StageOutput
from models.onnx.session import ModelSession
from models.registry import Registry
from topics.pipeline import Pipeline


class FeatureOutput(NamedTuple):
    """What a component of a kind that `passes_on_features` makes of N rows."""

    features: Floats
    """What it passes on (N, F)."""
    model_input: Floats32
    """The same as its model reads it (N, F)."""


class ModelComponent(Component):
    """Runs its model over its inputs' outputs, side by side in the order of `from:`.

    Every component of a kind that `has_model` is one, where the pipeline file gives it a model.
    """

    def __init__(self, session: ModelSession) -> None:
        self.session = session

    def features(self, batch: Batch) -> FeatureOutput | None:  # noqa: ARG002
        """What is passed on besides the signal, and what the model reads; None for the signal."""
        return None

    def transform(self, batch: Batch) -> StageOutput:
        """Output, float32 (N, 1), and signal (N,) are what the model says."""
        return StageOutput.of_signal(self.session.signal(batch.matrix()))


class LoadedComponent(Protocol):
    """What opening a component gives."""

    @property
    def component(self) -> Component:
        """What transforms batches."""


ComponentOpener = Callable[[Pipeline, str, Registry, Path], LoadedComponent]
"""Opens the component of that name as serving does; the path is the pipeline file's folder."""
