"""The weighting agent: rejoins all stage outputs into y = Σ α·y and ends every event.

It alone decides how an event ends, in a decision or in a dead letter, so that exactly one
of the two exists for each source record. Dead letters of a batch are written before its
decisions; after a crash the tails of both topics say which rows have ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from agents.alignment import MISSING
from agents.coverage import check_continues
from agents.decisions import DecisionWriter, Weights
from agents.join import Joined, PartitionJoin
from agents.joined_worker import JoinedWorker
from agents.tail import readable
from agents.worker import Wiring
from models.weighting import combine
from topics import dead_letters, decision
from topics.batches import Record
from topics.dead_letters import dead_letter
from topics.stage_batch import Failure

_REFETCH_GAP = 100
"""Dead letters' originals this close together are read in one go."""


class Weigher(JoinedWorker):
    """Joins all weighted stages, weighs them, writes decisions and dead letters."""

    def __init__(self, wiring: Wiring, weights: Weights) -> None:
        weighting = wiring.pipeline.weighting
        super().__init__(wiring, weighting.inputs, weighting.deadline_ms / 1000)
        self._alpha = np.array([weights.values[name] for name in weighting.inputs])
        self._decisions = DecisionWriter(wiring.pipeline, weights)
        self._fail_incomplete = weighting.missing == "fail"
        self._dead: dict[int, set[int]] = {}
        wiring.metrics.observe_weights(dict(weights.values))

    async def open_state(self, partition: int) -> PartitionJoin:
        """Continue after the last decision; what is dead beyond it is not to die again."""
        topology = self.topology
        ends = await self.tail.last_read(
            topology.decisions, partition, lambda record: decision.source_of(record.headers)[2]
        )
        decided = max(ends, default=-1)
        await check_continues(self.tail, topology.events, partition, decided)
        self._dead[partition] = await self._dead_after(partition, decided)
        return self.new_join(decided)

    async def _dead_after(self, partition: int, decided: int) -> set[int]:
        """Source offsets beyond *decided* that already have a dead letter."""
        topic, dead = self.topology.dead_letters, set[int]()
        first, end = await self.tail.bounds(topic, partition)
        while end > first:
            start = max(first, end - _REFETCH_GAP)
            records = await self.tail.between(topic, partition, start, end)
            offsets = readable(records, lambda r: dead_letters.source_of(r.headers)[2])
            dead.update(offset for offset in offsets if offset > decided)
            if any(offset <= decided for offset in offsets):
                break
            end = start
        return dead

    async def emit(self, partition: int, joined: Joined) -> None:
        """End the joined rows: dead letters first, then decisions."""
        names = list(joined.stages)
        present = np.stack([joined.stages[name].present for name in names], axis=1)
        signals = np.stack([joined.stages[name].signal for name in names], axis=1)
        ends = present.all(axis=1) if self._fail_incomplete else present.any(axis=1)
        # A row that was buried before a crash stays dead, even if it is complete this time.
        buried = np.isin(joined.rows.offsets, list(self._dead[partition]))
        await self._bury(partition, joined, np.flatnonzero(~ends & ~buried), present)
        weighed = combine(signals, present, self._alpha)
        now_ms = int(time.time() * 1000)
        rows = np.flatnonzero(ends & ~buried)
        records = self._decisions.records(partition, joined, rows, weighed, now_ms)
        self.wiring.app.batches.check_lease()
        await self.wiring.app.writer.write(self.topology.decisions, partition, records)
        latencies = (now_ms - joined.rows.published_ms[rows]) / 1000
        degraded = int((~present[rows].all(axis=1)).sum())
        self.wiring.metrics.observe_ends(latencies.tolist(), degraded, [])
        waiting = sum(join.pending_rows for _, join in self.states())
        self.wiring.metrics.observe_join(waiting, joined.unaccounted)

    async def _bury(
        self, partition: int, joined: Joined, rows: np.ndarray, present: np.ndarray
    ) -> None:
        """Write the dead letters of *rows*, with their original records."""
        if not len(rows):
            return
        failures = joined.failures()
        now_ms = int(time.time() * 1000)
        originals = await self._originals(partition, joined.rows.offsets[rows].tolist())
        letters: list[Record] = []
        causes: list[Failure] = []
        for row in rows.tolist():
            offset = int(joined.rows.offsets[row])
            cause = failures.get(row) or _cause(list(joined.stages), present[row], row)
            source = (self.topology.events, partition, offset)
            letters.append(dead_letter(cause, source, originals.get(offset), now_ms))
            causes.append(cause)
        self.wiring.app.batches.check_lease()
        await self.wiring.app.writer.write(self.topology.dead_letters, partition, letters)
        self.wiring.metrics.observe_ends([], 0, causes)

    async def _originals(
        self, partition: int, offsets: Sequence[int]
    ) -> dict[int, tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]]:
        """Key, value and headers of source records, those that are still there."""
        wanted = set(offsets)
        found = {}
        for start, end in _ranges(offsets):
            records = await self.tail.between(self.topology.events, partition, start, end)
            found.update({r.offset: (r.key, r.value, r.headers) for r in records
                          if r.offset in wanted})  # fmt: skip
        return found


def _ranges(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """[start, end) ranges that hold all *offsets* (ascending), few and without long gaps.

    >>> _ranges([3, 4, 9, 900])
    [(3, 10), (900, 901)]
    """
    ranges: list[tuple[int, int]] = []
    for offset in offsets:
        if ranges and offset - ranges[-1][1] < _REFETCH_GAP:
            ranges[-1] = (ranges[-1][0], offset + 1)
        else:
            ranges.append((offset, offset + 1))
    return ranges


def _cause(stages: Sequence[str], present: np.ndarray, row: int) -> Failure:
    missing = [name for name, there in zip(stages, present, strict=True) if not there]
    return Failure(row, missing[0], MISSING, f"no output of {', '.join(missing)}")
