"""The offset-aligned join: rows of several stages, side by side, in source order.

Every stage batch names the source offsets of its rows and covers every row that its stage
read. So per source partition the stages' outputs merge by offset, and what is complete
leaves as a prefix. State is only what is in flight.

Of each input (of each *lane*, where a stage is repartitioned) the join knows its *frontier*: the
highest source offset that it has answered. Rows up to the lowest frontier are complete; rows up to
*done* have left. What came is held by its lane (`agents.join.lane`) until it leaves.

The join has no clock: a row leaves when every stage has answered it (`pop`). Only the weighing
agent ends rows that have an answer less (`close`): where the stage is down or, if the pipeline file
says so, late, and what is there is a quorum. `agents.join.exemptions` says which stage is down; and
a range of offsets is closed only as far as some input has told of every row in it.

What is in flight is bounded in rows and in bytes, for each input by itself. At the bound an input
is paused, or, where some of its lanes are needed, the other lanes' batches are read again later.
What is furthest behind is always let in, whatever is held: what is held waits for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from agents.join.exemptions import Exemption, Exemptions, Moment
from agents.join.input_bound import CommitOrder, InputBound, slowest
from agents.join.lane import Lane, LaneKey, LanePrefix, PendingBatch, Position, held_bytes
from agents.join.stage_rows import NO_ROWS, JoinedRows, Reason, aligned, union
from topics.records import Bools, Heartbeat, ModelRef, Rows, StageBatch

_AT_ONCE = 0.25
"""Of the bytes that an input may hold, this share leaves in one go: it is copied on its way."""
MAX_BYTES = 32 * 2**20
"""What an input may hold of one partition, unless it is said."""
_NOTHING = StageBatch(
    component="", topic="", partition=0, covers_from=0, rows=NO_ROWS, present=np.zeros(0, np.bool_),
    output=np.zeros((0, 1), np.float32), signal=np.zeros(0, np.float32), model=ModelRef("", "", ""),
)  # fmt: skip
"""Of a record that has no rows for the join."""


class LaneWait(NamedTuple):
    """What rows wait for."""

    since: float
    """Monotonic seconds."""
    down: str
    """Why it is down; empty while it is not."""


class PartitionJoin:
    """Aligns the outputs of `stages` for one source partition.

    `lanes` says of a repartitioned stage in how many parts its rows come. `source`, if given, is
    an input that tells of every row, but is not a stage. `done` is the highest source offset that
    is already written: rows up to it are dropped. `max_rows` and `max_bytes` are what each input
    may hold.
    """

    def __init__(
        self,
        stages: Sequence[str],
        *,
        done: int,
        at: Moment,
        stall_timeout_s: float,
        max_rows: int,
        max_bytes: int = MAX_BYTES,
        lanes: Mapping[str, int] | None = None,
        source: str | None = None,
    ) -> None:
        counts = {stage: (lanes or {}).get(stage, 1) for stage in stages}

        def lane(stage: str, number: int, count: int) -> Lane:
            laned = stage in (lanes or {})
            return Lane(stage, number, laned, count > 1, done, done, at.attended, at.now)

        self._lanes = {
            (stage, number): lane(stage, number, count)
            for stage, count in counts.items()
            for number in range(count)
        }
        self._stages = {
            stage: [self._lanes[stage, number] for number in range(count)]
            for stage, count in counts.items()
        }
        self._source = None if source is None else lane(source, 0, 1)
        self._every = [*self._lanes.values(), *([self._source] if self._source else [])]
        self._bound = InputBound(max_rows, max_bytes)
        self._commits = CommitOrder()
        self._exemptions = Exemptions(self._lanes, stall_timeout_s)
        self._done = done
        """Rows up to this source offset have left."""
        self._at_once_bytes = max_bytes * _AT_ONCE
        self._covered_to: int | None = done if done >= 0 else None
        """Up to where it is known of every offset whether it is a row."""
        self._blocked: object = None
        """What `close` was last asked without finding a row that can leave."""
        self.late_rows = 0
        """Rows that came after they had ended without their stage, since this was last set."""

    # -- what comes

    def has_lane(self, stage: str, lane: int | None) -> bool:
        """It is a stage and a lane that is joined here."""
        return self._lane_of(stage, lane) is not None

    def push(
        self, batch: StageBatch, position: Position, at: Moment, record_bytes: int = 0
    ) -> None:
        """Take in a stage's batch, of a record of so many bytes; rows seen before are dropped."""
        lane = self._lane_of(batch.component, batch.lane)
        if lane is None:
            raise KeyError(batch.component)
        pending = PendingBatch(batch, position, at.now, nbytes=held_bytes(record_bytes, batch))
        stage = self._stages.get(lane.stage, ())
        if lane.several and self._bound.refuses(lane, position[0], stage):
            lane.heard_at = at.attended
            if self._bound.refuse(pending):
                self._commits.add(pending)
            return
        late = lane.push(pending, self._done, at.now, at.attended)
        self.late_rows += 0 if lane is self._source else late
        self._commits.add(pending)

    def hear(self, heartbeat: Heartbeat, position: Position, at: Moment) -> None:
        """Take note of a stage's heartbeat."""
        lane = self._lane_of(heartbeat.component, heartbeat.lane)
        if lane is not None:
            if self._bound.has_refused(lane, position[0]):
                # What it claims to have answered was not taken in: it comes again.
                heartbeat = heartbeat.model_copy(update={"frontier": -1})
            known = max(each.frontier for each in self._every)
            lane.hear(heartbeat, at.now, at.attended, known)
            self._exemptions.note_heartbeat(lane)
        self.pass_over(position)

    def pass_over(self, position: Position) -> None:
        """A record without rows for us is dealt with as soon as those before it are."""
        self._commits.add(PendingBatch(_NOTHING, position, 0.0, finished=True))

    def not_listening(self, stage: str, attended: float) -> None:
        """An input is paused, or cannot be read: that nothing is heard of it means nothing."""
        for lane in self._stages.get(stage, ()):
            lane.heard_at = attended

    def _lane_of(self, stage: str, number: int | None) -> Lane | None:
        if self._source is not None and stage == self._source.stage:
            return self._source
        lane = self._lanes.get((stage, number or 0))
        return lane if lane is not None and lane.laned == (number is not None) else None

    # -- how far its inputs are

    def frontier_of(self, stage: str, lane: int | None = None) -> int:
        """The highest source offset that a lane has answered, or all lanes of its stage."""
        return self._slowest(stage).frontier if lane is None else self._lanes[stage, lane].frontier

    def _complete_to(self) -> int:
        """The last source offset that every lane has answered."""
        return min(lane.frontier for lane in self._lanes.values())

    def _covers_to(self) -> int:
        """Up to where some input has told of every row."""
        frontiers = [min(lane.frontier for lane in lanes) for lanes in self._stages.values()]
        return max([*frontiers, *([self._source.frontier] if self._source else [])])

    def _held_to(self) -> int:
        """The last row that is known here: what an input claims beyond it is of no use yet."""
        last = (lane.batches[-1].batch.rows.offsets for lane in self._every if lane.batches)
        rows = max((int(offsets[-1]) for offsets in last if len(offsets)), default=self._done)
        if rows > self._done:
            return rows
        every = (pending.batch for lane in self._every for pending in lane.batches)
        return max(
            (int(batch.rows.offsets[-1]) for batch in every if len(batch)), default=self._done
        )

    def _slowest(self, stage: str) -> Lane:
        """The lane of an input that has come least far."""
        if self._source is not None and stage == self._source.stage:
            return self._source
        return slowest(self._stages[stage])

    # -- what leaves because every stage has answered it

    def pop(self) -> JoinedRows | None:
        """The longest prefix that every stage has answered, as far as it can leave in one go.

        None when there is none.
        """
        limit = self._complete_to()
        if limit <= self._done and not self._has_finished_records():
            return None
        return self._leave(self._cut(limit))

    def _has_finished_records(self) -> bool:
        """Some record has no rows (any more) that are to be joined."""
        answered = self._complete_to()
        for lane in self._every:
            head = lane.batches[0].batch if lane.batches else None
            if head is not None and not len(head):
                if lane.several and head.covers_to > answered:
                    continue
                return True
        return self._commits.has_finished

    # -- what leaves though a stage has not answered it

    def close(
        self,
        at: Moment,
        quorum: Callable[[Bools], Bools],
        *,
        deadline_s: float | None = None,
        needs_quorum: bool = True,
    ) -> JoinedRows | None:
        """The longest prefix whose rows need no further answer, as far as it can leave in one go.

        *quorum* says of which stages (N, S) are present whether that is enough. With *deadline_s*
        rows are not waited for any longer than that after they came; without *needs_quorum* not
        even for a quorum. None when there is no such row.
        """
        done, covered = self._done, min(self._covers_to(), self._held_to())
        if covered <= done:
            return None
        exemptions = self._exemptions.of(covered, done, at)
        waited_for = [lane.frontier for key, lane in self._lanes.items() if key not in exemptions]
        claims = [exemption.up_to for exemption in exemptions.values()]
        overdue = done if deadline_s is None else self._overdue_to(at.now - deadline_s)
        limit = max(min([covered, *waited_for, *claims]), min(overdue, covered))
        if limit <= done:
            return None
        limit = self._cut(limit)
        frontiers = tuple(lane.frontier for lane in self._every)
        blocked = (limit, overdue, frontiers, quorum, needs_quorum)
        if blocked == self._blocked:
            return None
        limit = self._enough_to(limit, quorum, done if needs_quorum else overdue)
        if limit <= done:
            self._blocked = blocked
            return None
        return self._leave(limit, self._stage_reasons(exemptions), overdue, at.now)

    def _stage_reasons(self, exemptions: Mapping[LaneKey, Exemption]) -> dict[str, Reason]:
        """Why rows are without an answer, by stage: those that are not down are late."""
        reasons: dict[str, Reason] = {}
        for stage, lanes in self._stages.items():
            keys = [(stage, lane.number) for lane in lanes]
            known = {exemptions[key].reason if key in exemptions else "late" for key in keys}
            reasons[stage] = "down" if "down" in known else "late"
        return reasons

    def _overdue_to(self, arrived_by: float) -> int:
        """The last row that came so early, and all before it."""
        overdue = self._done
        for lane in self._every:
            for pending in lane.batches:
                if pending.arrived_at > arrived_by:
                    break
                if len(pending.batch):
                    overdue = max(overdue, int(pending.batch.rows.offsets[-1]))
        return overdue

    def _enough_to(self, limit: int, quorum: Callable[[Bools], Bools], anyway: int) -> int:
        """The last offset up to *limit* before the first row that lacks answers and a quorum.

        Rows up to offset *anyway* need none.
        """
        parts = {stage: [lane.peek(limit) for lane in lanes]
                 for stage, lanes in self._stages.items()}  # fmt: skip
        rows = self._rows_of([part for lanes in parts.values() for part in lanes],
                             self._source.peek(limit) if self._source else None)  # fmt: skip
        if not len(rows):
            return limit
        stages = [
            aligned([batch for part in lanes for batch in part.batches], rows.offsets)
            for lanes in parts.values()
        ]
        answered = np.stack([stage.delivered for stage in stages], axis=1)
        for column, lanes_of in enumerate(self._stages.values()):
            answered[:, column] |= rows.offsets <= min(lane.frontier for lane in lanes_of)
        present = np.stack([stage.present for stage in stages], axis=1)
        enough = answered.all(axis=1) | quorum(present) | (rows.offsets <= anyway)
        if enough.all():
            return limit
        return int(rows.offsets[int(np.argmin(enough))]) - 1

    # -- leaving

    def _cut(self, limit: int) -> int:
        """The last offset up to *limit* before which rows can leave in one go, see `Lane.cut`."""
        for lane in self._every:
            lanes = len(self._stages[lane.stage]) if lane.several else 1
            limit = lane.cut(limit, int(self._at_once_bytes / lanes), self._done)
        return limit

    def _leave(
        self, limit: int, reasons: Mapping[str, Reason] | None = None, overdue_to: int = -1,
        now: float = 0.0,
    ) -> JoinedRows | None:  # fmt: skip
        """All rows up to source offset *limit*.

        *reasons* say why rows that end *now* without a stage's answer do so; None where all have
        every answer.
        """
        reasons = reasons or {}
        self._blocked = None
        known = max(self._done, min(limit, self._held_to()))
        parts = {key: lane.take(limit) for key, lane in self._lanes.items()}
        source = self._source.take(limit) if self._source else None
        positions = self._commits.pop_finished()
        everything = [*parts.values(), *([source] if source else [])]
        unaccounted = self._count_unaccounted(everything)
        self._done = known
        self._exemptions.note_ended(self._done, reasons, now)
        rows = self._rows_of(list(parts.values()), source)
        if not len(rows):
            return JoinedRows(NO_ROWS, {}, positions, 0, unaccounted) if positions else None
        stages = {
            stage: aligned(
                [batch for lane in lanes for batch in parts[stage, lane.number].batches],
                rows.offsets,
                reasons.get(stage, "unknown"),
            )
            for stage, lanes in self._stages.items()
        }
        covers_from = min(part.covered[0][0] for part in everything if part.batches)
        return JoinedRows(rows, stages, positions, covers_from, unaccounted, overdue_to)

    def _rows_of(self, parts: Sequence[LanePrefix], source: LanePrefix | None) -> Rows:
        known = [[batch.rows for batch in part.batches]
                 for part in [*parts, *([source] if source else [])] if part.batches]  # fmt: skip
        return union(known) if known else NO_ROWS

    def _count_unaccounted(self, parts: Collection[LanePrefix]) -> int:
        """Offsets that nobody answers for: a batch says which part of its source it covers."""
        lost = 0
        longest = max(parts, key=lambda part: part.rows)
        for first, last in longest.covered:
            if self._covered_to is not None:
                lost += max(0, first - self._covered_to - 1)
            self._covered_to = max(-1 if self._covered_to is None else self._covered_to, last)
        others = [last for part in parts for _, last in part.covered]
        if others:
            self._covered_to = max(-1 if self._covered_to is None else self._covered_to, *others)
        return lost

    # -- the bound

    @property
    def holds_rows(self) -> bool:
        """Something is in flight here."""
        return any(lane.batches for lane in self._every)

    @property
    def pending_rows(self) -> int:
        """Rows of the input that is furthest ahead."""
        rows = [sum(lane.rows for lane in lanes) for lanes in self._stages.values()]
        return max(*rows, self._source.rows if self._source else 0)

    def bytes_of(self, stage: str) -> int:
        """About how much memory is held of a stage."""
        return sum(lane.nbytes for lane in self._stages[stage])

    def full_inputs(self) -> set[str]:
        """Inputs that are so far ahead that they should pause: none of them is waited for."""
        waited_for = self._complete_to()
        full = {
            stage
            for stage, lanes in self._stages.items()
            if self._bound.is_full(stage, lanes) and slowest(lanes).frontier > waited_for
        }
        if self._source is not None and self._bound.is_full(self._source.stage, [self._source]):
            full.add(self._source.stage)
        self._bound.remember_full(full)
        return set(full)

    def read_again(self) -> dict[Hashable, int]:
        """Where reading has to go back to, now that there is room for what was not held."""
        positions: dict[Hashable, int] = {}
        for refused in self._bound.readmitted(self._stages):
            source, after = refused.position
            positions[source] = after - 1
            self._commits.forget_from(refused)
        return positions

    # -- what people are told

    def waits(self, at: Moment) -> dict[str, LaneWait]:
        """Lanes that have not answered a row which is known here, and lanes that are down."""
        known = [
            (int(pending.batch.rows.offsets[-1]), pending.arrived_at)
            for lane in self._every
            for pending in lane.batches
            if len(pending.batch)
        ]
        furthest = max((offset for offset, _ in known), default=self._done)
        waits: dict[str, LaneWait] = {}
        for lane in self._lanes.values():
            down = self._exemptions.why_down(lane, self._done, at)
            if lane.frontier < furthest or down:
                arrived = min((t for offset, t in known if offset > lane.frontier), default=at.now)
                since = max(lane.progressed_at, arrived)
                waits[lane.name] = LaneWait(since, down)
        return waits

    def oldest_ms(self) -> int | None:
        """When the first row that is held was published, in milliseconds since 1970."""
        heads = [lane.batches[0].batch.rows for lane in self._every if lane.batches]
        return min((int(rows.published_ms[0]) for rows in heads if len(rows)), default=None)
