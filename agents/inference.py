"""Running a component's code without holding up the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from agents.stage_metrics import StageMetrics

T = TypeVar("T")

IN_THREAD_FROM = 256
"""Batches of this many rows are dealt with in a thread: ONNX Runtime releases the GIL."""

IN_THREAD_FROM_S = 0.01
"""So are batches that will take longer, by the last one: heartbeats must not wait for them."""


class Inference:
    """Knows how long a row took last time, and observes how long each batch takes."""

    def __init__(self, metrics: StageMetrics) -> None:
        self._metrics = metrics
        self._row_s = 0.0

    async def run(self, call: Callable[[], T], rows: int) -> T:
        """The result of *call*, which deals with so many rows; in a thread when it is long."""
        started = time.perf_counter()
        if rows >= IN_THREAD_FROM or rows * self._row_s > IN_THREAD_FROM_S:
            made = await asyncio.to_thread(call)
        else:
            made = call()
        took = time.perf_counter() - started
        if rows:  # none says nothing about the next ones
            self._row_s = took / rows
        self._metrics.observe_inference(took)
        return made
