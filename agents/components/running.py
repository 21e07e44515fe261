"""Running a component over rows so that a bad row costs that row, never its batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.component import Batch, Component, StageOutput
from topics.events import LARGEST_FLOAT32
from topics.records import Bools, Floats, Ints

INVALID_OUTPUT = "InvalidOutput"


@dataclass(frozen=True, slots=True)
class Transformed:
    """A component's outputs for N rows; where `present` is False, `errors` says why."""

    present: Bools
    output: Floats
    signal: NDArray[np.float32]
    errors: Mapping[int, tuple[str, str]]
    """Row → (class, reason)."""

    def picked(self, rows: Ints) -> Transformed:
        """Some rows (N), in ascending order."""
        place = {row: at for at, row in enumerate(rows.tolist())} if self.errors else {}
        errors = {place[row]: why for row, why in self.errors.items() if row in place}
        return Transformed(self.present[rows], self.output[rows], self.signal[rows], errors)


def transform(component: Component, batch: Batch) -> Transformed:
    """Run *component* over *batch*; a row that raises or gives nonsense is absent."""
    if batch.rows == 0:
        return _absent(0, {})
    try:
        return checked(component.transform(batch), batch.rows)
    except Exception as exc:  # the boundary to the component's code: any error is its rows'
        if batch.rows == 1:
            return _absent(1, {0: (type(exc).__name__, _said(exc))})
    half = batch.rows // 2
    first = transform(component, _sliced(batch, slice(0, half)))
    second = transform(component, _sliced(batch, slice(half, batch.rows)))
    return _stacked(first, second)


def spread(done: Transformed, rows: Ints, n: int) -> Transformed:
    """*done*, whose rows are *rows* of N, among all N; the others are absent without reason."""
    if len(rows) == n:
        return done
    present = np.zeros(n, np.bool_)
    output = np.zeros((n, done.output.shape[1]), done.output.dtype)
    signal = np.zeros(n, np.float32)
    present[rows], output[rows], signal[rows] = done.present, done.output, done.signal
    return Transformed(
        present, output, signal, {int(rows[row]): why for row, why in done.errors.items()}
    )


def _said(exc: Exception) -> str:
    """What the exception says, as text that can be written; user code may raise anything."""
    try:
        text = str(exc)
    except Exception:  # even its __str__ is user code
        return "no message"
    return text[:300].encode("utf-8", "replace").decode()


def checked(made: StageOutput, rows: int) -> Transformed:
    """A component's outputs for N rows; TypeError when they have not their shapes."""
    output = np.asarray(made.output)
    with np.errstate(over="ignore"):  # to infinity, which is no signal
        signal = np.asarray(made.signal, dtype=np.float32)
    if output.ndim != 2 or len(output) != rows or signal.shape != (rows,):
        raise TypeError(
            f"a component must return output (N, F) and signal (N,) for N={rows}, "
            f"not {output.shape} and {signal.shape}"
        )
    if output.dtype not in (np.float32, np.float64):
        output = output.astype(np.float64)
    present = (signal >= 0) & (signal <= 1)
    # NaN is neither above nor below; the extremes of all rows take the least time to look at.
    if output.size and not -LARGEST_FLOAT32 <= output.min() <= output.max() <= LARGEST_FLOAT32:
        present &= (np.abs(output) <= LARGEST_FLOAT32).all(axis=1)
    if present.all():
        return Transformed(present, output, signal, {})
    errors = {
        int(row): (INVALID_OUTPUT, _what_is_wrong(output[row], signal[row]))
        for row in np.flatnonzero(~present)
    }
    return Transformed(
        present,
        np.where(present[:, None], output, 0).astype(output.dtype),
        np.where(present, signal, 0).astype(np.float32),
        errors,
    )


def _what_is_wrong(output: Floats, signal: np.float32) -> str:
    """Of one row: the number that is not finite, or too large for models, or no signal."""
    wrong = np.flatnonzero(~(np.abs(output) <= LARGEST_FLOAT32))
    if not len(wrong):
        return f"signal {signal}: it has to be in [0, 1]"
    number = float(output[wrong[0]])
    why = "beyond float32, in which models compute" if np.isfinite(number) else "not finite"
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"output column {wrong[0] + 1} of {len(output)} is {number:.4g}: {why}{more}"


def _absent(rows: int, errors: Mapping[int, tuple[str, str]]) -> Transformed:
    return Transformed(
        np.zeros(rows, np.bool_),
        np.zeros((rows, 1), np.float32),
        np.zeros(rows, np.float32),
        errors,
    )


def _sliced(batch: Batch, rows: slice) -> Batch:
    return Batch(
        rows=rows.stop - rows.start,
        columns={name: column[rows] for name, column in batch.columns.items()},
        inputs={
            name: StageOutput(stage.output[rows], stage.signal[rows])
            for name, stage in batch.inputs.items()
        },
    )


def _stacked(first: Transformed, second: Transformed) -> Transformed:
    width = max((h.output.shape[1] for h in (first, second) if h.present.any()), default=1)
    first, second = _of_width(first, width), _of_width(second, width)
    halves = [first, second]
    shift = len(first.present)
    return Transformed(
        np.concatenate([half.present for half in halves]),
        np.concatenate([half.output for half in halves]),
        np.concatenate([half.signal for half in halves]),
        {**first.errors, **{row + shift: why for row, why in second.errors.items()}},
    )


def _of_width(half: Transformed, width: int) -> Transformed:
    """*half* with outputs of *width* columns; rows with another width are absent."""
    if half.output.shape[1] == width:
        return half
    why = (INVALID_OUTPUT, f"{half.output.shape[1]} output columns where other rows have {width}")
    errors = {int(row): why for row in np.flatnonzero(half.present)}
    return Transformed(
        np.zeros_like(half.present),
        np.zeros((len(half.present), width), half.output.dtype),
        np.zeros_like(half.signal),
        {**half.errors, **errors},
    )
