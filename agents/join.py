"""The offset-aligned join: rows of several stages, side by side, in source order.

Every stage batch names the source offsets of its rows and covers every row that its stage
read. So per source partition the stages' outputs merge by offset, and what is complete
leaves as a prefix. State is only what is in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agents.alignment import NO_ROWS, StageRows, aligned, failures_of, union
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
        """Row → why it is absent somewhere, see `failures_of`."""
        return failures_of(self.stages)


@dataclass(slots=True)
class _Pending:
    batch: StageBatch
    position: Position
    arrived_at: float
    finished: bool = False


@dataclass(slots=True)
class _Queue:
    """One lane's batches that are not emitted yet; most stages have one lane."""

    progressed_at: float
    frontier: int
    """The highest source offset that the lane has answered for."""
    batches: deque[_Pending] = field(default_factory=deque)
    rows: int = 0


@dataclass(slots=True)
class _Taken:
    """What a lane gives to a prefix."""

    parts: list[StageBatch] = field(default_factory=list)
    covered: list[tuple[int, int]] = field(default_factory=list)
    """Source offsets that it answers for, first and last."""

    @property
    def rows(self) -> int:
        return sum(map(len, self.parts))


class PartitionJoin:
    """Aligns the outputs of `stages` for one source partition.

    `lanes` says of a repartitioned stage in how many parts its rows come. `done` is the
    highest source offset that is already written: rows up to it are dropped. Times are
    monotonic seconds, given by the caller.
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
        lanes: Mapping[str, int] | None = None,
    ) -> None:
        self._lanes = {stage: (lanes or {}).get(stage, 1) for stage in stages}
        self._queues = {
            (stage, lane): _Queue(progressed_at=now, frontier=done)
            for stage, count in self._lanes.items()
            for lane in range(count)
        }
        self._unfinished: dict[Hashable, deque[_Pending]] = {}
        self._done = done
        self._deadline_s = deadline_s
        self._stall_timeout_s = stall_timeout_s
        self._max_rows = max_rows
        self._covered_to: int | None = done if done >= 0 else None
        self.late_rows = 0
        """Rows that came after they had been emitted without their stage."""

    @property
    def waits(self) -> bool:
        """Something is in flight here."""
        return any(queue.batches for queue in self._queues.values())

    @property
    def pending_rows(self) -> int:
        """Rows of the stage that is furthest ahead."""
        return max(
            sum(queue.rows for (name, _), queue in self._queues.items() if name == stage)
            for stage in self._lanes
        )

    def full_stages(self) -> set[str]:
        """Stages that are so far ahead that their inputs should pause."""
        return {stage for (stage, _), it in self._queues.items() if it.rows >= self._max_rows}

    def has_lane(self, batch: StageBatch) -> bool:
        """The batch is of a stage and a lane that is joined here."""
        return (batch.component, batch.lane or 0) in self._queues

    def push(self, batch: StageBatch, position: Position, now: float) -> None:
        """Take in a stage's batch; rows that were seen before are dropped."""
        queue = self._queues[batch.component, batch.lane or 0]
        queue.progressed_at = now
        offsets = batch.rows.offsets
        seen = max(queue.frontier, self._done)
        first_new = int(offsets.searchsorted(seen, "right"))
        late = int(offsets.searchsorted(self._done, "right"))
        self.late_rows += max(0, late - int(offsets.searchsorted(queue.frontier, "right")))
        if first_new:
            batch = batch[first_new:]
        pending = _Pending(batch, position, now)
        queue.batches.append(pending)
        self._unfinished.setdefault(position[0], deque()).append(pending)
        queue.rows += len(batch)
        queue.frontier = max(queue.frontier, batch.covers_to)

    def pop(self, now: float) -> Joined | None:
        """The longest prefix that need not wait any more; None when there is none."""
        limit = max(self._complete_to(), self._overdue_to(now))
        if limit <= self._done and not self._has_finished_heads():
            return None
        taken = {lane: self._take(queue, limit) for lane, queue in self._queues.items()}
        positions = self._finished_positions()
        unaccounted = self._count_unaccounted(taken.values())
        if not any(part.parts for part in taken.values()):
            return Joined(NO_ROWS, {}, positions, 0, unaccounted) if positions else None
        self._done = max(self._done, limit)
        return self._joined(taken, positions, unaccounted)

    def _has_finished_heads(self) -> bool:
        """Some batch has no rows (any more) that are to be joined."""
        return any(it.batches and not len(it.batches[0].batch) for it in self._queues.values())

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
        lead = max(self._queues.values(), key=lambda queue: (queue.frontier, queue.rows))
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
        """When the lane last made progress while there was something to do."""
        for pending in lead.batches:
            if len(pending.batch) and int(pending.batch.rows.offsets[-1]) > queue.frontier:
                return max(queue.progressed_at, pending.arrived_at)
        return now

    @staticmethod
    def _take(queue: _Queue, limit: int) -> _Taken:
        """All rows up to *limit*; batches that have no more are finished."""
        taken = _Taken()
        while queue.batches:
            head = queue.batches[0]
            n = int(head.batch.rows.offsets.searchsorted(limit, "right"))
            if n:
                part = head.batch[:n]
                taken.parts.append(part)
                queue.rows -= n
            if n < len(head.batch):
                if n:
                    taken.covered.append((part.covers_from, part.covers_to))
                    head.batch = head.batch[n:]
                break
            taken.covered.append((head.batch.covers_from, head.batch.covers_to))
            head.finished = True
            queue.batches.popleft()
        return taken

    def _finished_positions(self) -> dict[Hashable, int]:
        """What may be committed: an input's batches finish in any order, lane by lane."""
        positions: dict[Hashable, int] = {}
        for source, waiting in self._unfinished.items():
            while waiting and waiting[0].finished:
                positions[source] = waiting.popleft().position[1]
        return positions

    def _joined(
        self, taken: Mapping[tuple[str, int], _Taken], positions: Mapping[Hashable, int], lost: int
    ) -> Joined:
        parts: dict[str, list[StageBatch]] = {stage: [] for stage in self._lanes}
        for (stage, _), part in taken.items():
            parts[stage] += part.parts
        rows = union([[part.rows for part in lane.parts] for lane in taken.values() if lane.parts])
        stages = {stage: aligned(stage, p, rows.offsets) for stage, p in parts.items()}
        covers_from = min(lane.covered[0][0] for lane in taken.values() if lane.parts)
        return Joined(rows, stages, positions, covers_from, lost)

    def _count_unaccounted(self, taken: Collection[_Taken]) -> int:
        """Offsets that nobody answers for: a batch says which part of its source it covers."""
        lost = 0
        longest = max(taken, key=lambda lane: lane.rows)
        for first, last in longest.covered:
            if self._covered_to is not None:
                lost += max(0, first - self._covered_to - 1)
            self._covered_to = max(-1 if self._covered_to is None else self._covered_to, last)
        others = [last for lane in taken for _, last in lane.covered]
        if others:
            self._covered_to = max(-1 if self._covered_to is None else self._covered_to, *others)
        return lost
