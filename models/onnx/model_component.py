"""Components whose signal an ONNX model makes."""

from __future__ import annotations

from models.component import Batch, Component, StageOutput
from models.onnx.session import ModelSession


class ModelComponent(Component):
    """Runs its model over its inputs' outputs, side by side in the order of `from:`."""

    def __init__(self, session: ModelSession) -> None:
        self.session = session

    def transform(self, batch: Batch) -> StageOutput:
        """Output, float32 (N, 1), and signal (N,) are what the model says."""
        return StageOutput.of_signal(self.session.signal(batch.matrix()))
