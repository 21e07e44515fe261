"""What a redriven event sees of the past: its entity's, up to its own time, and itself.

It is not remembered: the state of windows stays a function of the events and outcomes alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from faust.types import TP

from agents.redrive import Refusals
from agents.windows.entity_past import Past, orders_of
from agents.windows.log_rewind import Resumption
from agents.workers import Worker
from models.component import Column
from models.features import WindowPlan
from topics.errors import WireError
from topics.events import DecodedEvents
from topics.redrive import RedriveRecord

log = logging.getLogger(__name__)


def glimpsed(
    past: Past, plan: WindowPlan, decoded: DecodedEvents, redrives: Sequence[RedriveRecord]
) -> dict[str, Column]:
    """The windowed features (M,) of the valid events of *redrives* (N), which are *decoded*."""
    entities, times_ms = plan.entities(decoded.columns), decoded.columns[plan.time]
    valid = [redrives[row] for row in decoded.valid.tolist()]
    for redrive, entity, time_ms in zip(valid, entities, times_ms.tolist(), strict=True):
        if not past.windows.remembers(entity, time_ms):
            log.warning(
                "%s[%d]@%d comes so late again that the beginnings of its windows are forgotten",
                redrive.header.source.topic, redrive.partition, redrive.offset,
            )  # fmt: skip
    orders = orders_of(
        np.array([redrive.partition for redrive in valid], np.int64),
        np.array([redrive.offset for redrive in valid], np.int64),
    )
    return past.glimpses(entities, times_ms, orders, plan.values(decoded.columns))


async def caught_up(
    worker: Worker[Any], past: Past, resumption: Resumption, log_of: TP,
    redrives: Sequence[RedriveRecord],
) -> tuple[list[RedriveRecord], Refusals]:  # fmt: skip
    """Those of *redrives*, all of one source partition, to whose source records *past* reaches.

    What is missing is read again: after a restart the past may lie in the log *log_of*, though
    nothing new has come there. Beside them those that there is no source record of, and why.
    """
    source = redrives[0].header.source
    reached = past.of(source.topic, source.partition).offset
    ready = [redrive for redrive in redrives if redrive.offset <= reached]
    if len(ready) == len(redrives):
        return ready, {}
    _, end = await worker.tail.bounds(source.topic, source.partition)
    refused: Refusals = {
        redrive.offset: WireError(
            f"not a redrive record: {source.topic}[{source.partition}] ends at {end}"
        )
        for redrive in redrives
        if redrive.offset >= end > reached
    }
    waiting = [it for it in redrives if it.offset > reached and it.offset not in refused]
    if waiting and log_of in worker.wiring.app.batches.assignment():
        # Otherwise the group is changing: they are read again by who owns both.
        await resumption.take_up(worker, log_of)
        first, after_last = await worker.tail.bounds(log_of.topic, log_of.partition)
        if first == after_last:  # deleted: this is all the past there is
            ready = [redrive for redrive in redrives if redrive.offset not in refused]
    return ready, refused
