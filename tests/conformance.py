"""What every component must keep to: call `check_component` with yours and a batch of rows."""

from __future__ import annotations

import copy
import pickle

import numpy as np

from models.component import Batch, Component, StageOutput


def check_component(component: Component, batch: Batch) -> None:
    """Fail unless *component* keeps the contract of `models.component` on *batch*."""
    component.load()
    before = pickle.dumps(batch)
    whole = component.transform(batch)
    _check_form(whole, batch.rows)
    assert pickle.dumps(batch) == before, "transform must not change its arguments"
    _check_same(component.transform(copy.deepcopy(batch)), whole, "the same batch again")
    for size in (1, 2, 7):
        parts = [
            component.transform(_rows(batch, start, min(start + size, batch.rows)))
            for start in range(0, batch.rows, size)
        ]
        joined = StageOutput(
            np.concatenate([part.output for part in parts]),
            np.concatenate([part.signal for part in parts]),
        )
        _check_same(joined, whole, f"the same rows in batches of {size}")


def _check_form(made: StageOutput, rows: int) -> None:
    assert made.output.ndim == 2, "output is (N, F)"
    assert len(made.output) == rows, "output has a row for each row"
    assert made.output.dtype in (np.float32, np.float64), "output is float32 or float64"
    assert np.isfinite(made.output).all(), "output is finite"
    assert made.signal.shape == (rows,), "signal is (N,)"
    assert made.signal.dtype == np.float32, "signal is float32"
    assert ((made.signal >= 0) & (made.signal <= 1)).all(), "signal is in [0, 1]"


def _check_same(made: StageOutput, whole: StageOutput, when: str) -> None:
    assert made.output.tobytes() == whole.output.tobytes(), f"other output bits for {when}"
    assert made.signal.tobytes() == whole.signal.tobytes(), f"other signal bits for {when}"


def _rows(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(
        rows=stop - start,
        columns={name: column[start:stop] for name, column in batch.columns.items()},
        inputs={
            name: StageOutput(stage.output[start:stop], stage.signal[start:stop])
            for name, stage in batch.inputs.items()
        },
    )
