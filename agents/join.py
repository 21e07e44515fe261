"""The offset-aligned join: rows of several stages, side by side, in source order.

Every stage batch names the source offsets of its rows and covers every row that its stage
read. So per source partition the stages' outputs merge by offset, and what is complete
leaves as a prefix. State is only what is in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agents.alignment import NO_ROWS, StageRows, aligned, union
from topics.stage_batch import Failure, Rows, StageBatch

Position = tuple[Hashable, int]
"""Where a batch came from: a topic-partition, and the offset to commit after it."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A prefix of source rows with what every stage says about them."""

    rows: Rows
    stages: Mapping[str, StageRows]
    positions: Mapping[Hashable, int]
    """What may be committed once the rows' output is written."""
    covers_from: int
    """The first source offset that these rows answer for."""
    unaccounted: int
    """Source offsets in front of or between the rows that no stage answered for."""

    def failures(self) -> dict[int, Failure]:
        """Row → why it is absent somewhere: the first stage's reason, in stage order."""
        found: dict[int, Failure] = {}
        for stage in self.stages.values():
            for failure in stage.failures:
                found.setdefault(failure.row, failure)
        return found


@dataclass(slots=True)
class _Pending:
    batch: StageBatch
    position: Position
    arrived_at: float


@dataclass(slots=True)
class _Queue:
    """One stage's batches that are not emitted yet."""

    progressed_at: float
    frontier: int
    """The highest source offset that the stage has answered for."""
    batches: deque[_Pending] = field(default_factory=deque)
    rows: int = 0


class PartitionJoin:
    """Aligns the outputs of `stages` for one source partition.

    `done` is the highest source offset that is already written: rows up to it are dropped.
    Times are monotonic seconds, given by the caller.
    """

    def __init__(
        self,
        stages: Sequence[str],
        *,
        done: int,
        now: float,
        deadline_s: float,
        stall_timeout_s: float,
        max_rows: int,
    ) -> None:
        self._queues = {stage: _Queue(progressed_at=now, frontier=done) for stage in stages}
        self._done = done
        self._deadline_s = deadline_s
        self._stall_timeout_s = stall_timeout_s
        self._max_rows = max_rows
        self._covered_to: int | None = done + 1 if done >= 0 else None
        self.late_rows = 0
        """Rows that came after they had been emitted without their stage."""

    @property
    def pending_rows(self) -> int:
        """Rows of the stage that is furthest ahead."""
        return max(queue.rows for queue in self._queues.values())

    def is_full(self, stage: str) -> bool:
        """The stage is so far ahead that its input should pause."""
        return self._queues[stage].rows >= self._max_rows

    def push(self, batch: StageBatch, position: Position, now: float) -> None:
        """Take in a stage's batch; rows that were seen before are dropped."""
        queue = self._queues[batch.component]
        queue.progressed_at = now
        offsets = batch.rows.offsets
        seen = max(queue.frontier, self._done)
        first_new = int(np.searchsorted(offsets, seen, side="right"))
        late = int(np.searchsorted(offsets, self._done, side="right"))
        self.late_rows += max(0, late - int(np.searchsorted(offsets, queue.frontier, "right")))
        if first_new:
            batch = batch[first_new:]
        queue.batches.append(_Pending(batch, position, now))
        queue.rows += len(batch)
        if len(offsets):
            queue.frontier = max(queue.frontier, int(offsets[-1]))

    def pop(self, now: float) -> Joined | None:
        """The longest prefix that need not wait any more; None when there is none."""
        limit = max(self._complete_to(), self._overdue_to(now))
        taken = {stage: self._take(queue, limit) for stage, queue in self._queues.items()}
        positions = {
            pending.position[0]: pending.position[1]
            for pendings, _ in taken.values()
            for pending in pendings
        }
        parts = {stage: batches for stage, (_, batches) in taken.items()}
        if not any(parts.values()):
            empty = Joined(NO_ROWS, {}, positions, 0, 0)
            return empty if positions else None
        self._done = max(self._done, limit)
        return self._joined(parts, positions)

    def _complete_to(self) -> int:
        return min(queue.frontier for queue in self._queues.values())

    def _overdue_to(self, now: float) -> int:
        """The last row that has waited out its deadline, and all before it too."""
        overdue = self._done
        for queue in self._queues.values():
            for pending in queue.batches:
                if pending.arrived_at + self._deadline_s > now:
                    break
                if len(pending.batch):
                    overdue = max(overdue, int(pending.batch.rows.offsets[-1]))
        if overdue <= self._complete_to():
            return overdue
        return self._before_patient_backlog(overdue, now)

    def _before_patient_backlog(self, overdue: int, now: float) -> int:
        """Backlog waits for stages that still make progress: stop before the first such row."""
        lead = max(self._queues.values(), key=lambda queue: queue.frontier)
        waited_for = [
            queue.frontier
            for queue in self._queues.values()
            if now - self._lagging_since(queue, lead, now) <= self._stall_timeout_s
        ]
        if not waited_for:
            return overdue
        reached = min(waited_for)
        for pending in lead.batches:
            rows = pending.batch.rows
            held = rows.backlog & (rows.offsets > reached) & (rows.offsets <= overdue)
            if held.any():
                return int(rows.offsets[int(np.argmax(held))]) - 1
        return overdue

    @staticmethod
    def _lagging_since(queue: _Queue, lead: _Queue, now: float) -> float:
        """When the stage last made progress while there was something to do."""
        for pending in lead.batches:
            if len(pending.batch) and int(pending.batch.rows.offsets[-1]) > queue.frontier:
                return max(queue.progressed_at, pending.arrived_at)
        return now

    def _take(self, queue: _Queue, limit: int) -> tuple[list[_Pending], list[StageBatch]]:
        """The batches that end at or before *limit*, and all rows up to it."""
        finished: list[_Pending] = []
        parts: list[StageBatch] = []
        while queue.batches:
            head = queue.batches[0]
            n = int(np.searchsorted(head.batch.rows.offsets, limit, side="right"))
            if n:
                parts.append(head.batch[:n])
                queue.rows -= n
            if n < len(head.batch):
                head.batch = head.batch[n:]
                break
            finished.append(queue.batches.popleft())
        return finished, parts

    def _joined(
        self, parts: Mapping[str, list[StageBatch]], positions: Mapping[Hashable, int]
    ) -> Joined:
        rows = union([Rows.concat([part.rows for part in p]) for p in parts.values() if p])
        longest = max(parts.values(), key=lambda p: sum(map(len, p)))
        unaccounted = self._count_unaccounted(longest)
        stages = {stage: aligned(stage, p, rows.offsets) for stage, p in parts.items()}
        return Joined(rows, stages, positions, longest[0].covers_from, unaccounted)

    def _count_unaccounted(self, parts: Sequence[StageBatch]) -> int:
        """Offsets that nobody answers for: a batch says from where on it covers its source."""
        lost = 0
        for part in parts:
            if self._covered_to is not None:
                lost += max(0, part.covers_from - self._covered_to)
            self._covered_to = max(self._covered_to or 0, int(part.rows.offsets[-1]) + 1)
        return lost
