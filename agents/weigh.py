"""The weighting agent: rejoins all stage outputs into y = Σ α·y and ends every event.

It alone decides how an event ends, in a decision or in a dead letter, so that exactly one
of the two exists for each source record. Dead letters of a batch are written before its
decisions; after a crash the tails of both topics say which rows have ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.coverage import check_continues
from agents.join import Joined, Moment, PartitionJoin
from agents.joined_worker import JoinedWorker
from agents.redrive_ends import RedriveEnds
from agents.source_stage import source_rows
from agents.tail import GAP, ranges, readable
from agents.terms import TermsSlot
from agents.weighing import Verdict, causes_of_death
from agents.worker import Wiring
from topics.batches import Record
from topics.dead_letters import dead_letter
from topics.ends import buried_offset, decided_offset
from topics.events import EventDecoder
from topics.feature import EVENTS
from topics.pipeline import Pipeline
from topics.stage_batch import ModelRef, StageBatch


def hears_of_events(pipeline: Pipeline) -> bool:
    """Whether the weighting agent has to read the events too, for the offsets of all rows.

    So it is where every stage comes in lanes, each of which knows only its own rows, and where a
    row has to be answered in time, whoever has said anything about it.
    """
    inputs = pipeline.weighting.inputs
    in_lanes = all(pipeline.is_repartitioned(name) for name in inputs)
    return in_lanes or pipeline.weighting.fallback is not None


class Weigher(JoinedWorker):
    """Joins all weighted stages, weighs them, writes decisions and dead letters."""

    def __init__(self, wiring: Wiring, slot: TermsSlot) -> None:
        weighting, topology = wiring.pipeline.weighting, wiring.topology
        if hears_of_events(wiring.pipeline):
            self.source = EVENTS
        inputs = weighting.inputs
        sources = [*([EVENTS] if self.source else []), *inputs]
        super().__init__(wiring, inputs, [topology.stage(name) for name in sources])
        self._deadline_s = weighting.deadline_s
        self._needs_quorum = weighting.fallback is None
        self._events = EventDecoder(wiring.pipeline.event)
        self._slot = slot
        self.errands = RedriveEnds(wiring, self.tail, slot)
        self._dead: dict[int, set[int]] = {}

    async def open_state(self, partition: int) -> PartitionJoin:
        """Continue after the last decision; what is dead beyond it is not to die again."""
        topology = self.topology
        ends = await self.tail.last_read(topology.decisions, partition, decided_offset)
        decided = max(ends, default=-1)
        await check_continues(self.tail, topology.events, partition, decided)
        self._dead[partition] = await self._dead_after(partition, decided)
        return self.new_join(partition, decided)

    def decoded(self, tp: TP, record: ConsumerRecord, headers: dict[str, bytes]) -> StageBatch:
        """The rows of a stage batch; an event is a row that nobody has answered yet."""
        if tp.topic != self.topology.events:
            return super().decoded(tp, record, headers)
        rows = source_rows([record], self._events.decode([record]))
        nothing = np.zeros(1, np.float32)
        return StageBatch(
            component=EVENTS, topic=tp.topic, partition=tp.partition, covers_from=record.offset,
            rows=rows, present=np.ones(1, np.bool_), output=nothing[:, None], signal=nothing,
            model=ModelRef(EVENTS, "", "code"),
        )  # fmt: skip

    def closed(self, join: PartitionJoin, at: Moment) -> Joined | None:
        """Rows that lack answers of stages that are down, or late, and have a quorum."""
        return join.close(
            at, self._slot.terms.scale.quorum, deadline_s=self._deadline_s,
            needs_quorum=self._needs_quorum,
        )  # fmt: skip

    async def _dead_after(self, partition: int, decided: int) -> set[int]:
        """Source offsets beyond *decided* that already have a dead letter."""
        topic, dead = self.topology.dead_letters, set[int]()
        first, end = await self.tail.bounds(topic, partition)
        while end > first:
            start = max(first, end - GAP)
            records = await self.tail.between(topic, partition, start, end)
            offsets = readable(records, buried_offset)
            dead.update(offset for offset in offsets if offset > decided)
            if any(offset <= decided for offset in offsets):
                break
            end = start
        return dead

    async def emit(self, partition: int, joined: Joined) -> None:
        """End the joined rows: dead letters first, then decisions."""
        terms = self._slot.terms
        verdict = terms.scale.verdict(joined)
        # A row that was buried before a crash stays dead, even if it is complete this time.
        buried = np.isin(joined.rows.offsets, list(self._dead[partition]))
        await self._bury(partition, joined, np.flatnonzero(~verdict.decidable & ~buried), verdict)
        now_ms = int(time.time() * 1000)
        rows = np.flatnonzero(verdict.decidable & ~buried)
        records = terms.decisions.records(
            partition, joined, rows, verdict.weighed, now_ms, fallback=verdict.fallback
        )
        await self.wiring.app.writer.write(self.topology.decisions, partition, records)
        if len(rows):
            self._slot.decided(terms, partition, int(joined.rows.offsets[rows[0]]))
        latencies = (now_ms - joined.rows.published_ms[rows]) / 1000
        degraded = int((~verdict.present[rows].all(axis=1)).sum())
        self.wiring.in_step.decided(partition, int(joined.rows.offsets[-1]))
        self.wiring.metrics.observe_ends(latencies, degraded, [])
        waiting = sum(join.pending_rows for _, join in self.states())
        self.wiring.metrics.observe_join(waiting, joined.unaccounted)

    async def _bury(
        self, partition: int, joined: Joined, rows: np.ndarray, verdict: Verdict
    ) -> None:
        """Write the dead letters of *rows*, with their original records."""
        if not len(rows):
            return
        now_ms = int(time.time() * 1000)
        originals = await self._originals(partition, joined.rows.offsets[rows].tolist())
        letters: list[Record] = []
        causes = causes_of_death(joined, verdict, rows)
        for cause in causes:
            offset = int(joined.rows.offsets[cause.row])
            source = (self.topology.events, partition, offset)
            published_ms = int(joined.rows.published_ms[cause.row])
            letters.append(
                dead_letter(cause, source, originals.get(offset), now_ms, published_ms=published_ms)
            )
        await self.wiring.app.writer.write(self.topology.dead_letters, partition, letters)
        self.wiring.metrics.observe_ends(np.zeros(0), 0, causes)

    async def _originals(
        self, partition: int, offsets: Sequence[int]
    ) -> dict[int, tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]]:
        """Key, value and headers of source records, those that are still there."""
        wanted = set(offsets)
        found = {}
        for start, end in ranges(offsets):
            records = await self.tail.between(self.topology.events, partition, start, end)
            found.update({r.offset: (r.key, r.value, r.headers) for r in records
                          if r.offset in wanted})  # fmt: skip
        return found
