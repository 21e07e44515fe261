"""When a worker gives its signs of life: often enough to be alive, never while it hangs.

This is the protocol of who lives; the modules that play a part in it refer to their own part only.

*What is said.* Output is a sign of life. Where nothing was written for a quarter of the pipeline's
`stall_timeout_s` a heartbeat is, on the component's topic, of each source partition (and lane), and
at once when something is new (`agents.workers.stage_pulse`, `topics.records.heartbeat`). It says
how far the answers reach, what is waited for, whether that is down, and which rows are tried.

*Who is down.* A stage that says nothing for `stall_timeout_s`; one whose workers end or come in
turn without an answer; one that waits for a stage that is down. Whoever reads it finds that by
itself: a join (`agents.join.lane`), once it has read all that the stage has written, and the order
of repartitioned events (`agents.windows.event_time_order`). Silence counts only while one listens
(`agents.workers.attended_clock`).

*What follows.* Rows are decided without a stage that is down, where the others are a quorum
(`agents.join.partition_join`). A process with a component that is stuck ends
(`agents.process.liveness`). People are told by reports (`agents.status.pipeline_status`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError

from topics.errors import BrokerError, LeaseLost

if TYPE_CHECKING:
    from agents.workers.worker import Worker

log = logging.getLogger(__name__)

_HEARTBEATS = 4
"""In the time after which a silent component is down."""
_BEAT_S = 1.0
"""How often a worker looks whether a heartbeat is due, at least."""


class SignsOfLife:
    """Those of one worker.

    A worker that hangs gives none: it may take the stall time-out for a fetch, or a portion of one
    that it deals with in portions, and longer only as long as it reads.
    """

    def __init__(self, worker: Worker[Any]) -> None:
        self._worker = worker
        self._interval_s = worker.stall_timeout_s / _HEARTBEATS
        self._progress = (0, 0)
        self._progressed_at = time.monotonic()

    async def beat(self) -> None:
        """Give one for every partition, whenever it is due, for ever."""
        while True:
            await asyncio.sleep(min(_BEAT_S, self._interval_s / 2))
            if self._worker.is_current and not self._hangs():
                await self.give()

    async def give(self) -> None:
        """Give those that are due now."""
        try:
            await self._worker.give_signs(self._interval_s)
        except LeaseLost:
            return  # a rebalance: whoever has the partitions now speaks for them
        except (BrokerError, KafkaError) as exc:
            log.warning("%s: no heartbeat written: %s", self._worker.wiring.app.conf.id, exc)

    def _hangs(self) -> bool:
        worker = self._worker
        progress = (worker.steps, worker.tail.records_read)
        if progress != self._progress or not worker.wiring.app.batches.busy_s():
            self._progress, self._progressed_at = progress, time.monotonic()
        return time.monotonic() - self._progressed_at > worker.stall_timeout_s
