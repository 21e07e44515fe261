"""A component of a user's own, as the README shows it."""

import time
from pathlib import Path

import numpy as np

from models.component import Batch, Component, StageOutput


class LargeAmount(Component):
    def __init__(self, limit: float) -> None:
        self._limit = limit

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.clip(batch.columns["amount"] / self._limit, 0, 1))


class Unlucky(Component):
    """Fails on every amount that ends in .13, and takes its time over nothing."""

    def transform(self, batch: Batch) -> StageOutput:
        amounts = batch.inputs["features"].output[:, 0]
        if (np.round(amounts * 100) % 100 == 13).any():
            raise ArithmeticError("thirteen")
        return StageOutput.of_signal(np.full(batch.rows, 0.5))


class Hanging(Component):
    """Never comes back as long as the file *flag* is there."""

    def __init__(self, flag: str) -> None:
        self._flag = Path(flag)

    def transform(self, batch: Batch) -> StageOutput:
        while self._flag.exists():
            time.sleep(0.1)
        return StageOutput.of_signal(np.zeros(batch.rows))
