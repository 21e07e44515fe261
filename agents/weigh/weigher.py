"""The weighting agent: rejoins all stage outputs into y = Σ α·y and ends every event.

It alone decides how an event ends, in a decision or in a dead letter, so that exactly one
of the two exists for each source record. Dead letters of a batch are written before its
decisions; after a crash the tails of both topics say which rows have ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.join import NO_ROWS, JoinedRows, Moment, PartitionJoin
from agents.recovery import DeadRows, check_continues, last_decision
from agents.spans import RowEnd
from agents.stages import JoinWorker, source_rows
from agents.weigh.dead_letters import DeadLetters
from agents.weigh.decision_records import TakenDecisions
from agents.weigh.decision_rule import (
    MISSING_BECAUSE,
    ActiveDecisionRule,
    RowScores,
    causes_of_death,
    rows_of_other_models,
    stages_missing,
)
from agents.weigh.redrive_completion import RedriveCompletion
from agents.workers import Ends, Wiring
from topics.events import SourceDecoder
from topics.pipeline import EVENTS, WEIGH, Pipeline
from topics.records import Failure, Ints, ModelRef, StageBatch


def hears_of_events(pipeline: Pipeline) -> bool:
    """Whether the weighting agent has to read the events too, for the offsets of all rows.

    So it is where every stage comes in lanes, each of which knows only its own rows, and where a
    row has to be answered in time, whoever has said anything about it.
    """
    inputs = pipeline.weighting.inputs
    in_lanes = all(pipeline.is_repartitioned(name) for name in inputs)
    return in_lanes or pipeline.weighting.fallback is not None


class Weigher(JoinWorker):
    """Joins all weighted stages, weighs them, writes decisions and dead letters."""

    runs = (WEIGH,)

    def __init__(self, wiring: Wiring, active_rule: ActiveDecisionRule) -> None:
        weighting, topology = wiring.pipeline.weighting, wiring.topology
        if hears_of_events(wiring.pipeline):
            self.source = EVENTS
        inputs = weighting.inputs
        sources = [*([EVENTS] if self.source else []), *inputs]
        super().__init__(wiring, inputs, [topology.stage(name) for name in sources])
        self._deadline_s = weighting.deadline_s
        self._needs_quorum = weighting.fallback is None
        self._events = SourceDecoder(wiring.pipeline.event, wiring.pipeline.partitions)
        self._fields = wiring.pipeline.policy.bounded_fields
        self._active_rule = active_rule
        wiring.metrics.observe_late_answers(0)  # a series that is there can be alerted on
        wiring.metrics.observe_other_models(dict.fromkeys(inputs, 0))
        wiring.metrics.observe_dead(())
        wiring.metrics.observe_decisions(self._none_yet(inputs))
        self.redrive = RedriveCompletion(wiring, self.tail, active_rule)
        self._dead_letters = DeadLetters(wiring, self.tail)
        self._dead = DeadRows(self.tail, topology.dead_letters)
        wiring.flow_control.weighed = lambda: self.owned

    async def open_state(self, partition: int) -> PartitionJoin:
        """Continue after the last decision; what is dead beyond it is not to die again."""
        topology = self.topology
        decided = await last_decision(self.tail, topology.decisions, partition)
        outputs = [TP(topology.decisions, partition)]
        await check_continues(self.tail, topology.events, partition, decided, outputs)
        return self.new_join(partition, await self._dead.open(partition, decided))

    def decoded(self, tp: TP, record: ConsumerRecord, headers: dict[str, bytes]) -> StageBatch:
        """The rows of a stage batch; an event is a row that nobody has answered yet."""
        if tp.topic != self.topology.events:
            return super().decoded(tp, record, headers)
        rows = source_rows([record], self._events.decode([record]), self._fields)
        nothing = np.zeros(1, np.float32)
        return StageBatch(
            component=EVENTS, topic=tp.topic, partition=tp.partition, covers_from=record.offset,
            rows=rows, present=np.ones(1, np.bool_), output=nothing[:, None], signal=nothing,
            model=ModelRef(EVENTS, "", "code"),
        )  # fmt: skip

    def closed(self, join: PartitionJoin, at: Moment) -> JoinedRows | None:
        """Rows that lack answers of stages that are down, or late, and have a quorum."""
        return join.close(
            at, self._active_rule.rule.scorer.quorum, deadline_s=self._deadline_s,
            needs_quorum=self._needs_quorum,
        )  # fmt: skip

    async def emit(self, partition: int, joined: JoinedRows) -> None:
        """End the joined rows: dead letters first, then decisions."""
        rule, began_ns = self._active_rule.rule, time.time_ns()
        scores = rule.scorer.score(joined)
        # A row that died before a crash stays dead, even if it is complete this time.
        dead = self._dead.among(partition, joined.rows.offsets)
        dying = np.flatnonzero(~scores.decidable & ~dead)
        causes = causes_of_death(joined, scores, dying) if len(dying) else []
        await self._dead_letters.write(partition, joined.rows, causes)
        now_ms = int(time.time() * 1000)
        rows = np.flatnonzero(scores.decidable & ~dead)
        outgoing = replace(joined, rows=self.wiring.spans.outgoing(partition, joined.rows))
        taken = rule.decisions.taken(partition, joined.rows, scores.weighed.scores, scores.fallback)
        records = rule.decisions.records(
            partition, outgoing, rows, scores.weighed, now_ms, taken=taken
        )
        await self.wiring.app.writer.write(self.topology.decisions, partition, records)
        self._record_ends(partition, joined, scores, taken, rows, causes, began_ns)
        if len(rows):
            self._active_rule.decided(rule, partition, int(joined.rows.offsets[rows[0]]))
        self._dead.forget(partition, int(joined.rows.offsets[-1]))
        self.wiring.flow_control.decided(partition, int(joined.rows.offsets[-1]))
        self.wiring.metrics.observe_decisions(_ends(taken, joined, scores, rows, now_ms))
        if others := rows_of_other_models(joined, rule.weights.learned_for):
            self.wiring.metrics.observe_other_models(others)
        waiting = sum(join.pending_rows for _, join in self.states())
        self.wiring.metrics.observe_join(waiting, joined.unaccounted)

    def _record_ends(
        self, partition: int, joined: JoinedRows, scores: RowScores, taken: TakenDecisions,
        decided: Ints, causes: Sequence[Failure], began_ns: int,
    ) -> None:  # fmt: skip
        """Tell of *decided* rows, and of those that died of *causes*, whose spans are recorded."""
        dead = {cause.row: cause.error for cause in causes}

        def end(row: int) -> RowEnd:
            if row in dead:
                return RowEnd(None, None, dead[row])
            score = None if scores.fallback[row] else float(scores.weighed.scores[row])
            degraded = not scores.present[row].all()
            return RowEnd(taken.decision(row), score, None, degraded)

        self.wiring.spans.ended(partition, joined.rows, [*decided.tolist(), *dead], began_ns, end)

    def _none_yet(self, inputs: Sequence[str]) -> Ends:
        """No decision of any kind, and no stage that any lacks."""
        nothing, no_rows = np.zeros(0), np.zeros(0, np.int64)
        taken = self._active_rule.rule.decisions.taken(0, NO_ROWS, nothing)
        return Ends(
            latencies_s=nothing, degraded=0, scores=nothing, kinds=taken.kinds(no_rows),
            explorations=taken.explorations(no_rows),
            missing={(name, reason): 0 for name in inputs for reason in MISSING_BECAUSE},
        )  # fmt: skip


def _ends(
    taken: TakenDecisions, joined: JoinedRows, scores: RowScores, rows: Ints, now_ms: int
) -> Ends:
    """What there is to say of *rows*, which were decided at *now_ms* (milliseconds since 1970)."""
    fallback = scores.fallback[rows]
    present = scores.present[rows]
    degraded = int((~present.all(axis=1)).sum())
    return Ends(
        latencies_s=(now_ms - joined.rows.published_ms[rows]) / 1000,
        degraded=degraded,
        scores=scores.weighed.scores[rows][~fallback],
        kinds=taken.kinds(rows),
        explorations=taken.explorations(rows),
        missing=stages_missing(joined, present, rows) if degraded else {},
    )
