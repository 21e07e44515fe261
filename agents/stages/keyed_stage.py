"""A component with the past of another field than the partition key.

Reads its keyed topic, brings rows of all source partitions into the order of event time, and
writes each row back to its source's partition, as one of the lanes that a join puts together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.components import Made, Slot
from agents.redrive import RedriveResult, Refusals, StageRedrive
from agents.stages.source_stage import source_rows
from agents.stages.stage_writer import StageWriter
from agents.windows import (
    MAX_BYTES,
    EventTimeOrder,
    KeyedTrial,
    Past,
    Portion,
    Released,
    Resumption,
    Shard,
    SnapshotStore,
    caught_up,
    glimpsed,
    tried_record,
)
from agents.workers import (
    WORKER_ENDED,
    StagePulse,
    Standing,
    Wiring,
    Worker,
    all_done,
    check_continues,
)
from models.component import Batch, Column
from models.features import WindowPlan
from topics.errors import WireError
from topics.events import SourceDecoder
from topics.kafka import Record
from topics.pipeline import lane_of
from topics.records import Awaited, Failure, Rows, StageBatch, concat_failures, decode
from topics.redrive import RedriveRecord
from topics.transport import Fetch

log = logging.getLogger(__name__)

_ASKING = 0.25
"""Asking for the ends of the sources may take this share of the time."""
_ASK_WITHIN_S = 1.0
"""They are asked for again after that time at the latest: in a process that is busy an answer takes
long to be read, and that has cost nobody anything."""
_RECORD_BYTES = 1000
"""Of a batch that waits, besides its record's value; about that."""
_MARKERS_AFTER_S = 0.1
"""A source that gives nothing for so long is asked whether it holds any record at all there."""


class KeyedStage(Worker[Shard]):
    """Runs a component of windowed features over the rows of its key's partitions."""

    def __init__(self, wiring: Wiring, name: str, slot: Slot) -> None:
        super().__init__(wiring, [wiring.topology.keyed(name)])
        self._name = name
        self._plan = WindowPlan(wiring.pipeline, name)
        self._writer = StageWriter(wiring, name, slot)
        self._snapshots = SnapshotStore(wiring, name, self._plan)
        self._events = SourceDecoder(wiring.pipeline.event, wiring.pipeline.partitions)
        self.redrive = StageRedrive(wiring, {name: self._redriven})
        self._sources = self.topology.sources_of(name)
        self._ask_at = float("-inf")
        """When the ends of the sources may be asked for again."""
        self._look_at = float("-inf")
        """When the sources are looked at again though nothing waits for them."""
        self._bare: dict[tuple[str, int], tuple[int, int]] = {}
        """Source partition → a range of offsets in which there is no record."""
        self._stands: dict[tuple[str, int], int] = {}
        """Source partition → an offset with a record: until that has come nothing is looked for."""

    async def open_state(self, partition: int) -> Shard:
        """Continue from the newest snapshot."""
        pipeline = self.wiring.pipeline
        order = EventTimeOrder(
            pipeline.partitions,
            outcome_delay_ms=self._plan.delay_ms if self._plan.of_outcomes else None,
            stall_timeout_s=self.stall_timeout_s,
            max_bytes=MAX_BYTES // max(1, len(self.owned)),
        )
        found = await self._snapshots.load(self.tail, partition)
        past = found.past if found else Past.empty(self._plan)
        for source in range(pipeline.partitions):
            for topic in self._sources:
                reached = past.of(topic, source)
                made_of_it = [self._log(partition)] if source == partition else []
                await check_continues(self.tail, topic, source, reached.offset, made_of_it)
                order.start_after(
                    source, reached.offset, reached.clock_ms,
                    outcomes=topic == self.topology.outcomes,
                )  # fmt: skip
        for source in range(pipeline.partitions):
            answered = past.of(self.topology.events, source).offset
            self._writer.pulse.reached(source, partition, answered)
        shard = Shard(past, order, Resumption(found.next_offset if found else 0))
        shard.trial = await KeyedTrial.of(self.tail, self.topology.state(self._name), partition)
        # At once: what lies between the snapshot and what is committed has come, and must not look
        # as if its sources kept it back.
        await shard.resumption.take_up(self, self._log(partition))
        return shard

    async def process(self, fetch: Fetch) -> None:
        """Take in what was fetched, write what need not wait any more."""
        started = time.perf_counter()
        for tp, records in fetch.records.items():
            await self._take_in(tp, records)
        by_source: dict[int, list[StageBatch]] = {}
        rows = 0
        for (lane, shard), released in zip(self.states(), await self._released(), strict=True):
            # On its own until its first rows are written: should the worker end at another lane's
            # row, none of these may look as if it had been the one.
            on_trial = shard.trial is not None and bool(released)
            made: dict[int, list[StageBatch]] = {} if on_trial else by_source
            for portion in shard.portions(released):
                if shard.trial is not None:
                    await self._say_tried(lane, shard, shard.trial, portion)
                for batch in await self._made(lane, shard, portion):
                    made.setdefault(batch.partition, []).append(batch)
                    rows += len(batch)
            if on_trial:
                await self._write(made)
                await self._take_back(lane, shard)
        await self._write(by_source)
        for lane, shard in self.states():
            await self._read_again(lane, shard)
            if shard.resume_at > (shard.written_before or 0):
                self.wiring.app.batches.done({self._log(lane): shard.resume_at})
            await self._take_back(lane, shard)
            await self._save_if_due(lane, shard)
        if fetch.records:
            self.wiring.metrics.observe_batch(rows, time.perf_counter() - started)

    def waits(self) -> bool:
        """Rows may have to be let go, a snapshot may become due, a commit may end a trial."""
        shards = [shard for _, shard in self.states()]
        return any(
            it.order.first_held is not None
            or it.past.changed
            or (it.trial is not None and it.trial.answered)
            for it in shards
        )

    def _log(self, lane: int) -> TP:
        return TP(self.topology.keyed(self._name), lane)

    async def _take_in(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        shard = await self.state(tp.partition)
        if shard.written_before is None:
            shard.written_before = max(records[0].offset, shard.resumption.committed or 0)
        if await shard.resumption.leaves(self, tp, records[0].offset):
            return
        for record in records:
            shard.past.log_bytes += len(record.value or b"")
            batch = self._decoded(tp, record)
            if batch is None:
                continue
            if batch.topic == self.topology.outcomes:
                shard.learn(shard.order.note_outcomes(batch))
            else:
                shard.order.push(batch, record.offset, len(record.value) + _RECORD_BYTES)
        shard.next_offset = records[-1].offset + 1

    async def _read_again(self, lane: int, shard: Shard) -> None:
        """Go back in the log to what was left there, as too much was waiting, when it is time."""
        position = shard.order.read_again()
        if position is not None:
            await shard.resumption.go_back(self, self._log(lane), position, shard.next_offset)
            shard.next_offset = position

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
        released = [shard.order.pop(self.clock.now()) for shard in shards]
        started = time.monotonic()
        may_ask = started >= self._ask_at or any(shard.order.is_full for shard in shards)
        if may_ask and any(shard.order.first_held is not None for shard in shards):
            # A row may wait for a source that has nothing more to give. Ends that are asked for
            # now let go only what has come before.
            ends = await self._ends()
            asked = time.monotonic()
            self._ask_at = asked + min((asked - started) * (1 / _ASKING - 1), _ASK_WITHIN_S)
            for shard, parts in zip(shards, released, strict=True):
                parts.extend(shard.order.pop(self.clock.now(), ends))
        self.wiring.metrics.observe_early(sum(it.early for parts in released for it in parts))
        return released

    async def _ends(self) -> tuple[dict[int, int], dict[int, int]]:
        """The next offsets of all event sources, and of all outcome sources.

        Offsets at the end that hold no record (a transaction's marker) are none to wait for.
        """
        ends = await self.tail.ends(self._sources, self.topology.partitions)
        now = self.clock.now()
        for _, shard in self.states():
            for (topic, partition), end in list(ends.items()):
                offset = shard.order.offset(partition, outcomes=topic == self.topology.outcomes)
                lags_s = shard.order.lagging(now)
                if offset + 1 < end and lags_s > _MARKERS_AFTER_S:
                    at = topic, partition
                    if self._bare.get(at) != (offset + 1, end):
                        if offset < self._stands.get(at, -1):
                            continue
                        stands = await self.tail.a_record(topic, partition, offset + 1, end)
                        if stands is not None:
                            self._stands[at] = stands
                            continue
                        self._bare[at] = (offset + 1, end)
                    ends[at] = offset + 1
        events, outcomes = (
            {p: end for (of, p), end in ends.items() if of == topic}
            for topic in (self.topology.events, self.topology.outcomes)
        )
        return events, outcomes

    def pulses(self) -> Sequence[StagePulse]:
        """The component's."""
        return (self._writer.pulse,)

    def standing(self, partition: int) -> Standing:
        """What the rows of one partition of the key wait for."""
        shard = self._states.get(partition)
        if shard is None:
            return Standing("starting")
        behind_s = shard.order.lagging(self.clock.now())
        if shard.order.first_held is None or not behind_s:
            return Standing("working", rows=shard.order.rows)
        return Standing("waiting", self._awaited(behind_s, shard), shard.order.rows)

    def _awaited(self, behind_s: float, shard: Shard) -> dict[str, Awaited]:
        since_ms = max(0, int((time.time() - behind_s) * 1000))
        return {f"{self._name}.keyed": Awaited(
            since_ms=since_ms, down=shard.order.is_down(behind_s),
            why=f"events that were published have not come for {behind_s:.0f} s",
        )}  # fmt: skip

    async def give_signs(self, interval_s: float) -> None:
        """One for each source, in the lane of each partition of the key."""
        if self._states and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + interval_s / 2
            ends = await self._ends()
            for _, shard in self.states():
                shard.order.note_ends(self.clock.now(), ends)
        beat = self._writer.pulse.beat
        await all_done([
            beat(source, self._standing_with(self._states.get(lane), source), interval_s, lane)
            for lane in self.owned
            for source in range(self.topology.partitions)
        ])  # fmt: skip

    def _standing_with(self, shard: Shard | None, source: int) -> Standing:
        """What rows of one source wait for: those of a source that does not come at all."""
        if shard is None:
            return Standing("starting")
        behind_s = shard.order.behind_s(source, self.clock.now())
        if not shard.order.is_down(behind_s):
            return Standing("working")
        return Standing("waiting", self._awaited(behind_s, shard))

    async def _say_tried(
        self, lane: int, shard: Shard, trial: KeyedTrial, portion: Portion
    ) -> None:
        """Say which rows are about to be run on, to who comes next and to the joins."""
        tried = portion.tried(shard.written_before or 0)
        if tried is None or not (portion.alone or not trial.answered):
            return
        trial.said = True
        await self._write_tried(lane, [tried_record(tried, int(time.time() * 1000))])
        tries = self._writer.pulse.tries
        await all_done([tries(source, *ends, lane) for source, ends in tried.rows.items()])

    async def _write(self, by_source: Mapping[int, Sequence[StageBatch]]) -> None:
        await all_done([self._writer.write(batches) for batches in by_source.values()])

    async def _take_back(self, lane: int, shard: Shard) -> None:
        """What was tried is written; what others have tried stands until that is committed."""
        trial, now_ms = shard.trial, int(time.time() * 1000)
        if trial is None:
            return
        if trial.said:
            await self._write_tried(lane, [tried_record(None, now_ms)])
            trial.said, trial.answered = False, True
        if trial.answered and self.wiring.app.batches.committed(self._log(lane)) >= trial.behind:
            await self._write_tried(
                lane, [tried_record(None, now_ms, worker) for worker in trial.others]
            )
            shard.trial = None

    async def _write_tried(self, lane: int, records: Sequence[Record]) -> None:
        if records:
            await self.wiring.app.writer.write(self.topology.state(self._name), lane, records)

    async def _made(self, lane: int, shard: Shard, portion: Portion) -> list[StageBatch]:
        """The rows' features, computed in the order of event time; a batch for each source.

        Without what had been written before a restart: that is only taken in again. It is not run
        on either: a row may be among it that was passed over.
        """
        released = portion.released
        columns = shard.observe(released)
        new = [part.position >= (shard.written_before or 0) for part in released]
        is_run = np.repeat(new, [len(part.batch) for part in released])
        present = np.concatenate([part.batch.present for part in released])
        rows = np.flatnonzero(present & is_run & (not portion.passed_over))
        batch = Batch(rows=len(rows), columns={name: it[rows] for name, it in columns.items()})
        made = await self._writer.transform(batch, rows, len(present))
        by_source: dict[int, list[tuple[Released, int]]] = {}
        at = 0
        for part, is_new in zip(released, new, strict=True):
            if is_new:
                by_source.setdefault(part.batch.partition, []).append((part, at))
            else:
                self._writer.pulse.reached(part.batch.partition, lane, part.batch.covers_to)
            at += len(part.batch)
        return [self._batch(lane, made, parts, portion.passed_over) for parts in by_source.values()]

    def _batch(
        self, lane: int, made: Made, parts: Sequence[tuple[Released, int]], passed_over: str
    ) -> StageBatch:
        """The outputs of one source's rows, which begin in *made* where each part says."""
        batches = [part.batch for part, _ in parts]
        failures = {failure.row: failure for failure in concat_failures(batches)}
        for row in range(sum(map(len, batches))) if passed_over else ():
            failures.setdefault(row, Failure(row, self._name, WORKER_ENDED, passed_over))
        at = np.concatenate([np.arange(start, start + len(it.batch)) for it, start in parts])
        batch = self._writer.batch(
            batches[0].partition, batches[0].covers_from, Rows.concat([b.rows for b in batches]),
            made.picked(at), failures,
            covers_to=batches[-1].covers_to, lane=lane,
        )  # fmt: skip
        early = np.concatenate([part.early_rows() for part, _ in parts])
        return replace(batch, early=early) if early.any() else batch

    async def _redriven(self, redrives: Sequence[RedriveRecord]) -> RedriveResult:
        """What the component makes of redriven events of one lane, of those whose past is here."""
        decoded = self._events.decode(redrives)
        refused: Refusals = {}
        windowed: dict[str, Column] = {}
        if len(decoded.valid):
            lane = lane_of(self._plan.entities(decoded.columns)[0], self.topology.partitions)
            shard = await self.state(lane)
            redrives, refused = await caught_up(
                self, shard.past, shard.resumption, self._log(lane), redrives
            )
            if not redrives:
                return RedriveResult(None, refused)
            decoded = self._events.decode(redrives)
            windowed = glimpsed(shard.past, self._plan, decoded, redrives)
        batch = Batch(rows=len(decoded.valid), columns=windowed)
        made = await self._writer.transform(batch, decoded.valid, len(redrives))
        failures = {it.row: it._replace(component=self._name) for it in decoded.failures}
        rows, first = source_rows(redrives, decoded), redrives[0]
        output = self._writer.batch(first.partition, first.offset, rows, made, failures)
        return RedriveResult(output, refused)

    async def _save_if_due(self, partition: int, shard: Shard) -> None:
        if not self._snapshots.is_due(shard.past):
            return
        await self._snapshots.save(partition, shard.past, shard.resume_at)
        self.wiring.metrics.observe_past(partition, shard.past.windows.histories)
