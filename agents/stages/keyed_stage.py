"""A component with the past of another field than the partition key.

`Repartition` has dealt the events out to the partitions of that key, the component's *lanes*. This
worker owns some of them. What comes on a lane's log, from all source partitions, goes this way:

1. it is taken in: outcomes into the past, events into the order of event time (`_take_in`);
2. rows whose turn has come leave that order (`_due`);
3. they are run on in portions: their windowed features are computed as they are taken into the
   past, then the model runs (`_run`);
4. each row's output is written back to its source's partition, where a join puts the lanes
   together (`_write`); then the log's offsets are committed as far as nothing waits (`_finish`).
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.components import ActiveComponent, ModelOutputs
from agents.recovery import (
    AttemptLog,
    KeyedPoisonRows,
    LogRewind,
    Portion,
    SnapshotStore,
    check_continues,
    with_their_past,
)
from agents.redrive import RedriveResult, Refusals, StageRedrive
from agents.stages.key_partition import KeyPartition
from agents.stages.source_ends import SourceEnds
from agents.stages.source_events import source_rows
from agents.stages.stage_writer import StageWriter
from agents.windows import MAX_BYTES, DueRows, EntityPast, EventTimeOrder
from agents.workers import WORKER_ENDED, PartitionHealth, StagePulse, Wiring, Worker, all_done
from models.component import Batch, Column
from models.features import WindowPlan
from topics.errors import WireError
from topics.events import SourceDecoder
from topics.pipeline import lane_of
from topics.records import (
    AwaitedInput,
    Failure,
    Heartbeat,
    Rows,
    StageBatch,
    concat_failures,
    decode,
    heartbeat_of,
)
from topics.redrive import RedriveBatch
from topics.transport import Fetch

log = logging.getLogger(__name__)

_RECORD_BYTES = 1000
"""Of a batch that waits, besides its record's value; about that."""


class KeyedStage(Worker[KeyPartition]):
    """Runs a component of windowed features over the rows of its key's partitions."""

    def __init__(self, wiring: Wiring, name: str, active: ActiveComponent) -> None:
        super().__init__(wiring, [wiring.topology.keyed(name)])
        self._name = name
        self._plan = WindowPlan(wiring.pipeline, name)
        self._writer = StageWriter(wiring, name, active)
        self._snapshots = SnapshotStore(wiring, name, self._plan)
        self._attempts = AttemptLog(wiring.app, self.topology.state(name), self._writer.pulse)
        self._events = SourceDecoder(wiring.pipeline.event, wiring.pipeline.partitions)
        self.redrive = StageRedrive(wiring, {name: self._redriven})
        self._sources = self.topology.sources_of(name)
        self._ends = SourceEnds(
            self.tail, self.clock, self.topology, name,
            lambda: (own.order for _, own in self.states()),
        )  # fmt: skip
        self._look_at = float("-inf")
        """When the sources are looked at again though nothing waits for them."""

    def _log(self, lane: int) -> TP:
        """Where the events and outcomes of a lane come from."""
        return TP(self.topology.keyed(self._name), lane)

    # -- opening a lane

    async def open_state(self, partition: int) -> KeyPartition:
        """Continue from the newest snapshot."""
        order = EventTimeOrder(
            self.topology.partitions,
            outcome_delay_ms=self._plan.delay_ms if self._plan.of_outcomes else None,
            stall_timeout_s=self.stall_timeout_s,
            max_bytes=MAX_BYTES // max(1, len(self.owned)),
        )
        snapshot = await self._snapshots.load(self.tail, partition)
        past = snapshot.past if snapshot else EntityPast.empty(self._plan)
        for source in range(self.topology.partitions):
            for topic in self._sources:
                reached = past.progress_of(topic, source)
                outputs = [self._log(partition)] if source == partition else []
                await check_continues(self.tail, topic, source, reached.offset, outputs)
                order.start_after(
                    source, reached.offset, reached.clock_ms,
                    outcomes=topic == self.topology.outcomes,
                )  # fmt: skip
        for source in range(self.topology.partitions):
            answered = past.progress_of(self.topology.events, source).offset
            self._writer.pulse.reached(source, partition, answered)
        own = KeyPartition(past, order, LogRewind(snapshot.next_offset if snapshot else 0))
        own.poison_rows = await KeyedPoisonRows.of(
            self.tail, self.topology.state(self._name), partition
        )
        # At once: what lies between the snapshot and what is committed has come, and must not look
        # as if its sources kept it back.
        await own.rewind.take_up(self, self._log(partition))
        return own

    # -- from a fetch to its outputs

    async def process(self, fetch: Fetch) -> None:
        """Take in what was fetched, write what need not wait any more."""
        started, began_ns = time.perf_counter(), time.time_ns()
        for tp, records in fetch.records.items():
            await self._take_in(tp, records)
        outputs: dict[int, list[StageBatch]] = defaultdict(list)
        rows = 0
        for (lane, own), due in zip(self.states(), await self._due(), strict=True):
            if own.poison_rows is None or not due:
                rows += await self._run(lane, own, due, outputs)
                continue
            # On its own until its first rows are written: should the worker end at another lane's
            # row, none of these may look as if it had been the one.
            first_outputs: dict[int, list[StageBatch]] = defaultdict(list)
            rows += await self._run(lane, own, due, first_outputs)
            await self._write(first_outputs, began_ns)
            await self._take_back(lane, own)
        await self._write(outputs, began_ns)
        for lane, own in self.states():
            await self._finish(lane, own)
        if fetch.records:
            self.wiring.metrics.observe_batch(rows, time.perf_counter() - started)

    def waits(self) -> bool:
        """Rows may have to be let go, a snapshot become due, or poison rows be over."""
        return any(
            own.order.first_held is not None
            or own.past.changed
            or (own.poison_rows is not None and own.poison_rows.answered)
            for _, own in self.states()
        )

    async def _take_in(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        """Outcomes into the past, events among those that wait for their turn."""
        own = await self.state(tp.partition)
        if own.written_before is None:
            own.written_before = max(records[0].offset, own.rewind.committed or 0)
        if await own.rewind.leaves(self, tp, records[0].offset):
            return
        for record in records:
            own.past.log_bytes += len(record.value or b"")
            batch = self._decoded(tp, record)
            if batch is None:
                continue
            if isinstance(batch, Heartbeat):
                own.order.hear(batch.partition, batch.worker, self.clock.now())
                continue
            if batch.topic == self.topology.outcomes:
                own.learn(own.order.note_outcomes(batch))
            else:
                own.order.push(batch, record.offset, len(record.value) + _RECORD_BYTES)
        own.next_offset = records[-1].offset + 1

    def _decoded(self, tp: TP, record: ConsumerRecord) -> StageBatch | Heartbeat | None:
        """What `Repartition` has written; None, and logged, for anything else."""
        headers = dict(record.headers)
        try:
            heartbeat = heartbeat_of(record.value, headers)
            if heartbeat is not None:
                if heartbeat.partition >= self.topology.partitions:
                    raise WireError(f"it is of partition {heartbeat.partition}")
                return heartbeat
            batch = decode(record.value, headers)
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

    async def _due(self) -> list[list[DueRows]]:
        """The rows of each lane whose turn has come."""
        orders = [own.order for _, own in self.states()]
        due = [order.pop(self.clock.now()) for order in orders]
        may_ask = time.monotonic() >= self._ends.ask_at or any(order.is_full for order in orders)
        if may_ask and any(order.first_held is not None for order in orders):
            # A row may wait for a source that has nothing more to give. Ends that are asked for
            # now let go only what has come before.
            ends = await self._ends.ask()
            for order, rows in zip(orders, due, strict=True):
                rows.extend(order.pop(self.clock.now(), ends))
        self.wiring.metrics.observe_early(sum(each.early for rows in due for each in rows))
        return due

    async def _run(
        self, lane: int, own: KeyPartition, due: Sequence[DueRows],
        outputs: dict[int, list[StageBatch]],
    ) -> int:  # fmt: skip
        """Run on the rows; their batches are added to *outputs*, by source. How many they are."""
        rows = 0
        for portion in own.portions(due):
            if own.poison_rows is not None:
                await self._attempts.say(lane, own.poison_rows, portion, own.written_before or 0)
            for batch in await self._run_portion(lane, own, portion):
                outputs[batch.partition].append(batch)
                rows += len(batch)
            self.steps += 1
        return rows

    async def _run_portion(
        self, lane: int, own: KeyPartition, portion: Portion
    ) -> list[StageBatch]:
        """The rows' features, computed in the order of event time; a batch for each source.

        Without what had been written before a restart: that is only taken in again. It is not run
        on either: a row may be among it that was passed over.
        """
        columns = own.observe(portion.due)
        is_new = [not own.is_written(due) for due in portion.due]
        is_run = np.repeat(is_new, [len(due.batch) for due in portion.due])
        present = np.concatenate([due.batch.present for due in portion.due])
        rows = np.flatnonzero(present & is_run & (not portion.passed_over))
        batch = Batch(
            rows=len(rows), columns={name: column[rows] for name, column in columns.items()}
        )
        result = await self._writer.transform(batch, rows, len(present))
        by_source: dict[int, list[tuple[DueRows, int]]] = {}
        start = 0
        for due, new in zip(portion.due, is_new, strict=True):
            if new:
                by_source.setdefault(due.batch.partition, []).append((due, start))
            else:
                self._writer.pulse.reached(due.batch.partition, lane, due.batch.covers_to)
            start += len(due.batch)
        return [
            self._batch(lane, result, placed, portion.passed_over) for placed in by_source.values()
        ]

    def _batch(
        self, lane: int, result: ModelOutputs, placed: Sequence[tuple[DueRows, int]],
        passed_over: str,
    ) -> StageBatch:  # fmt: skip
        """The outputs of one source's rows, which begin in *result* where each is *placed*."""
        batches = [due.batch for due, _ in placed]
        failures = {failure.row: failure for failure in concat_failures(batches)}
        for row in range(sum(map(len, batches))) if passed_over else ():
            failures.setdefault(row, Failure(row, self._name, WORKER_ENDED, passed_over))
        at = np.concatenate([np.arange(start, start + len(due.batch)) for due, start in placed])
        batch = self._writer.batch(
            batches[0].partition, batches[0].covers_from, Rows.concat([b.rows for b in batches]),
            result.picked(at), failures,
            covers_to=batches[-1].covers_to, lane=lane,
        )  # fmt: skip
        early = np.concatenate([due.early_rows() for due, _ in placed])
        return replace(batch, early=early) if early.any() else batch

    async def _write(self, outputs: Mapping[int, Sequence[StageBatch]], began_ns: int) -> None:
        await all_done([self._writer.write(batches) for batches in outputs.values()])
        for batches in outputs.values():
            for batch in batches:
                self.wiring.spans.processed(self._name, batch, began_ns)

    # -- after the outputs

    async def _finish(self, lane: int, own: KeyPartition) -> None:
        """What a lane has to give is written: go on in its log, and remember how far it is."""
        await self._read_again(lane, own)
        if own.resume_at > (own.written_before or 0):
            self.wiring.app.batches.done({self._log(lane): own.resume_at})
        await self._take_back(lane, own)
        if self._snapshots.is_due(own.past):
            await self._snapshots.save(lane, own.past, own.resume_at)
            self.wiring.metrics.observe_past(lane, own.past.windows.histories)

    async def _read_again(self, lane: int, own: KeyPartition) -> None:
        """Go back in the log to what was left there, as too much was waiting, when it is time."""
        position = own.order.read_again()
        if position is not None:
            await own.rewind.go_back(self, self._log(lane), position, own.next_offset)
            own.next_offset = position

    async def _take_back(self, lane: int, own: KeyPartition) -> None:
        """What was run on with care is written."""
        if own.poison_rows is not None:
            committed = self.wiring.app.batches.committed(self._log(lane))
            if await self._attempts.take_back(lane, own.poison_rows, committed):
                own.poison_rows = None

    # -- what it says of itself

    def pulses(self) -> Sequence[StagePulse]:
        """The component's."""
        return (self._writer.pulse,)

    def health(self, partition: int) -> PartitionHealth:
        """What the rows of one lane wait for."""
        own = self._states.get(partition)
        if own is None:
            return PartitionHealth("starting")
        behind_s = own.order.lagging(self.clock.now())
        if own.order.first_held is None or not behind_s:
            return PartitionHealth("working", rows=own.order.rows)
        return PartitionHealth("waiting", self._awaited(behind_s, own), own.order.rows)

    def _health_with(self, own: KeyPartition | None, source: int) -> PartitionHealth:
        """What rows of one source wait for: those of a source that does not come at all."""
        if own is None:
            return PartitionHealth("starting")
        behind_s = own.order.behind_s(source, self.clock.now())
        if not own.order.is_down(source, self.clock.now()):
            return PartitionHealth("working")
        return PartitionHealth("waiting", self._awaited(behind_s, own))

    def _awaited(self, behind_s: float, own: KeyPartition) -> dict[str, AwaitedInput]:
        since_ms = max(0, int((time.time() - behind_s) * 1000))
        return {f"{self._name}.keyed": AwaitedInput(
            since_ms=since_ms, down=own.order.any_down(self.clock.now()),
            why=f"events that were published have not come for {behind_s:.0f} s",
        )}  # fmt: skip

    async def give_signs(self, interval_s: float) -> None:
        """One for each source, in each lane."""
        if self._states and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + interval_s / 2
            ends = await self._ends.now()
            for _, own in self.states():
                own.order.note_ends(self.clock.now(), ends)
        beat = self._writer.pulse.beat
        await all_done([
            beat(source, self._health_with(self._states.get(lane), source), interval_s, lane)
            for lane in self.owned
            for source in range(self.topology.partitions)
        ])  # fmt: skip

    # -- redriven events

    async def _redriven(self, redrives: RedriveBatch) -> RedriveResult:
        """What the component makes of redriven events of one lane, of those whose past is here."""
        decoded = self._events.decode(redrives.events)
        refused: Refusals = {}
        windowed: dict[str, Column] = {}
        if len(decoded.valid):
            lane = lane_of(self._plan.entities(decoded.columns)[0], self.topology.partitions)
            own = await self.state(lane)
            redrives, refused = await with_their_past(
                self, own.past, own.rewind, self._log(lane), redrives
            )
            if not len(redrives):
                return RedriveResult(None, refused)
            decoded = self._events.decode(redrives.events)
            windowed = own.past.of_redriven(self._plan, decoded, redrives)
        batch = Batch(rows=len(decoded.valid), columns=windowed)
        result = await self._writer.transform(batch, decoded.valid, len(redrives))
        failures = {
            failure.row: failure._replace(component=self._name) for failure in decoded.failures
        }
        fields = self.wiring.pipeline.policy.bounded_fields
        rows, first = source_rows(redrives.events, decoded, fields), redrives.events[0]
        output = self._writer.batch(redrives.partition, first.offset, rows, result, failures)
        return RedriveResult(output, refused)
