"""A worker that refuses a pipeline's topics says so for a while before its process ends.

What reads no record any more would otherwise be seen by nobody: a process that is gone answers
neither a probe nor a scrape, and one that is started again ends before anybody has asked it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agents.process.liveness import LOOK_S, Liveness
from agents.workers import Metrics
from topics.errors import TopicMismatch, TopicMissing, TopicRecreated

log = logging.getLogger(__name__)

SHOWN_FOR_S = 20.0
"""Longer than Prometheus takes to come by twice; workers still end within a minute."""

Refusal = TopicMismatch | TopicMissing | TopicRecreated

_REASONS = {TopicMismatch: "partitions", TopicMissing: "missing", TopicRecreated: "recreated"}


@asynccontextmanager
async def show_refusal(
    pipeline: str, metrics: Metrics, liveness: Liveness, stopping: asyncio.Event, for_s: float
) -> AsyncIterator[None]:
    """Where topics are refused meanwhile, say so on the metrics port for *for_s*; then raise it.

    *stopping* ends that sooner.
    """
    try:
        yield
    except Exception as exc:
        refusal = refusal_in(exc)
        if refusal is None or for_s <= 0:
            raise
        log.warning("%s; the process says so for %.0f s, and ends", refusal, for_s)
        reason = _REASONS[type(refusal)]
        metrics.topic_mismatch.labels(pipeline, refusal.topic, reason).set(1)
        liveness.refused, liveness.ready = str(refusal), False
        until = time.monotonic() + for_s
        while time.monotonic() < until and not stopping.is_set():
            liveness.look({})  # nothing is stuck: there is nothing to do any more
            await asyncio.sleep(LOOK_S)
        raise


def refusal_in(exc: BaseException | None) -> Refusal | None:
    """The refusal that *exc* is, or that it was caused by."""
    while exc is not None and not isinstance(exc, Refusal):
        exc = exc.__cause__
    return exc
