"""What components make again of recorded rows, beside what they wrote of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.components import ComponentOutputs, OpenComponent, run_models, spread
from agents.join import StageRows
from agents.workers import WORKER_ENDED
from models.component import Batch, StageOutput
from topics.records import Bools, Ints, ModelRef

OUTPUT_TOO_LARGE = "OutputTooLarge"
_NOT_OF_THE_ROW = (WORKER_ENDED, OUTPUT_TOO_LARGE)
"""Why a row is absent that says nothing of what a component makes of it."""

BatchOf = Callable[[Ints], Batch]
"""What a component reads of some rows."""


class Divergence(NamedTuple):
    """A row of which a component says now what it has not written."""

    row: int
    field: str
    recorded: str
    recomputed: str


class ModelRows(NamedTuple):
    """Rows that one model has made."""

    model: ModelRef
    rows: Ints


def rows_by_model(recorded: StageRows, rows: Ints) -> Iterator[ModelRows]:
    """Of *rows* those of each model that has made any of them."""
    if not recorded.models:
        return
    starts = np.array([run.start for run in recorded.models])
    # Rows before the first that was delivered have none.
    run_of = np.maximum(starts.searchsorted(rows, "right") - 1, 0)
    models = [run.model for run in recorded.models]
    for model in dict.fromkeys(models):
        of_model = np.array([each == model for each in models])[run_of]
        if of_model.any():
            yield ModelRows(model, rows[of_model])


def recomputed(opened: OpenComponent, batch_of: BatchOf, rows: Ints, n: int) -> ComponentOutputs:
    """What a component makes of *rows* of N; the others are absent without reason."""
    return spread(run_models(opened, None, batch_of(rows)).outputs, rows, n)


def joined_batch(inputs: Mapping[str, StageRows]) -> BatchOf:
    """What a component reads that reads others."""

    def batch_of(rows: Ints) -> Batch:
        outputs = {
            name: StageOutput(stage.output[rows], stage.signal[rows])
            for name, stage in inputs.items()
        }
        return Batch(rows=len(rows), inputs=outputs)

    return batch_of


def passed_over(recorded: StageRows) -> Bools:
    """Rows (N,) that are absent for what is not of the row: it was not run on, or not written."""
    rows = np.zeros(len(recorded.present), np.bool_)
    for failure in recorded.failures:
        if failure.error in _NOT_OF_THE_ROW:
            rows[failure.row] = True
    return rows


def divergences(recorded: StageRows, made: ComponentOutputs, rows: Ints) -> Iterator[Divergence]:
    """Of *rows* those that differ in any bit, ascending; the first field that does."""
    there = recorded.present[rows] & made.present[rows]
    differs = recorded.present[rows] != made.present[rows]
    differs |= there & ~_same_bits(recorded.signal[rows], made.signal[rows])
    alike = recorded.output.shape[1:] == made.output.shape[1:]
    alike &= recorded.output.dtype == made.output.dtype or not there.any()
    if alike:
        differs |= there & ~_same_bits(recorded.output[rows], made.output[rows]).all(axis=1)
    else:
        differs |= there
    errors = {failure.row: failure.error for failure in recorded.failures}
    wrong = [row for row, (error, _) in made.errors.items() if errors.get(row, error) != error]
    differs |= np.isin(rows, wrong)
    for row in rows[differs].tolist():
        yield Divergence(row, *_field(recorded, made, row, errors))


def _field(
    recorded: StageRows, made: ComponentOutputs, row: int, errors: Mapping[int, str]
) -> tuple[str, str, str]:
    """Where a row differs first, and both values."""
    if not (recorded.present[row] and made.present[row]):
        error, _ = made.errors.get(row, ("no output", ""))
        was = "an output" if recorded.present[row] else errors.get(row, "no output")
        return "present", was, "an output" if made.present[row] else error
    if not _same_bits(recorded.signal[row : row + 1], made.signal[row : row + 1]).all():
        return "signal", _exact(recorded.signal[row]), _exact(made.signal[row])
    before, now = recorded.output[row], made.output[row]
    if before.shape != now.shape or before.dtype != now.dtype:
        return (
            "output", f"{len(before)} columns of {before.dtype}", f"{len(now)} of {now.dtype}",
        )  # fmt: skip
    column = int(np.argmin(_same_bits(before, now)))
    return f"output[{column}]", _exact(before[column]), _exact(now[column])


def _same_bits(one: NDArray[Any], other: NDArray[Any]) -> Bools:
    """Element by element; floats of one width each."""
    if one.dtype != other.dtype:
        return np.zeros(one.shape, np.bool_)
    bits = np.dtype(f"u{one.dtype.itemsize}")
    same: Bools = np.ascontiguousarray(one).view(bits) == np.ascontiguousarray(other).view(bits)
    return same


def _exact(value: np.floating[Any]) -> str:
    """A number, so that any other bits look different."""
    return f"{float(value)!r} ({float(value).hex()})"
