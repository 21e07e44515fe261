"""Components that are slow, or hang, as long as a file is there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from models.component import Batch, Component, StageOutput


class Amount(Component):
    """The amount of a payment, as a share of 1,000."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.clip(batch.columns["amount"] / 1000, 0, 1))


class Slow(Component):
    """What it is given, after `us_per_row`, or ten times that while the file *flag* is there."""

    def __init__(self, flag: str, us_per_row: float) -> None:
        self._flag = Path(flag)
        self._us_per_row = us_per_row

    def transform(self, batch: Batch) -> StageOutput:
        times = 10 if self._flag.exists() else 1
        time.sleep(times * self._us_per_row * batch.rows / 1e6)
        return StageOutput.of_signal(batch.inputs["amount"].output[:, 0])


class Hanging(Component):
    """What it is given, but never while the file *flag* is there."""

    def __init__(self, flag: str) -> None:
        self._flag = Path(flag)

    def transform(self, batch: Batch) -> StageOutput:
        while self._flag.exists():
            time.sleep(0.1)
        return StageOutput.of_signal(batch.inputs["amount"].output[:, 0])


class NotANumber(Component):
    """Nothing that can be used."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.full(batch.rows, np.nan))


class Poisoned(Component):
    """What it is given; but one amount takes the whole process along, as native code can."""

    def __init__(self, cents: int) -> None:
        self._cents = cents

    def transform(self, batch: Batch) -> StageOutput:
        amounts = batch.inputs["amount"].output[:, 0]
        if (np.round(amounts * 100_000) == self._cents).any():
            os._exit(17)
        return StageOutput.of_signal(amounts)


class Ending(Component):
    """It never gets as far as an answer."""

    def transform(self, batch: Batch) -> StageOutput:
        os._exit(18)
