"""What a redriven event sees of the past: its entity's, up to its own time, and itself.

It is not remembered: the state of windows stays a function of the events and outcomes alone.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from faust.types import TP

from agents.past import Past, orders_of
from agents.rewinding import Resumption
from agents.worker import Worker
from models.component import Column
from models.windows import WindowPlan
from topics.errors import WireError
from topics.events import DecodedEvents
from topics.redrive import Errand

log = logging.getLogger(__name__)


def glimpsed(
    past: Past, plan: WindowPlan, decoded: DecodedEvents, errand: Errand
) -> dict[str, Column]:
    """The windowed features (1,) of the errand's event, which is *decoded*."""
    entity, time_ms = plan.entities(decoded.columns)[0], int(decoded.columns[plan.time][0])
    if not past.windows.remembers(entity, time_ms):
        log.warning(
            "%s[%d]@%d comes so late again that the beginnings of its windows are forgotten",
            errand.about.source.topic, errand.partition, errand.offset,
        )  # fmt: skip
    order = orders_of(errand.partition, np.array([errand.offset]))
    return past.glimpse(entity, time_ms, int(order[0]), plan.values(decoded.columns)[0])


async def is_caught_up(
    worker: Worker[Any], past: Past, resumption: Resumption, log_of: TP, errand: Errand
) -> bool:
    """Whether *past* reaches to the errand's source record; what is missing is read again.

    After a restart the past may lie in the log *log_of*, though nothing new has come there.
    Raises WireError when there is no such source record.
    """
    source = errand.about.source
    if past.of(source.topic, source.partition).offset >= source.offset:
        return True
    _, end = await worker.tail.bounds(source.topic, source.partition)
    if source.offset >= end:
        raise WireError(f"not an errand: {source.topic}[{source.partition}] ends at {end}")
    if log_of not in worker.wiring.app.batches.assignment():
        return False  # the group is changing: it is read again by who owns both
    await resumption.take_up(worker, log_of)
    first, after_last = await worker.tail.bounds(log_of.topic, log_of.partition)
    return first == after_last  # deleted: this is all the past there is
