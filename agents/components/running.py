"""Running a component over rows: a bad row costs that row, never its batch, nor the event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.component import Batch, Component, RowsFailed, StageOutput
from topics.events import LARGEST_FLOAT32
from topics.records import Bools, Floats, Ints

if TYPE_CHECKING:  # what only opens components, as `anabranch check`, needs no Faust
    from agents.workers import StageMetrics

T = TypeVar("T")

INVALID_OUTPUT = "InvalidOutput"
IN_THREAD_FROM = 256
"""Batches of this many rows are dealt with in a thread: ONNX Runtime releases the GIL."""

IN_THREAD_FROM_S = 0.01
"""So are batches that will take longer, by the last one: heartbeats must not wait for them. The
first one is too, of which nothing is known."""


@dataclass(frozen=True, slots=True)
class ComponentOutputs:
    """A component's outputs for N rows; where `present` is False, `errors` says why."""

    present: Bools
    output: Floats
    signal: NDArray[np.float32]
    errors: Mapping[int, tuple[str, str]]
    """Row → (class, reason)."""

    def picked(self, rows: Ints) -> ComponentOutputs:
        """Some rows (N), in ascending order."""
        place = {row: at for at, row in enumerate(rows.tolist())} if self.errors else {}
        errors = {place[row]: why for row, why in self.errors.items() if row in place}
        return ComponentOutputs(self.present[rows], self.output[rows], self.signal[rows], errors)


def transform(component: Component, batch: Batch) -> ComponentOutputs:
    """Run *component* over *batch*; a row that raises or gives nonsense is absent."""
    if batch.rows == 0:
        return _absent(0, {})
    try:
        return checked(component.transform(batch), batch.rows)
    except RowsFailed as exc:
        return _without(checked(exc.outputs, batch.rows), exc.errors)
    except Exception as exc:  # the boundary to the component's code: any error is its rows'
        if batch.rows == 1:
            return _absent(1, {0: (type(exc).__name__, _message(exc))})
    half = batch.rows // 2
    first = transform(component, _sliced(batch, slice(0, half)))
    second = transform(component, _sliced(batch, slice(half, batch.rows)))
    return _stacked(first, second)


def _without(outputs: ComponentOutputs, errors: Mapping[int, tuple[str, str]]) -> ComponentOutputs:
    """The outputs, without those of rows that the component says have failed."""
    present, signal = outputs.present.copy(), outputs.signal.copy()
    failed = list(errors)
    present[failed], signal[failed] = False, 0
    return ComponentOutputs(present, outputs.output, signal, {**outputs.errors, **errors})


def spread(outputs: ComponentOutputs, rows: Ints, n: int) -> ComponentOutputs:
    """*outputs*, whose rows are *rows* of N, among all N; the others are absent without reason."""
    if len(rows) == n:
        return outputs
    present = np.zeros(n, np.bool_)
    output = np.zeros((n, outputs.output.shape[1]), outputs.output.dtype)
    signal = np.zeros(n, np.float32)
    present[rows], output[rows], signal[rows] = outputs.present, outputs.output, outputs.signal
    return ComponentOutputs(
        present, output, signal, {int(rows[row]): why for row, why in outputs.errors.items()}
    )


def _message(exc: Exception) -> str:
    """What the exception says, as text that can be written; user code may raise anything."""
    try:
        text = str(exc)
    except Exception:  # even its __str__ is user code
        return "no message"
    return text[:300].encode("utf-8", "replace").decode()


def checked(stage_output: StageOutput, rows: int) -> ComponentOutputs:
    """A component's outputs for N rows; TypeError when they have not their shapes."""
    output = np.asarray(stage_output.output)
    with np.errstate(over="ignore"):  # to infinity, which is no signal
        signal = np.asarray(stage_output.signal, dtype=np.float32)
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
        return ComponentOutputs(present, output, signal, {})
    errors = {
        int(row): (INVALID_OUTPUT, _what_is_wrong(output[row], signal[row]))
        for row in np.flatnonzero(~present)
    }
    return ComponentOutputs(
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


def _absent(rows: int, errors: Mapping[int, tuple[str, str]]) -> ComponentOutputs:
    return ComponentOutputs(
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


def _stacked(first: ComponentOutputs, second: ComponentOutputs) -> ComponentOutputs:
    width = max((h.output.shape[1] for h in (first, second) if h.present.any()), default=1)
    first, second = _of_width(first, width), _of_width(second, width)
    halves = [first, second]
    shift = len(first.present)
    return ComponentOutputs(
        np.concatenate([half.present for half in halves]),
        np.concatenate([half.output for half in halves]),
        np.concatenate([half.signal for half in halves]),
        {**first.errors, **{row + shift: why for row, why in second.errors.items()}},
    )


def _of_width(half: ComponentOutputs, width: int) -> ComponentOutputs:
    """*half* with outputs of *width* columns; rows with another width are absent."""
    if half.output.shape[1] == width:
        return half
    why = (INVALID_OUTPUT, f"{half.output.shape[1]} output columns where other rows have {width}")
    errors = {int(row): why for row in np.flatnonzero(half.present)}
    return ComponentOutputs(
        np.zeros_like(half.present),
        np.zeros((len(half.present), width), half.output.dtype),
        np.zeros_like(half.signal),
        {**half.errors, **errors},
    )


class Inference:
    """Knows how long a row took last time, and observes how long each batch takes.

    *always_in_thread* is for code of the user's own: what a row took last time says nothing of the
    next one.
    """

    def __init__(self, metrics: StageMetrics, *, always_in_thread: bool = False) -> None:
        self._metrics = metrics
        self._row_s = math.inf
        self._always = always_in_thread

    async def run(self, call: Callable[[], T], rows: int) -> T:
        """The result of *call*, which deals with so many rows; in a thread when it is long."""
        long = rows >= IN_THREAD_FROM or rows * self._row_s > IN_THREAD_FROM_S
        if rows and (long or self._always):
            result, took = await asyncio.to_thread(_timed, call)
        else:
            result, took = _timed(call)
        if rows:  # none says nothing about the next ones
            self._row_s = took / rows
        self._metrics.observe_inference(took)
        return result


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    """The result of *call*, and the seconds that it took: not those that it had to wait for."""
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started
