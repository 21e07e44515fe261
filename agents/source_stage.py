"""A component that reads events: validate, transform, write one stage batch per partition."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.worker import StageWriter, Wiring, Worker, all_done, is_backlog
from models.component import Batch, Component
from topics.events import DecodedEvents, EventDecoder
from topics.fetch import Fetch
from topics.stage_batch import BytesColumn, ModelRef, Rows

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    """How far one source partition is dealt with."""

    done: int
    """The highest source offset that has an output."""
    expected: int | None
    """The offset that should come next, a jump is a gap; None before a first start."""


class SourceStage(Worker[_Progress]):
    """Runs a component over the events of its partitions."""

    def __init__(self, wiring: Wiring, name: str, component: Component, model: ModelRef) -> None:
        super().__init__(wiring)
        self._writer = StageWriter(wiring, name, component, model)
        self._name = name
        self._decoder = EventDecoder(wiring.pipeline.event)
        self._deadline_ms = wiring.pipeline.weighting.deadline_ms

    async def open_state(self, partition: int) -> _Progress:
        """Continue after what the component's topic already answers for."""
        done = await self._writer.last_written(self.tail, partition)
        return _Progress(done=done, expected=done + 1 if done >= 0 else None)

    async def process(self, fetch: Fetch) -> None:
        """Deal with the records of each partition; returns when the outputs are written."""
        started = time.perf_counter()
        await all_done(self._process(tp, records) for tp, records in fetch.records.items())
        self.wiring.metrics.observe_batch(
            sum(map(len, fetch.records.values())), time.perf_counter() - started
        )

    async def _process(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        progress = await self.state(tp.partition)
        after = records[-1].offset + 1
        new = [record for record in records if record.offset > progress.done]
        if new:
            covers_from = await self._covers_from(tp, progress, new[0].offset)
            await self._write(tp, covers_from, new)
            progress.done = new[-1].offset
        progress.expected = after
        self.wiring.app.batches.done({tp: after})

    async def _covers_from(self, tp: TP, progress: _Progress, offset: int) -> int:
        """The first offset that the next batch answers for: later ones if records are lost."""
        expected = progress.expected
        if expected is None or offset <= expected:
            return offset
        first, _ = await self.tail.bounds(tp.topic, tp.partition)
        if first > expected:
            log.error(
                "%s[%d]: offsets %d to %d were deleted before the pipeline read them; "
                "they are counted as unaccounted (is the topic's retention too short?)",
                tp.topic, tp.partition, expected, first - 1,
            )  # fmt: skip
            return first
        return expected  # compaction or transaction markers: no records there

    async def _write(self, tp: TP, covers_from: int, records: Sequence[ConsumerRecord]) -> None:
        decoded = self._decoder.decode(records)
        batch = Batch(rows=len(decoded.valid), columns=decoded.columns)
        made = await self._writer.transform(batch, decoded.valid, len(records))
        failures = {
            failure.row: failure._replace(component=self._name) for failure in decoded.failures
        }
        rows = _rows(records, decoded)
        rows = replace(rows, backlog=is_backlog(rows.published_ms, self._deadline_ms))
        await self._writer.write(tp.partition, covers_from, rows, made, failures)


def _rows(records: Sequence[ConsumerRecord], decoded: DecodedEvents) -> Rows:
    n = len(records)
    # A traceparent has 55 bytes (W3C Trace Context); whatever else is in that header is dropped.
    traces = [(dict(record.headers).get("traceparent") or b"")[:55]
              for record in records]  # fmt: skip
    return Rows(
        offsets=np.fromiter((record.offset for record in records), np.int64, n),
        published_ms=np.fromiter((record.timestamp for record in records), np.int64, n),
        event_time_ms=decoded.times_ms,
        backlog=np.zeros(n, np.bool_),
        ids=BytesColumn.of(decoded.ids),
        keys=BytesColumn.of(decoded.keys),
        traces=BytesColumn.of(traces) if any(traces) else None,
    )
