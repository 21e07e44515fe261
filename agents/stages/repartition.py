"""Repartitioning: events and outcomes of one source partition, dealt out by another key.

Every batch goes to every partition of the key, also where it has no rows for it: so each
knows how far its sources have come. Where there is nothing to write for long a heartbeat goes
instead: a source that is slow to be read is not down.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.recovery import check_continues, covered_from
from agents.stages.key_dealer import KeyDealer, dealt
from agents.stages.source_events import SourceEvents, decode_events, is_backlog
from agents.stages.stage_writer import BatchWriter
from agents.workers import WORKER_RUN, Wiring, Worker, all_done
from models.features import Ints
from topics.events import DecodedEvents, SourceDecoder, without
from topics.pipeline import KEYED
from topics.records import OUTCOME_REDRIVE, Failure, Heartbeat, StageBatch, outcome_schema
from topics.transport import Fetch

log = logging.getLogger(__name__)

_AT_ONCE = 8192
"""Records of a partition: what was fetched of a burst may take as long as a stage may be silent."""


class Repartition(Worker[dict[str, int]]):
    """Reads events (and outcomes), writes them to a component's keyed topic.

    It keeps nothing: after a crash it writes again what was not committed, and the reader
    knows what it has seen. The state of a partition is the next offset to expect, by topic.
    """

    def __init__(self, wiring: Wiring, name: str) -> None:
        super().__init__(wiring, wiring.topology.sources_of(name))
        self._name = name
        self._dealer = KeyDealer(wiring.pipeline, name)
        self._observed = SourceEvents(wiring, windows=False)
        self._events = SourceDecoder(wiring.pipeline.event, wiring.pipeline.partitions)
        self._outcomes = SourceDecoder(outcome_schema(wiring.pipeline), wiring.pipeline.partitions)
        self._deadline_ms = wiring.pipeline.weighting.deadline_ms
        self._topic = self.topology.keyed(name)
        # Binary, whatever the pipeline's codec: a missing value is NaN, not in JSON.
        self._records = BatchWriter(wiring.app, self._topic, "binary")
        self._wrote_at: dict[int, float] = {}
        """Source partition → when anything was last written of it (monotonic seconds)."""

    async def open_state(self, partition: int) -> dict[str, int]:
        """Nothing is expected before the first record."""
        for topic in self.topology.sources_of(self._name):
            await check_continues(self.tail, topic, partition, -1, [TP(self._topic, partition)])
        return {}

    async def process(self, fetch: Fetch) -> None:
        """Deal the records out, some of each partition at a time; returns when all is written."""
        longest = max(map(len, fetch.records.values()), default=0)
        for start in range(0, longest, _AT_ONCE):
            await self._deal({
                tp: records[start : start + _AT_ONCE]
                for tp, records in fetch.records.items()
                if start < len(records)
            })  # fmt: skip

    async def _deal(self, fetched: Mapping[TP, Sequence[ConsumerRecord]]) -> None:
        started, began_ns = time.perf_counter(), time.time_ns()
        self.steps += 1  # it gets on, and may say so
        batches = [await self._decoded(tp, records) for tp, records in fetched.items()]
        lanes: list[list[StageBatch]] = [[] for _ in range(self.topology.partitions)]
        for batch, lane_of_row in batches:
            for lane, part in enumerate(dealt(batch, lane_of_row, len(lanes))):
                lanes[lane].append(part)
        await all_done([self._write(lane, parts) for lane, parts in enumerate(lanes) if parts])
        for batch, _ in batches:
            if batch.topic == self.topology.events:
                self.wiring.spans.processed(self._name + KEYED, batch, began_ns)
            self.wiring.metrics.observe_rows(batch.present, batch.failures)
        for tp, records in fetched.items():
            after = records[-1].offset + 1
            (await self.state(tp.partition))[tp.topic] = after
            self.wiring.app.batches.done({tp: after})
            self._wrote_at[tp.partition] = time.monotonic()
        rows = sum(map(len, fetched.values()))
        self.wiring.metrics.observe_batch(rows, time.perf_counter() - started)

    async def give_signs(self, interval_s: float) -> None:
        """One for each source in every lane, where nothing was written for *interval_s*."""
        now = time.monotonic()
        due = [
            source for source in self._states
            if now - self._wrote_at.get(source, float("-inf")) >= interval_s
        ]  # fmt: skip
        if not due:
            return
        self._wrote_at |= dict.fromkeys(due, now)
        now_ms = int(time.time() * 1000)
        await all_done([
            self.wiring.app.writer.write(self._topic, lane, [
                Heartbeat(
                    component=self._name, partition=source, lane=lane, worker=WORKER_RUN,
                    state="working",
                ).record(now_ms)
                for source in due
            ])
            for lane in range(self.topology.partitions)
        ])  # fmt: skip

    async def _write(self, lane: int, batches: Sequence[StageBatch]) -> None:
        await self._records.write(lane, batches)

    async def _decoded(self, tp: TP, records: Sequence[ConsumerRecord]) -> tuple[StageBatch, Ints]:
        """The records of a source partition, and the lane of each."""
        expected = (await self.state(tp.partition)).get(tp.topic)
        covers_from = await covered_from(self.tail, tp, expected, records[0].offset)
        is_events = tp.topic == self.topology.events
        decoder = self._events if is_events else self._outcomes
        decoded = await decode_events(decoder, records)
        if not is_events:
            decoded = _not_redriven(decoded, records)
        if is_events:
            self._observed.observe(records, decoded)
        else:
            self._tell_invalid_outcomes(tp, records, decoded)
        batch, lanes = self._dealer.batch(tp.topic, tp.partition, records, decoded, covers_from)
        backlog = is_backlog(batch.rows.published_ms, self._deadline_ms)
        return replace(batch, rows=replace(batch.rows, backlog=backlog)), lanes

    def _tell_invalid_outcomes(
        self, tp: TP, records: Sequence[ConsumerRecord], decoded: DecodedEvents
    ) -> None:
        for failure in decoded.failures:
            if failure.error == OUTCOME_REDRIVE:
                continue  # no fault: it was taken in before
            self.wiring.metrics.observe_skipped()
            log.warning(
                "%s[%d]@%d is no outcome, skipped: %s",
                tp.topic, tp.partition, records[failure.row].offset, failure.reason,
            )  # fmt: skip


def _not_redriven(decoded: DecodedEvents, records: Sequence[ConsumerRecord]) -> DecodedEvents:
    """Without outcomes that are published again: windows have had them (`outcome_redrive`)."""
    valid = {*decoded.valid.tolist()}
    again = [
        Failure(row, "", OUTCOME_REDRIVE, "it was here before")
        for row, record in enumerate(records)
        if row in valid and any(name == OUTCOME_REDRIVE for name, _ in record.headers)
    ]
    return without(decoded, again)
