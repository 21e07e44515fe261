"""Going back in a log to where a snapshot of the past was taken.

Whatever offset was committed: what windows have seen since the snapshot is not in it. Fetches that
were on their way when a log was rewound are left alone until it comes again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from faust.types import TP

from agents.redrive import Refusals
from agents.windows import EntityPast
from agents.workers import Worker
from topics.errors import WireError
from topics.redrive import RedriveBatch

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LogRewind:
    """Where a partition's log is to be taken up again, whatever offset was committed."""

    read_from: int | None
    """None once it has been taken up."""
    rewound_at: int | None = None
    """The offset in hand when it was rewound: fetches that were on their way begin behind it."""

    committed: int | None = None
    """Where reading began, when the log was taken up before anything came of it."""

    async def take_up(self, worker: Worker[Any], tp: TP) -> None:
        """Go back now, without waiting for what comes next; nothing when that has been done."""
        if self.read_from is None:
            return
        self.committed = worker.wiring.app.batches.committed(tp)
        if await self.leaves(worker, tp, self.committed):
            self.rewound_at = self.committed - 1  # nothing is in hand yet

    async def go_back(self, worker: Worker[Any], tp: TP, position: int, next_offset: int) -> None:
        """Read again from *position* on what has been read up to *next_offset*."""
        self.read_from = position
        if await self.leaves(worker, tp, next_offset):
            self.rewound_at = next_offset - 1  # nothing is in hand

    async def leaves(self, worker: Worker[Any], tp: TP, reading: int) -> bool:
        """True when the records in hand, from offset *reading* on, will come again."""
        if self.rewound_at is not None:
            if reading > self.rewound_at and not await self._is_gone(worker, tp, reading):
                return True
            self.rewound_at = None
        if self.read_from is None:
            return False
        start, self.read_from = await _start(worker, tp, reading, self.read_from), None
        if start >= reading:
            return False
        worker.wiring.app.batches.rewind(tp, start)
        self.rewound_at = reading
        return True

    @staticmethod
    async def _is_gone(worker: Worker[Any], tp: TP, reading: int) -> bool:
        """All before *reading* was deleted meanwhile: what it was rewound to never comes."""
        first, _ = await worker.tail.bounds(tp.topic, tp.partition)
        if first >= reading:
            log.error(
                "%s[%d]: offsets before %d were deleted while they were to be read again: windows "
                "that reach back to them are incomplete (is the topic's retention too short?)",
                tp.topic, tp.partition, first,
            )  # fmt: skip
        return first >= reading


async def with_their_past(
    worker: Worker[Any], past: EntityPast, rewind: LogRewind, log_of: TP,
    redrives: RedriveBatch,
) -> tuple[RedriveBatch, Refusals]:  # fmt: skip
    """Those of *redrives* to whose source records *past* reaches.

    What is missing is read again: after a restart the past may lie in the log *log_of*, though
    nothing new has come there. Beside them those that there is no source record of, and why.
    """
    topic, partition, offsets = redrives.topic, redrives.partition, redrives.offsets
    reached = past.progress_of(topic, partition).offset
    ready = offsets <= reached
    if ready.all():
        return redrives, {}
    _, end = await worker.tail.bounds(topic, partition)
    unknown = ~ready & (offsets >= end)
    refused: Refusals = {
        offset: WireError(f"not a redrive record: {topic}[{partition}] ends at {end}")
        for offset in offsets[unknown].tolist()
    }
    waits = bool((~ready & ~unknown).any())
    if waits and log_of in worker.wiring.app.batches.assignment():
        # Otherwise the group is changing: they are read again by who owns both.
        await rewind.take_up(worker, log_of)
        first, after_last = await worker.tail.bounds(log_of.topic, log_of.partition)
        if first == after_last:  # deleted: this is all the past there is
            ready = ~unknown
    return redrives.picked(np.flatnonzero(ready)), refused


async def _start(worker: Worker[Any], tp: TP, reading: int, read_from: int) -> int:
    """Where the log can be taken up: at *read_from*, or behind what was deleted."""
    if reading <= read_from:
        return reading
    first, _ = await worker.tail.bounds(tp.topic, tp.partition)
    if first > read_from:
        log.error(
            "%s[%d]: offsets %d to %d were deleted, but no snapshot holds them: windows that "
            "reach back to them are incomplete (is the topic's retention too short?)",
            tp.topic, tp.partition, read_from, first - 1,
        )  # fmt: skip
    return max(first, read_from)
