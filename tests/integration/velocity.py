"""Components of a user's own: one as the README shows it, and some that misbehave."""

import time
from pathlib import Path

import numpy as np

from models.component import Batch, Component, StageOutput

EVENT = """
event:
  id: transaction_id
  key: customer_id
  time: occurred_at
  fields:
    transaction_id: {type: string}
    occurred_at: {type: timestamp}
    customer_id: {type: string}
    terminal_id: {type: string}
    amount: {type: number}
"""
"""The event of pipelines that need no trained model, for a pipeline file."""


class LargeAmount(Component):
    def __init__(self, limit: float) -> None:
        self._limit = limit

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.clip(batch.columns["amount"] / self._limit, 0, 1))


class LargeFeature(LargeAmount):
    """The same, of the first feature of `features`: a pure function of it."""

    def transform(self, batch: Batch) -> StageOutput:
        amounts = batch.inputs["features"].output[:, 0]
        return super().transform(Batch(batch.rows, columns={"amount": amounts}))


class Unlucky(Component):
    """Fails on every amount that ends in .13, and takes its time over nothing."""

    def transform(self, batch: Batch) -> StageOutput:
        amounts = batch.inputs["features"].output[:, 0]
        if (np.round(amounts * 100) % 100 == 13).any():
            raise ArithmeticError("thirteen")
        return StageOutput.of_signal(np.full(batch.rows, 0.5))


class Mendable(Component):
    """Fails on a quarter of the amounts as long as the file *flag* is there; counts its rows.

    It never comes back as long as the file *halt* is there.
    """

    def __init__(self, flag: str, counter: str, halt: str) -> None:
        self._flag = Path(flag)
        self._counter = Path(counter)
        self._halt = Path(halt)

    def transform(self, batch: Batch) -> StageOutput:
        while self._halt.exists():
            time.sleep(0.1)
        amounts = batch.inputs["features"].output[:, 0]
        if self._flag.exists() and (np.round(amounts * 100) % 4 == 0).any():
            raise ArithmeticError("a multiple of four")
        count_rows(self._counter, batch.rows)
        return StageOutput.of_signal(np.full(batch.rows, 0.5))


class Counted(LargeAmount):
    """Counts its rows."""

    def __init__(self, limit: float, counter: str) -> None:
        super().__init__(limit)
        self._counter = Path(counter)

    def transform(self, batch: Batch) -> StageOutput:
        count_rows(self._counter, batch.rows)
        return super().transform(batch)


def count_rows(counter: Path, rows: int) -> None:
    with counter.open("a") as file:
        file.write(f"{rows}\n")


class Hanging(Component):
    """Never comes back as long as the file *flag* is there."""

    def __init__(self, flag: str) -> None:
        self._flag = Path(flag)

    def transform(self, batch: Batch) -> StageOutput:
        while self._flag.exists():
            time.sleep(0.1)
        return StageOutput.of_signal(np.zeros(batch.rows))


class Talking(Component):
    """Prints where status lines go, too."""

    def load(self) -> None:
        print("hello from a component")

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.zeros(batch.rows))


class Half(Component):
    """The same of every row."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.full(batch.rows, 0.5))


class Fickle(LargeAmount):
    """Fails on every row while the file *fails* is there; says one thing while *constant* is."""

    def __init__(self, limit: float, fails: str, constant: str) -> None:
        super().__init__(limit)
        self._fails, self._constant = Path(fails), Path(constant)

    def transform(self, batch: Batch) -> StageOutput:
        if self._fails.exists():
            raise ArithmeticError("fickle")
        if self._constant.exists():
            return StageOutput.of_signal(np.full(batch.rows, 0.25))
        return super().transform(batch)


class SmallAmount(LargeAmount):
    """The opposite."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(1 - super().transform(batch).signal)
