"""Risk assessor: feature vector in, calibrated probability out."""

from __future__ import annotations

from models.component import Batch, Component, StageOutput
from models.session import ModelSession


class AssessRisk(Component):
    """Runs its model over its inputs' outputs; output and signal are the probability."""

    def __init__(self, session: ModelSession) -> None:
        self._session = session

    def transform(self, batch: Batch) -> StageOutput:
        """Output: the probability, float32 (N, 1). Signal: the same, (N,)."""
        return StageOutput.of_signal(self._session.signal(batch.matrix()))
