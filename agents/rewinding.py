"""Going back in a log to where a snapshot of the past was taken."""

from __future__ import annotations

import logging
from typing import Any

from faust.types import TP

from agents.worker import Worker

log = logging.getLogger(__name__)


async def must_rewind(worker: Worker[Any], tp: TP, reading: int, read_from: int | None) -> bool:
    """Read the log again from *read_from* on, if *reading*, the offset in hand, is beyond it.

    True when the records in hand are to be left: they come again.
    """
    if read_from is None or reading <= read_from:
        return False
    first, _ = await worker.tail.bounds(tp.topic, tp.partition)
    if first > read_from:
        log.error(
            "%s[%d]: offsets %d to %d were deleted, but no snapshot holds them: windows that "
            "reach back to them are incomplete (is the topic's retention too short?)",
            tp.topic, tp.partition, read_from, first - 1,
        )  # fmt: skip
    start = max(first, read_from)
    if reading <= start:
        return False
    worker.wiring.app.batches.rewind(tp, start)
    return True
