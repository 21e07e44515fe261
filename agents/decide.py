"""Decision maker: features and risks in, probability of the costly outcome out."""

from __future__ import annotations

from models.component import Batch, Component, StageOutput
from models.session import ModelSession


class Decide(Component):
    """Runs its model over features and risks side by side, in the order of `from:`.

    The policy that turns the weighted score into a decision is the weighting agent's.
    """

    def __init__(self, session: ModelSession) -> None:
        self._session = session

    def transform(self, batch: Batch) -> StageOutput:
        """Output: the probability, float32 (N, 1). Signal: the same, (N,)."""
        return StageOutput.of_signal(self._session.signal(batch.matrix()))
