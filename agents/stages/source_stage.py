"""A component that reads events: validate, transform, write one stage batch per partition.

Where a pipeline fuses it with others, these follow in the same worker.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.join import Decoded, Given
from agents.redrive import RedriveResult, Refusals, StageRedrive
from agents.stages.component_group import Chain
from agents.stages.event_decoding import decoded as decoded_events
from agents.stages.source_events import SourceEvents
from agents.windows import Past, Resumption, SnapshotStore, caught_up, glimpsed, orders_of
from agents.workers import (
    StagePulse,
    Wiring,
    Worker,
    all_done,
    check_continues,
    covered_from,
    is_backlog,
)
from models.component import Batch, Column
from models.features import Ints, WindowPlan
from topics.events import DecodedEvents, SourceDecoder
from topics.records import BytesColumn, Rows
from topics.redrive import RedriveRecord
from topics.transport import Fetch


@dataclass(slots=True)
class _Progress:
    """How far one source partition is dealt with."""

    done: int
    """The highest source offset that has an output."""
    expected: int | None
    """The offset that should come next, a jump is a gap; None before a first start."""
    past: Past | None
    """For windowed features."""
    resumption: Resumption


class SourceStage(Worker[_Progress]):
    """Runs a component over the events of its partitions, and those that are fused with it."""

    def __init__(self, wiring: Wiring, chain: Chain) -> None:
        super().__init__(wiring, [wiring.topology.events])
        self._chain = chain
        self._name, *others = chain.names
        runs = {name: partial(chain.redriven, name) for name in others}
        self.redrive = StageRedrive(wiring, {self._name: self._redriven, **runs})
        windowed = bool(wiring.pipeline.component(self._name).windowed)
        self._events = SourceEvents(wiring, windows=windowed)
        self._decoder = SourceDecoder(wiring.pipeline.event, wiring.pipeline.partitions)
        self._deadline_ms = wiring.pipeline.weighting.deadline_ms
        self._snapshots: SnapshotStore | None = None
        if windowed:
            self._plan = WindowPlan(wiring.pipeline, self._name)
            self._snapshots = SnapshotStore(wiring, self._name, self._plan)

    def pulses(self) -> Sequence[StagePulse]:
        """Those of its components."""
        return self._chain.pulses

    async def open_state(self, partition: int) -> _Progress:
        """Continue after what the components' topics already answer for."""
        done = await self._chain.open(self.tail, partition)
        made_of_it = [TP(self.topology.stage(name), partition) for name in self._chain.names]
        await check_continues(self.tail, self.topology.events, partition, done, made_of_it)
        expected = done + 1 if done >= 0 else None
        progress = _Progress(done, expected, past=None, resumption=Resumption(None))
        if self._snapshots is not None:
            found = await self._snapshots.load(self.tail, partition)
            if found is not None and found.next_offset > done + 1:
                found = None  # outputs are gone that were there: all is made again
            progress.past = found.past if found else Past.empty(self._plan)
            progress.resumption = Resumption(found.next_offset if found else 0)
        return progress

    async def process(self, fetch: Fetch) -> None:
        """Deal with all partitions side by side."""
        started = time.perf_counter()
        await all_done([self._process_partition(tp, it) for tp, it in fetch.records.items()])
        rows = sum(map(len, fetch.records.values()))
        self.wiring.metrics.observe_batch(rows, time.perf_counter() - started)

    async def _process_partition(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        """Deal with the records of a partition; returns when what they lead to is written."""
        progress = await self.state(tp.partition)
        if await progress.resumption.leaves(self, tp, records[0].offset):
            return
        if progress.past is not None:
            await self._relive(progress.past, tp, [r for r in records if r.offset <= progress.done])
        if records[0].offset < (progress.expected or 0):  # again, or from the beginning
            await check_continues(self.tail, tp.topic, tp.partition, progress.done)
        after = records[-1].offset + 1
        new = [record for record in records if record.offset > progress.done]
        if new:
            covers_from = await covered_from(self.tail, tp, progress.expected, new[0].offset)
            await self._write(tp, covers_from, new, progress.past)
            progress.done = new[-1].offset
            self.wiring.in_step.sent(tp.partition, progress.done)
        progress.expected = max(after, progress.expected or 0)
        if after > progress.done:
            self.wiring.app.batches.done({tp: after})
        if self._snapshots is None or progress.past is None:
            return
        progress.past.log_bytes += sum(len(record.value or b"") for record in records)
        if self._snapshots.is_due(progress.past):
            await self._snapshots.save(tp.partition, progress.past, after)
            self.wiring.metrics.observe_past(tp.partition, progress.past.windows.histories)

    async def _relive(self, past: Past, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        """Take in events that have their output already, unless a snapshot holds them."""
        remembered = past.of(tp.topic, tp.partition).offset
        forgotten = [record for record in records if record.offset > remembered]
        if forgotten:
            self._observed(past, tp, forgotten, await decoded_events(self._decoder, forgotten))

    async def _write(
        self, tp: TP, covers_from: int, records: Sequence[ConsumerRecord], past: Past | None
    ) -> None:
        decoded = await decoded_events(self._decoder, records)
        self._events.observe(records, decoded)
        windowed = {} if past is None else self._observed(past, tp, records, decoded)
        rows = source_rows(records, decoded)
        rows = replace(rows, backlog=is_backlog(rows.published_ms, self._deadline_ms))
        await self._chain.write(self._given(tp.partition, covers_from, rows, decoded, windowed))

    def _given(
        self, partition: int, covers_from: int, rows: Rows, decoded: DecodedEvents,
        windowed: Mapping[str, Column],
    ) -> Given:  # fmt: skip
        batch = Batch(rows=len(decoded.valid), columns={**decoded.columns, **windowed})
        failures = {
            failure.row: failure._replace(component=self._name) for failure in decoded.failures
        }
        events = Decoded(batch, decoded.valid, failures)
        return Given(partition, covers_from, rows, events=events)

    async def _redriven(self, redrives: Sequence[RedriveRecord]) -> RedriveResult:
        """What the component makes of redriven events, of those whose past is here."""
        refused: Refusals = {}
        partition, past = redrives[0].partition, None
        if self._snapshots is not None:
            progress = await self.state(partition)
            past, log_of = progress.past, TP(self.topology.events, partition)
            if past is None:
                return RedriveResult(None)
            redrives, refused = await caught_up(self, past, progress.resumption, log_of, redrives)
        if not redrives:
            return RedriveResult(None, refused)
        decoded = self._decoder.decode(redrives)
        windowed = {} if past is None else glimpsed(past, self._plan, decoded, redrives)
        rows = source_rows(redrives, decoded)
        given = self._given(partition, redrives[0].offset, rows, decoded, windowed)
        return RedriveResult(await self._chain.only(self._name, given), refused)

    def _observed(
        self, past: Past, tp: TP, records: Sequence[ConsumerRecord], decoded: DecodedEvents
    ) -> dict[str, Column]:
        """The windowed features of the valid events; each event is taken in once."""
        valid = [records[row] for row in decoded.valid.tolist()]
        offsets = _offsets(valid)
        times: Ints = decoded.columns[self._plan.time]
        made = past.observe(
            self._plan.entities(decoded.columns), times, orders_of(tp.partition, offsets),
            self._plan.values(decoded.columns),
        )  # fmt: skip
        past.of(tp.topic, tp.partition).offset = records[-1].offset
        return made


def source_rows(records: Sequence[ConsumerRecord | RedriveRecord], decoded: DecodedEvents) -> Rows:
    """The identity of source records."""
    n = len(records)
    # A traceparent has 55 bytes (W3C Trace Context); whatever else is in that header is dropped.
    traces = [(dict(record.headers).get("traceparent") or b"")[:55]
              for record in records]  # fmt: skip
    return Rows(
        offsets=_offsets(records),
        published_ms=np.fromiter((record.timestamp for record in records), np.int64, n),
        event_time_ms=decoded.times_ms,
        backlog=np.zeros(n, np.bool_),
        ids=BytesColumn.of(decoded.ids),
        keys=BytesColumn.of(decoded.keys),
        traces=BytesColumn.of(traces) if any(traces) else None,
        clipped=np.isin(np.arange(n), [*decoded.clipped]) if decoded.clipped else None,
    )


def _offsets(records: Sequence[ConsumerRecord | RedriveRecord]) -> Ints:
    return np.fromiter((record.offset for record in records), np.int64, len(records))
