"""A component with the past of another field than the partition key.

Reads its keyed topic, brings rows of all source partitions into the order of event time, and
writes each row back to its source's partition, as one of the lanes that a join puts together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.event_time import BEGINNING, EventTimeOrder, Released
from agents.past import Past, orders_of
from agents.rewinding import Resumption
from agents.snapshots import SnapshotStore
from agents.worker import StageWriter, Wiring, Worker, all_done
from models.component import Batch, Column, Component
from models.windows import WindowPlan
from topics.errors import WireError
from topics.fetch import Fetch
from topics.stage_batch import ModelRef, Rows, StageBatch, concat_failures
from topics.wire import decode

log = logging.getLogger(__name__)

_SHARE_OF_DEADLINE = 0.25
"""A row that is not late waits this part of the deadline for sources that lag."""


@dataclass(slots=True)
class _Shard:
    """One partition of the key."""

    past: Past
    order: EventTimeOrder
    resumption: Resumption
    written_before: int | None = None
    """Rows of records before this one have their output already."""
    next_offset: int = 0


class KeyedStage(Worker[_Shard]):
    """Runs a component of windowed features over the rows of its key's partitions."""

    def __init__(self, wiring: Wiring, name: str, component: Component, model: ModelRef) -> None:
        super().__init__(wiring)
        self._name = name
        self._plan = WindowPlan(wiring.pipeline, name)
        self._writer = StageWriter(wiring, name, component, model)
        self._snapshots = SnapshotStore(wiring, name, self._plan)
        self._sources = self.topology.sources_of(name)

    async def open_state(self, partition: int) -> _Shard:
        """Continue from the newest snapshot."""
        pipeline = self.wiring.pipeline
        order = EventTimeOrder(
            pipeline.partitions,
            outcome_delay_ms=self._plan.delay_ms if self._plan.of_outcomes else None,
            hold_s=pipeline.weighting.deadline_ms / 1000 * _SHARE_OF_DEADLINE,
            stall_timeout_s=pipeline.weighting.stall_timeout_s,
            now=time.monotonic(),
        )
        found = await self._snapshots.load(self.tail, partition)
        past = found.past if found else Past.empty(self._plan)
        for source in range(pipeline.partitions):
            for topic in self._sources:
                reached = past.of(topic, source)
                order.start_after(
                    source, reached.offset, reached.clock_ms,
                    outcomes=topic == self.topology.outcomes,
                )  # fmt: skip
        return _Shard(past, order, Resumption(found.next_offset if found else 0))

    async def process(self, fetch: Fetch) -> None:
        """Take in what was fetched, write what need not wait any more."""
        started = time.perf_counter()
        for tp, records in fetch.records.items():
            await self._take_in(tp, records)
        written = 0
        for partition, shard in self.states():
            written += await self._release(partition, shard)
            await self._save_if_due(partition, shard)
        if fetch.records:
            self.wiring.metrics.observe_batch(written, time.perf_counter() - started)

    async def _take_in(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        shard = await self.state(tp.partition)
        if shard.written_before is None:
            shard.written_before = records[0].offset
        if await shard.resumption.leaves(self, tp, records[0].offset):
            return
        for record in records:
            batch = self._decoded(tp, record)
            if batch is None:
                continue
            if batch.topic == self.topology.outcomes:
                self._learn(shard, shard.order.note_outcomes(batch, time.monotonic()))
            else:
                shard.order.push(batch, record.offset, time.monotonic())
        shard.next_offset = records[-1].offset + 1

    def _decoded(self, tp: TP, record: ConsumerRecord) -> StageBatch | None:
        try:
            batch = decode(record.value, dict(record.headers))
            if (
                batch.component != self._name
                or batch.entities is None
                or batch.topic not in self._sources
                or not 0 <= batch.partition < self.topology.partitions
            ):
                raise WireError(f"it is of {batch.component} and {batch.topic}[{batch.partition}]")
        except WireError as exc:
            log.warning("%s[%d]@%d skipped: %s", tp.topic, tp.partition, record.offset, exc)
            self.wiring.metrics.observe_skipped()
            return None
        return batch

    def _learn(self, shard: _Shard, batch: StageBatch) -> None:
        valid, rows = np.flatnonzero(batch.present), batch.rows
        reached = shard.past.of(batch.topic, batch.partition)
        reached.offset = max(reached.offset, batch.covers_to)
        if not len(valid):
            return
        times = rows.event_time_ms[valid]
        reached.clock_ms = max(reached.clock_ms, int(times.max()))
        shard.past.learn(
            _entities(batch), times, orders_of(batch.partition, rows.offsets[valid]),
            batch.output[valid, 0],
        )  # fmt: skip

    async def _release(self, partition: int, shard: _Shard) -> int:
        released = shard.order.pop(time.monotonic())
        keyed = TP(self.topology.keyed(self._name), partition)
        # What is still in the log says more than the sources' ends, and at no cost.
        if shard.order.rows and shard.next_offset >= self.wiring.app.batches.highwater(keyed):
            ends = await self.tail.ends(self._sources, self.topology.partitions)
            events, outcomes = (
                {p: end for (of, p), end in ends.items() if of == topic}
                for topic in (self.topology.events, self.topology.outcomes)
            )
            released += shard.order.pop(time.monotonic(), (events, outcomes))
        if released:
            await self._write(partition, shard, released)
        first_held = shard.order.first_held
        done = shard.next_offset if first_held is None else first_held
        if done > (shard.written_before or 0):
            self.wiring.app.batches.done({keyed: done})
        return sum(len(part.batch) for part in released)

    async def _write(self, lane: int, shard: _Shard, released: Sequence[Released]) -> None:
        """Compute the rows' features in the order of event time, write them by source."""
        columns = self._observed(shard, released)
        jobs = []
        at = 0
        by_source: dict[int, list[tuple[Released, int]]] = {}
        for part in released:
            by_source.setdefault(part.batch.partition, []).append((part, at))
            at += len(part.batch)
        for source, parts in by_source.items():
            jobs.append(self._write_source(lane, shard, source, parts, columns))
        await all_done(jobs)

    def _observed(self, shard: _Shard, released: Sequence[Released]) -> dict[str, Column]:
        """The windowed features of all rows (N,), which are taken in in their turn."""
        clocks = np.concatenate([part.clocks_ms for part in released])
        sources = np.concatenate(
            [np.full(len(part.batch), part.batch.partition) for part in released]
        )
        rows = Rows.concat([part.batch.rows for part in released])
        present = np.concatenate([part.batch.present for part in released])
        turn = np.lexsort((rows.offsets, sources, clocks))
        turn = turn[present[turn]]
        items = [entity for part in released for entity in _all_entities(part.batch)]
        made = shard.past.observe(
            [items[row] for row in turn.tolist()],
            rows.event_time_ms[turn],
            orders_of(sources[turn], rows.offsets[turn]),
            np.concatenate([part.batch.output for part in released])[turn],
            rows.published_ms[turn],
        )
        columns: dict[str, Column] = {}
        for name, values in made.items():
            columns[name] = np.zeros(len(rows))
            columns[name][turn] = values
        for part in released:
            reached = shard.past.of(part.batch.topic, part.batch.partition)
            reached.offset = max(reached.offset, part.batch.covers_to)
            reached.clock_ms = max(reached.clock_ms, int(part.clocks_ms.max(initial=BEGINNING)))
        return columns

    async def _write_source(
        self,
        lane: int,
        shard: _Shard,
        source: int,
        parts: Sequence[tuple[Released, int]],
        columns: dict[str, Column],
    ) -> None:
        """Write one source's rows, but not those that had been written before a restart."""
        new = [(it, at) for it, at in parts if it.position >= (shard.written_before or 0)]
        if not new:
            return
        batches = [it.batch for it, _ in new]
        at = np.concatenate([np.arange(start, start + len(it.batch)) for it, start in new])
        present = np.concatenate([batch.present for batch in batches])
        rows = np.flatnonzero(present)
        batch = Batch(rows=len(rows), columns={n: c[at[rows]] for n, c in columns.items()})
        made = await self._writer.transform(batch, rows, len(present))
        failures = {failure.row: failure for failure in concat_failures(batches)}
        await self._writer.write(
            source, batches[0].covers_from, Rows.concat([b.rows for b in batches]), made, failures,
            covers_to=batches[-1].covers_to, lane=lane,
        )  # fmt: skip

    async def _save_if_due(self, partition: int, shard: _Shard) -> None:
        if not shard.past.snapshot_is_due():
            return
        first_held = shard.order.first_held
        next_offset = shard.next_offset if first_held is None else first_held
        await self._snapshots.save(partition, shard.past, next_offset)
        self.wiring.metrics.observe_past(partition, shard.past.windows.histories)


def _all_entities(batch: StageBatch) -> list[str]:
    return [item.decode() for item in batch.entities.items()] if batch.entities else []


def _entities(batch: StageBatch) -> list[str]:
    """Whose past the valid rows are about."""
    every = _all_entities(batch)
    return [every[row] for row in np.flatnonzero(batch.present).tolist()]
