"""A component with the past of another field than the partition key.

Reads its keyed topic, brings rows of all source partitions into the order of event time, and
writes each row back to its source's partition, as one of the lanes that a join puts together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.coverage import check_continues
from agents.errand_rows import Refusals
from agents.errands import Answer, StageErrands
from agents.event_time import EventTimeOrder, Released
from agents.past import Past
from agents.redriven_past import caught_up, glimpsed
from agents.rewinding import Resumption
from agents.shard import Shard
from agents.slot import Made, Slot
from agents.snapshots import SnapshotStore
from agents.source_stage import source_rows
from agents.stage_writer import StageWriter
from agents.worker import Wiring, Worker, all_done
from models.component import Batch, Column
from models.windows import WindowPlan
from topics.errors import WireError
from topics.events import EventDecoder
from topics.fetch import Fetch
from topics.redrive import Errand
from topics.stage_batch import Rows, StageBatch, concat_failures
from topics.topology import lane_of
from topics.wire import decode

log = logging.getLogger(__name__)

_SHARE_OF_DEADLINE = 0.25
"""A row that is not late waits this part of the deadline for sources that lag."""
_ASKING = 0.25
"""Asking for the ends of the sources may take this share of the time."""


class KeyedStage(Worker[Shard]):
    """Runs a component of windowed features over the rows of its key's partitions."""

    def __init__(self, wiring: Wiring, name: str, slot: Slot) -> None:
        super().__init__(wiring)
        self._name = name
        self._plan = WindowPlan(wiring.pipeline, name)
        self._writer = StageWriter(wiring, name, slot)
        self._snapshots = SnapshotStore(wiring, name, self._plan)
        self._events = EventDecoder(wiring.pipeline.event)
        self.errands = StageErrands(wiring, {name: self._redriven})
        self._sources = self.topology.sources_of(name)
        self._ask_at = float("-inf")
        """When the ends of the sources may be asked for again."""

    async def open_state(self, partition: int) -> Shard:
        """Continue from the newest snapshot."""
        pipeline = self.wiring.pipeline
        order = EventTimeOrder(
            pipeline.partitions,
            outcome_delay_ms=self._plan.delay_ms if self._plan.of_outcomes else None,
            hold_s=pipeline.weighting.deadline_ms / 1000 * _SHARE_OF_DEADLINE,
            stall_timeout_s=pipeline.weighting.stall_timeout_s,
        )
        found = await self._snapshots.load(self.tail, partition)
        past = found.past if found else Past.empty(self._plan)
        for source in range(pipeline.partitions):
            for topic in self._sources:
                reached = past.of(topic, source)
                await check_continues(self.tail, topic, source, reached.offset)
                order.start_after(
                    source, reached.offset, reached.clock_ms,
                    outcomes=topic == self.topology.outcomes,
                )  # fmt: skip
        return Shard(past, order, Resumption(found.next_offset if found else 0))

    async def process(self, fetch: Fetch) -> None:
        """Take in what was fetched, write what need not wait any more."""
        started = time.perf_counter()
        for tp, records in fetch.records.items():
            await self._take_in(tp, records)
        by_source: dict[int, list[StageBatch]] = {}
        for (lane, shard), released in zip(self.states(), await self._released(), strict=True):
            for batch in await self._made(lane, shard, released) if released else ():
                by_source.setdefault(batch.partition, []).append(batch)
        await all_done([self._writer.write(batches) for batches in by_source.values()])
        for lane, shard in self.states():
            if shard.resume_at > (shard.written_before or 0):
                self.wiring.app.batches.done({self._log(lane): shard.resume_at})
            await self._save_if_due(lane, shard)
        if fetch.records:
            rows = sum(len(batch) for batches in by_source.values() for batch in batches)
            self.wiring.metrics.observe_batch(rows, time.perf_counter() - started)

    def waits(self) -> bool:
        """Rows may have to be let go, or a snapshot may become due."""
        shards = [shard for _, shard in self.states()]
        return any(it.order.first_held is not None or it.past.changed for it in shards)

    def _log(self, lane: int) -> TP:
        return TP(self.topology.keyed(self._name), lane)

    async def _take_in(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        shard = await self.state(tp.partition)
        if shard.written_before is None:
            shard.written_before = max(records[0].offset, shard.resumption.committed or 0)
        if await shard.resumption.leaves(self, tp, records[0].offset):
            return
        for record in records:
            batch = self._decoded(tp, record)
            if batch is None:
                continue
            if batch.topic == self.topology.outcomes:
                shard.learn(shard.order.note_outcomes(batch))
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

    async def _released(self) -> list[list[Released]]:
        """The rows of each shard whose turn has come."""
        shards = [shard for _, shard in self.states()]
        released = [shard.order.pop(time.monotonic()) for shard in shards]
        started = time.monotonic()
        if started >= self._ask_at and any(shard.order.first_held is not None for shard in shards):
            # A row may wait for a source that has nothing more to give. Ends that are asked for
            # now let go only what has come before.
            ends = await self.tail.ends(self._sources, self.topology.partitions)
            asked = time.monotonic()
            self._ask_at = asked + (asked - started) * (1 / _ASKING - 1)
            events, outcomes = (
                {p: end for (of, p), end in ends.items() if of == topic}
                for topic in (self.topology.events, self.topology.outcomes)
            )
            for shard, parts in zip(shards, released, strict=True):
                parts.extend(shard.order.pop(asked, (events, outcomes)))
        self.wiring.metrics.observe_early(sum(it.early for parts in released for it in parts))
        return released

    async def _made(
        self, lane: int, shard: Shard, released: Sequence[Released]
    ) -> list[StageBatch]:
        """The rows' features, computed in the order of event time; a batch for each source.

        Without what had been written before a restart: that was only to be taken in again.
        """
        columns = shard.observe(released)
        present = np.concatenate([part.batch.present for part in released])
        rows = np.flatnonzero(present)
        batch = Batch(rows=len(rows), columns={name: it[rows] for name, it in columns.items()})
        made = await self._writer.transform(batch, rows, len(present))
        by_source: dict[int, list[tuple[StageBatch, int]]] = {}
        at = 0
        for part in released:
            if part.position >= (shard.written_before or 0):
                by_source.setdefault(part.batch.partition, []).append((part.batch, at))
            at += len(part.batch)
        return [self._batch(lane, made, parts) for parts in by_source.values()]

    def _batch(self, lane: int, made: Made, parts: Sequence[tuple[StageBatch, int]]) -> StageBatch:
        """The outputs of one source's rows, which begin in *made* where each part says."""
        batches = [batch for batch, _ in parts]
        at = np.concatenate([np.arange(start, start + len(batch)) for batch, start in parts])
        return self._writer.batch(
            batches[0].partition, batches[0].covers_from, Rows.concat([b.rows for b in batches]),
            made.picked(at), {failure.row: failure for failure in concat_failures(batches)},
            covers_to=batches[-1].covers_to, lane=lane,
        )  # fmt: skip

    async def _redriven(self, errands: Sequence[Errand]) -> Answer:
        """What the component makes of redriven events of one lane, of those whose past is here."""
        decoded = self._events.decode(errands)
        refused: Refusals = {}
        windowed: dict[str, Column] = {}
        if len(decoded.valid):
            lane = lane_of(self._plan.entities(decoded.columns)[0], self.topology.partitions)
            shard = await self.state(lane)
            errands, refused = await caught_up(
                self, shard.past, shard.resumption, self._log(lane), errands
            )
            if not errands:
                return Answer(None, refused)
            decoded = self._events.decode(errands)
            windowed = glimpsed(shard.past, self._plan, decoded, errands)
        batch = Batch(rows=len(decoded.valid), columns=windowed)
        made = await self._writer.transform(batch, decoded.valid, len(errands))
        failures = {it.row: it._replace(component=self._name) for it in decoded.failures}
        rows, first = source_rows(errands, decoded), errands[0]
        output = self._writer.batch(first.partition, first.offset, rows, made, failures)
        return Answer(output, refused)

    async def _save_if_due(self, partition: int, shard: Shard) -> None:
        if not shard.past.snapshot_is_due():
            return
        await self._snapshots.save(partition, shard.past, shard.resume_at)
        self.wiring.metrics.observe_past(partition, shard.past.windows.histories)
