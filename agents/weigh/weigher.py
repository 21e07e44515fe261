"""The weighting agent: rejoins all stage outputs into y = Σ α·y and ends every event.

It alone decides how an event ends, in a decision or in a dead letter, so that exactly one
of the two exists for each source record. Dead letters of a batch are written before its
decisions; after a crash the tails of both topics say which rows have ended.
"""

from __future__ import annotations

import time

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.join import Joined, Moment, PartitionJoin
from agents.stages import JoinedWorker, source_rows
from agents.weigh.dead_letters import Burials
from agents.weigh.decision_rule import TermsSlot
from agents.weigh.redrive_completion import RedriveCompletion
from agents.weigh.scoring import causes_of_death, rows_of_other_models
from agents.workers import Wiring, check_continues
from topics.events import SourceDecoder
from topics.pipeline import EVENTS, Pipeline
from topics.records import ModelRef, StageBatch, decided_offset


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
        self._events = SourceDecoder(wiring.pipeline.event, wiring.pipeline.partitions)
        self._slot = slot
        wiring.metrics.observe_late_answers(0)  # a series that is there can be alerted on
        wiring.metrics.observe_other_models(dict.fromkeys(inputs, 0))
        self.redrive = RedriveCompletion(wiring, self.tail, slot)
        self._burials = Burials(wiring, self.tail)
        wiring.in_step.weighed = lambda: self.owned

    async def open_state(self, partition: int) -> PartitionJoin:
        """Continue after the last decision; what is dead beyond it is not to die again."""
        topology = self.topology
        ends = await self.tail.last_read(topology.decisions, partition, decided_offset)
        decided = max(ends, default=-1)
        made_of_it = [TP(topology.decisions, partition)]
        await check_continues(self.tail, topology.events, partition, decided, made_of_it)
        return self.new_join(partition, await self._burials.open(partition, decided))

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

    async def emit(self, partition: int, joined: Joined) -> None:
        """End the joined rows: dead letters first, then decisions."""
        terms = self._slot.terms
        verdict = terms.scale.verdict(joined)
        # A row that was buried before a crash stays dead, even if it is complete this time.
        buried = self._burials.are_dead(partition, joined.rows.offsets)
        dying = np.flatnonzero(~verdict.decidable & ~buried)
        causes = causes_of_death(joined, verdict, dying) if len(dying) else []
        await self._burials.bury(partition, joined.rows, causes)
        now_ms = int(time.time() * 1000)
        rows = np.flatnonzero(verdict.decidable & ~buried)
        records = terms.decisions.records(
            partition, joined, rows, verdict.weighed, now_ms, fallback=verdict.fallback
        )
        await self.wiring.app.writer.write(self.topology.decisions, partition, records)
        if len(rows):
            self._slot.decided(terms, partition, int(joined.rows.offsets[rows[0]]))
        self._burials.forget(partition, int(joined.rows.offsets[-1]))
        latencies = (now_ms - joined.rows.published_ms[rows]) / 1000
        degraded = int((~verdict.present[rows].all(axis=1)).sum())
        self.wiring.in_step.decided(partition, int(joined.rows.offsets[-1]))
        self.wiring.metrics.observe_ends(latencies, degraded, [])
        if others := rows_of_other_models(joined, terms.weights.learned_for):
            self.wiring.metrics.observe_other_models(others)
        waiting = sum(join.pending_rows for _, join in self.states())
        self.wiring.metrics.observe_join(waiting, joined.unaccounted)
