"""A worker that reads stage topics: one offset-aligned join per source partition."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.join import Joined, PartitionJoin
from agents.worker import Wiring, Worker, all_done
from topics.errors import WireError
from topics.fetch import Fetch
from topics.stage_batch import StageBatch
from topics.wire import decode

log = logging.getLogger(__name__)

_LOOK_S = 0.02
"""How often partitions that got nothing are looked at: rows may have come to their deadline."""


class JoinedWorker(Worker[PartitionJoin]):
    """Feeds the joins and hands on what leaves them. Subclasses say what is done with it."""

    def __init__(self, wiring: Wiring, inputs: Sequence[str], deadline_s: float) -> None:
        super().__init__(wiring)
        self._inputs = inputs
        self._deadline_s = deadline_s
        self._look_at = 0.0
        self._stage_of = {self.topology.stage(name): name for name in inputs}

    async def emit(self, partition: int, joined: Joined) -> None:
        """Deal with joined rows; returns when what they lead to is written."""
        raise NotImplementedError

    def new_join(self, done: int) -> PartitionJoin:
        """A join that starts after source offset *done*."""
        weighting = self.wiring.pipeline.weighting
        return PartitionJoin(
            self._inputs, done=done, now=time.monotonic(), deadline_s=self._deadline_s,
            stall_timeout_s=weighting.stall_timeout_s, max_rows=weighting.max_in_flight,
            lanes=dict.fromkeys(self.topology.repartitioned, self.topology.partitions),
        )  # fmt: skip

    async def process(self, fetch: Fetch) -> None:
        """Push what was fetched, emit what is complete or overdue."""
        started = time.perf_counter()
        pushed = 0
        for tp, records in fetch.records.items():
            join = await self.state(tp.partition)
            for record in records:
                batch = self._decoded(tp, record, join)
                pushed += len(batch) if batch else 0
                if batch is not None:
                    join.push(batch, (tp, record.offset + 1), time.monotonic())
        touched = {tp.partition for tp in fetch.records}
        if started >= self._look_at or not touched:
            self._look_at = started + _LOOK_S
            touched = {partition for partition, _ in self.states()}
        await all_done([self._emit_all(p, join) for p, join in self.states() if p in touched])
        self._pause_what_runs_ahead()
        if pushed:
            self.wiring.metrics.observe_batch(pushed, time.perf_counter() - started)

    async def _emit_all(self, partition: int, join: PartitionJoin) -> None:
        while (joined := join.pop(time.monotonic())) is not None:
            if len(joined.rows):
                await self.emit(partition, joined)
            self.wiring.app.batches.done(joined.positions)  # type: ignore[arg-type]  # TPs

    def waits(self) -> bool:
        """Rows may come to their deadline."""
        return any(join.waits for _, join in self.states())

    def _decoded(self, tp: TP, record: ConsumerRecord, join: PartitionJoin) -> StageBatch | None:
        try:
            batch = decode(record.value, dict(record.headers))
            known = batch.component == self._stage_of[tp.topic] and join.has_lane(batch)
            if not known or batch.partition != tp.partition:
                raise WireError(
                    f"it is of {batch.component}[{batch.partition}], which belongs elsewhere"
                )
        except WireError as exc:
            # Not a row of ours: rows come in batches that our components wrote.
            log.warning("%s[%d]@%d skipped: %s", tp.topic, tp.partition, record.offset, exc)
            self.wiring.metrics.observe_skipped()
            return None
        return batch

    def _pause_what_runs_ahead(self) -> None:
        paused = {
            TP(self.topology.stage(stage), partition)
            for partition, join in self.states()
            for stage in join.full_stages()
        }
        self.wiring.app.batches.pause_only(paused)
