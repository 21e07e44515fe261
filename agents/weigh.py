"""The weighting agent: rejoins all stage outputs into y = Σ α·y and ends every event.

It alone decides how an event ends, in a decision or in a dead letter, so that exactly one
of the two exists for each source record. Dead letters of a batch are written before its
decisions; after a crash the tails of both topics say which rows have ended.
"""

from __future__ import annotations

import time

import numpy as np

from agents.burials import Burials
from agents.coverage import check_continues
from agents.join import Joined, PartitionJoin
from agents.joined_worker import JoinedWorker
from agents.redrive_ends import RedriveEnds
from agents.terms import TermsSlot
from agents.weighing import causes_of_death
from agents.worker import Wiring
from topics.ends import decided_offset


class Weigher(JoinedWorker):
    """Joins all weighted stages, weighs them, writes decisions and dead letters."""

    def __init__(self, wiring: Wiring, slot: TermsSlot) -> None:
        weighting = wiring.pipeline.weighting
        super().__init__(wiring, weighting.inputs, weighting.deadline_ms / 1000)
        self._slot = slot
        self.errands = RedriveEnds(wiring, self.tail, slot)
        self._burials = Burials(wiring, self.tail)

    async def open_state(self, partition: int) -> PartitionJoin:
        """Continue after the last decision; what is dead beyond it is not to die again."""
        topology = self.topology
        ends = await self.tail.last_read(topology.decisions, partition, decided_offset)
        decided = max(ends, default=-1)
        await check_continues(self.tail, topology.events, partition, decided)
        return self.new_join(await self._burials.open(partition, decided))

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
        records = terms.decisions.records(partition, joined, rows, verdict.weighed, now_ms)
        await self.wiring.app.writer.write(self.topology.decisions, partition, records)
        if len(rows):
            self._slot.decided(terms, partition, int(joined.rows.offsets[rows[0]]))
        self._burials.forget(partition, int(joined.rows.offsets[-1]))
        latencies = (now_ms - joined.rows.published_ms[rows]) / 1000
        degraded = int((~verdict.present[rows].all(axis=1)).sum())
        self.wiring.in_step.decided(partition, int(joined.rows.offsets[-1]))
        self.wiring.metrics.observe_ends(latencies, degraded, [])
        waiting = sum(join.pending_rows for _, join in self.states())
        self.wiring.metrics.observe_join(waiting, joined.unaccounted)
