"""Running a component's code without holding up the event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # what only opens components, as `anabranch check`, needs no Faust
    from agents.workers import StageMetrics

T = TypeVar("T")

IN_THREAD_FROM = 256
"""Batches of this many rows are dealt with in a thread: ONNX Runtime releases the GIL."""

IN_THREAD_FROM_S = 0.01
"""So are batches that will take longer, by the last one: heartbeats must not wait for them. The
first one is too, of which nothing is known."""


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
            made, took = await asyncio.to_thread(_timed, call)
        else:
            made, took = _timed(call)
        if rows:  # none says nothing about the next ones
            self._row_s = took / rows
        self._metrics.observe_inference(took)
        return made


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    """The result of *call*, and the seconds that it took: not those that it had to wait for."""
    started = time.perf_counter()
    made = call()
    return made, time.perf_counter() - started
