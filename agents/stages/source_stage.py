"""A component that reads events: validate, transform, write one stage batch per partition.

Where a pipeline fuses it with others, these follow in the same worker.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.join import EventInput, StageInput
from agents.recovery import LogRewind, SnapshotStore, check_continues, covered_from, with_their_past
from agents.redrive import RedriveResult, Refusals, StageRedrive
from agents.stages.component_group import ComponentGroup
from agents.stages.source_events import (
    SourceEvents,
    decode_events,
    is_backlog,
    offsets_of,
    source_rows,
)
from agents.windows import EntityPast, orders_of
from agents.workers import StagePulse, Wiring, Worker, all_done
from models.component import Batch, Column
from models.features import Ints, WindowPlan
from topics.events import DecodedEvents, SourceDecoder
from topics.records import Rows
from topics.redrive import RedriveBatch
from topics.transport import Fetch


@dataclass(slots=True)
class _Progress:
    """How far one source partition is dealt with."""

    done: int
    """The highest source offset that has an output."""
    expected: int | None
    """The offset that should come next, a jump is a gap; None before a first start."""
    past: EntityPast | None
    """For windowed features."""
    rewind: LogRewind


class SourceStage(Worker[_Progress]):
    """Runs a component over the events of its partitions, and those that are fused with it."""

    def __init__(self, wiring: Wiring, group: ComponentGroup) -> None:
        super().__init__(wiring, [wiring.topology.events])
        self._group = group
        self._name, *others = group.names
        runs = {name: partial(group.redriven, name) for name in others}
        self.redrive = StageRedrive(wiring, {self._name: self._redriven, **runs})
        windowed = bool(wiring.pipeline.component(self._name).windowed)
        self._events = SourceEvents(wiring, windows=windowed)
        self._decoder = SourceDecoder(wiring.pipeline.event, wiring.pipeline.partitions)
        self._deadline_ms = wiring.pipeline.weighting.deadline_ms
        self._fields = wiring.pipeline.policy.bounded_fields
        self._snapshots: SnapshotStore | None = None
        if windowed:
            self._plan = WindowPlan(wiring.pipeline, self._name)
            self._snapshots = SnapshotStore(wiring, self._name, self._plan)

    def pulses(self) -> Sequence[StagePulse]:
        """Those of its components."""
        return self._group.pulses

    async def open_state(self, partition: int) -> _Progress:
        """Continue after what the components' topics already answer for."""
        done = await self._group.open(self.tail, partition)
        outputs = [TP(self.topology.stage(name), partition) for name in self._group.names]
        await check_continues(self.tail, self.topology.events, partition, done, outputs)
        expected = done + 1 if done >= 0 else None
        progress = _Progress(done, expected, past=None, rewind=LogRewind(None))
        if self._snapshots is not None:
            snapshot = await self._snapshots.load(self.tail, partition)
            if snapshot is not None and snapshot.next_offset > done + 1:
                snapshot = None  # outputs are gone that were there: all is made again
            progress.past = snapshot.past if snapshot else EntityPast.empty(self._plan)
            progress.rewind = LogRewind(snapshot.next_offset if snapshot else 0)
        return progress

    async def process(self, fetch: Fetch) -> None:
        """Deal with all partitions side by side."""
        started = time.perf_counter()
        await all_done([
            self._process_partition(tp, records) for tp, records in fetch.records.items()
        ])  # fmt: skip
        rows = sum(map(len, fetch.records.values()))
        self.wiring.metrics.observe_batch(rows, time.perf_counter() - started)

    async def _process_partition(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        """Deal with the records of a partition; returns when what they lead to is written."""
        progress = await self.state(tp.partition)
        if await progress.rewind.leaves(self, tp, records[0].offset):
            return
        if progress.past is not None:
            await self._take_in_again(
                progress.past, tp, [r for r in records if r.offset <= progress.done]
            )
        if records[0].offset < (progress.expected or 0):  # again, or from the beginning
            await check_continues(self.tail, tp.topic, tp.partition, progress.done)
        after = records[-1].offset + 1
        new = [record for record in records if record.offset > progress.done]
        if new:
            covers_from = await covered_from(self.tail, tp, progress.expected, new[0].offset)
            await self._write(tp, covers_from, new, progress.past)
            progress.done = new[-1].offset
            self.steps += 1
            self.wiring.flow_control.sent(tp.partition, progress.done)
        progress.expected = max(after, progress.expected or 0)
        if after > progress.done:
            self.wiring.app.batches.done({tp: after})
        if self._snapshots is None or progress.past is None:
            return
        progress.past.log_bytes += sum(len(record.value or b"") for record in records)
        if self._snapshots.is_due(progress.past):
            await self._snapshots.save(tp.partition, progress.past, after)
            self.wiring.metrics.observe_past(tp.partition, progress.past.windows.histories)

    async def _take_in_again(
        self, past: EntityPast, tp: TP, records: Sequence[ConsumerRecord]
    ) -> None:
        """Take in events that have their output already, unless a snapshot holds them."""
        remembered = past.progress_of(tp.topic, tp.partition).offset
        missing = [record for record in records if record.offset > remembered]
        if missing:
            self._windowed(past, tp, missing, await decode_events(self._decoder, missing))

    async def _write(
        self, tp: TP, covers_from: int, records: Sequence[ConsumerRecord], past: EntityPast | None
    ) -> None:
        decoded = await decode_events(self._decoder, records)
        self._events.observe(records, decoded)
        windowed = {} if past is None else self._windowed(past, tp, records, decoded)
        rows = source_rows(records, decoded, self._fields)
        rows = replace(rows, backlog=is_backlog(rows.published_ms, self._deadline_ms))
        await self._group.write(
            self._stage_input(tp.partition, covers_from, rows, decoded, windowed)
        )

    def _stage_input(
        self, partition: int, covers_from: int, rows: Rows, decoded: DecodedEvents,
        windowed: Mapping[str, Column],
    ) -> StageInput:  # fmt: skip
        batch = Batch(rows=len(decoded.valid), columns={**decoded.columns, **windowed})
        failures = {
            failure.row: failure._replace(component=self._name) for failure in decoded.failures
        }
        events = EventInput(batch, decoded.valid, failures)
        return StageInput(partition, covers_from, rows, events=events)

    async def _redriven(self, redrives: RedriveBatch) -> RedriveResult:
        """What the component makes of redriven events, of those whose past is here."""
        refused: Refusals = {}
        partition, past = redrives.partition, None
        if self._snapshots is not None:
            progress = await self.state(partition)
            past, log_of = progress.past, TP(self.topology.events, partition)
            if past is None:
                return RedriveResult(None)
            redrives, refused = await with_their_past(self, past, progress.rewind, log_of, redrives)
        if not len(redrives):
            return RedriveResult(None, refused)
        decoded = self._decoder.decode(redrives.events)
        windowed = {} if past is None else past.of_redriven(self._plan, decoded, redrives)
        rows = source_rows(redrives.events, decoded, self._fields)
        first = redrives.events[0]
        stage_input = self._stage_input(partition, first.offset, rows, decoded, windowed)
        return RedriveResult(await self._group.only(self._name, stage_input), refused)

    def _windowed(
        self, past: EntityPast, tp: TP, records: Sequence[ConsumerRecord], decoded: DecodedEvents
    ) -> dict[str, Column]:
        """The windowed features of the valid events; each event is taken in once."""
        valid = [records[row] for row in decoded.valid.tolist()]
        offsets = offsets_of(valid)
        times: Ints = decoded.columns[self._plan.time]
        windowed = past.observe(
            self._plan.entities(decoded.columns), times, orders_of(tp.partition, offsets),
            self._plan.values(decoded.columns),
        )  # fmt: skip
        past.progress_of(tp.topic, tp.partition).offset = records[-1].offset
        return windowed
