"""The offset-aligned join: rows of several stages, side by side, in source order.

Every stage batch names the source offsets of its rows and covers every row that its stage
read. So per source partition the stages' outputs merge by offset, and what is complete
leaves as a prefix. State is only what is in flight.

The join has no clock: a row leaves when every stage has answered it. Only the weighing agent ends
rows that have an answer less, by `close`: where the stage is down (or, if the pipeline file says
so, late), and what is there is a quorum. Three rules keep that safe:

- a range of offsets is closed only as far as some input has told of every row in it;
- a stage that is alive is waited for, however far it is behind, unless rows that it has not
  answered have ended already: then it counts again from the row where it has caught up;
- a silence counts only while this worker listens (`agents.workers.attended_clock`), and has read
all that
  the stage has written.

What is in flight is bounded in rows and in bytes, for each input by itself. At the bound an input
is paused, or, where some of its lanes are needed, the other lanes' batches are read again later.
What is furthest behind is always let in, whatever is held: what is held waits for nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.join.lane import Lane, LanePrefix, PendingBatch, Position, held_bytes
from agents.join.stage_rows import NO_ROWS, JoinedRows, Reason, aligned, union
from topics.records import Bools, Heartbeat, ModelRef, Rows, StageBatch

LaneKey = tuple[str, int]
_CATCH_UP_S = 1.0
"""A lane that lacks no more than what has ended within this time is waited for."""
_LEFT = 50
_ROOM_AGAIN = 0.5
"""An input that was full is read on when it holds no more than this share."""
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


@dataclass(frozen=True, slots=True)
class Moment:
    """What a join has to know of the time."""

    now: float
    """Monotonic seconds."""
    attended: float
    """Seconds of an `AttendedClock`."""
    unread: Callable[[str], bool]
    """Whether an input's partition holds records that were not read yet."""


class _Exemption(NamedTuple):
    """Why a lane is not waited for."""

    reason: Reason
    up_to: int
    """Rows up to this source offset need not wait for it."""


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
        self._unfinished: dict[Hashable, deque[PendingBatch]] = {}
        self._refused: dict[Hashable, PendingBatch] = {}
        """Input → the first of its batches that was not held."""
        self._refused_lanes: dict[Hashable, set[LaneKey]] = {}
        """Input → the lanes of which a batch was not held: none of their later ones is either."""
        self._full = set[str]()
        """Inputs that were full when that was last asked."""
        self._left: deque[tuple[int, float]] = deque()
        """Rows that have ended without all answers: up to which offset, and when (monotonic)."""
        self._now = at.now
        self._done = done
        self._stall_timeout_s = stall_timeout_s
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._covered_to: int | None = done if done >= 0 else None
        self._blocked: object = None
        self._heard_at: dict[LaneKey, dict[LaneKey, int]] = {}
        """How far every lane had come when one of them last gave a heartbeat."""
        self.late_rows = 0
        """Rows that came after they had ended without their stage, since this was last set."""

    # -- what comes

    def has_lane(self, stage: str, lane: int | None) -> bool:
        """It is a stage and a lane that is joined here."""
        return self._lane_of(stage, lane) is not None

    def _lane_of(self, stage: str, number: int | None) -> Lane | None:
        if self._source is not None and stage == self._source.stage:
            return self._source
        lane = self._lanes.get((stage, number or 0))
        return lane if lane is not None and lane.laned == (number is not None) else None

    def push(
        self, batch: StageBatch, position: Position, at: Moment, record_bytes: int = 0
    ) -> None:
        """Take in a stage's batch, of a record of so many bytes; rows seen before are dropped."""
        lane = self._lane_of(batch.component, batch.lane)
        if lane is None:
            raise KeyError(batch.component)
        pending = PendingBatch(batch, position, at.now, nbytes=held_bytes(record_bytes, batch))
        if self._refuses(lane, position[0]):
            lane.heard_at = at.attended
            if position[0] not in self._refused:
                self._refused[position[0]] = pending
                self._unfinished.setdefault(position[0], deque()).append(pending)
            return
        late = lane.push(pending, self._done, at.now, at.attended)
        self.late_rows += 0 if lane is self._source else late
        self._unfinished.setdefault(position[0], deque()).append(pending)

    def hear(self, heartbeat: Heartbeat, position: Position, at: Moment) -> None:
        """Take note of a stage's heartbeat."""
        lane = self._lane_of(heartbeat.component, heartbeat.lane)
        if lane is not None:
            key = (lane.stage, lane.number)
            if key in self._refused_lanes.get(position[0], ()):
                # What it claims to have answered was not taken in: it comes again.
                heartbeat = heartbeat.model_copy(update={"frontier": -1})
            known = max(each.frontier for each in self._every)
            lane.hear(heartbeat, at.now, at.attended, known)
            self._heard_at[key] = self._frontiers()
        self.pass_over(position)

    def not_listening(self, stage: str, attended: float) -> None:
        """An input is paused, or cannot be read: that nothing is heard of it means nothing."""
        for lane in self._stages.get(stage, ()):
            lane.heard_at = attended

    def _frontiers(self) -> dict[LaneKey, int]:
        return {key: lane.frontier for key, lane in self._lanes.items()}

    def pass_over(self, position: Position) -> None:
        """A record without rows for us is dealt with as soon as those before it are."""
        nothing = PendingBatch(_NOTHING, position, 0.0, finished=True)
        self._unfinished.setdefault(position[0], deque()).append(nothing)

    # -- the bound

    @property
    def pending_rows(self) -> int:
        """Rows of the input that is furthest ahead."""
        rows = [sum(lane.rows for lane in lanes) for lanes in self._stages.values()]
        return max(*rows, self._source.rows if self._source else 0)

    def bytes_of(self, stage: str) -> int:
        """About how much memory is held of a stage."""
        return sum(lane.nbytes for lane in self._stages[stage])

    def frontier_of(self, stage: str, lane: int | None = None) -> int:
        """The highest source offset that a lane has answered, or all lanes of its stage."""
        return self._slowest(stage).frontier if lane is None else self._lanes[stage, lane].frontier

    def full_inputs(self) -> set[str]:
        """Inputs that are so far ahead that they should pause: none of them is waited for."""
        waited_for = self._complete_to()
        full = {
            stage
            for stage, lanes in self._stages.items()
            if self._is_full(stage, lanes) and self._slowest(stage).frontier > waited_for
        }
        if self._source is not None and self._is_full(self._source.stage, [self._source]):
            full.add(self._source.stage)
        self._full = full
        return set(full)

    def _is_full(self, stage: str, lanes: Sequence[Lane]) -> bool:
        """Once it is, it is so until half has left: what was fetched meanwhile is fetched again."""
        return self._share_held(lanes) >= (_ROOM_AGAIN if stage in self._full else 1)

    def _share_held(self, lanes: Sequence[Lane]) -> float:
        """How much of what an input may hold is held: from 1 on it is full."""
        rows = nbytes = 0
        for lane in lanes:
            rows, nbytes = rows + lane.rows, nbytes + lane.nbytes
        return max(rows / self._max_rows, nbytes / self._max_bytes)

    def _slowest(self, stage: str) -> Lane:
        lanes = [self._source] if self._source and stage == self._source.stage else None
        return min(lanes or self._stages[stage], key=lambda lane: lane.frontier)

    def _refuses(self, lane: Lane, source: Hashable) -> bool:
        """Whether a batch is not to be held, but to be read again later.

        The lanes of a stage come on one partition, so those that are ahead cannot be paused while
        one is waited for.
        """
        if not lane.several:
            return False
        key, lanes = (lane.stage, lane.number), self._refused_lanes.setdefault(source, set())
        if key in lanes:
            return True
        if lane is self._slowest(lane.stage):
            return False
        if source in self._refused or self._share_held(self._stages[lane.stage]) >= 1:
            lanes.add(key)
            return True
        return False

    def read_again(self) -> dict[Hashable, int]:
        """Where reading has to go back to, now that there is room for what was not held."""
        found: dict[Hashable, int] = {}
        for source, refused in list(self._refused.items()):
            stage = refused.batch.component
            slowest = self._slowest(stage)
            is_waited_for = (stage, slowest.number) in self._refused_lanes[source]
            if self._share_held(self._stages[stage]) < _ROOM_AGAIN or is_waited_for:
                found[source] = refused.position[1] - 1
                del self._refused[source], self._refused_lanes[source]
                waiting = self._unfinished[source]
                while waiting.pop() is not refused:
                    pass  # they come again, and are committed then
        return found

    # -- what leaves

    @property
    def holds_rows(self) -> bool:
        """Something is in flight here."""
        return any(lane.batches for lane in self._every)

    def pop(self) -> JoinedRows | None:
        """The longest prefix that every stage has answered, as far as it can leave in one go.

        None when there is none.
        """
        limit = self._complete_to()
        if limit <= self._done and not self._has_finished_heads():
            return None
        return self._leave(self._cut(limit), {})

    def _cut(self, limit: int) -> int:
        """The last offset up to *limit* before which rows can leave in one go, see `Lane.cut`."""
        for lane in self._every:
            lanes = len(self._stages[lane.stage]) if lane.several else 1
            limit = lane.cut(limit, int(self._max_bytes * _AT_ONCE / lanes), self._done)
        return limit

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
        self._now = at.now
        done, covered = self._done, min(self._covers_to(), self._held_to())
        if covered <= done:
            return None
        reasons = self._uncounted(covered, at)
        waited_for = [lane.frontier for key, lane in self._lanes.items() if key not in reasons]
        claims = [reason.up_to for reason in reasons.values()]
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
        return self._leave(limit, self._stage_reasons(reasons), overdue)

    def _held_to(self) -> int:
        """The last row that is known here: what an input claims beyond it is of no use yet."""
        last = (lane.batches[-1].batch.rows.offsets for lane in self._every if lane.batches)
        rows = max((int(offsets[-1]) for offsets in last if len(offsets)), default=self._done)
        if rows > self._done:
            return rows
        every = (pending.batch for lane in self._every for pending in lane.batches)
        return max((int(it.rows.offsets[-1]) for it in every if len(it)), default=self._done)

    def _covers_to(self) -> int:
        """Up to where some input has told of every row."""
        frontiers = [min(lane.frontier for lane in lanes) for lanes in self._stages.values()]
        return max([*frontiers, *([self._source.frontier] if self._source else [])])

    def _uncounted(self, covered: int, at: Moment) -> dict[LaneKey, _Exemption]:
        """Lanes that have answers to give, but are not waited for."""
        reasons: dict[LaneKey, _Exemption] = {}
        for key, lane in self._lanes.items():
            if lane.frontier >= covered:
                continue
            if at.unread(lane.stage):
                continue  # its answers may be among what was not read yet
            if lane.down(at.attended, self._stall_timeout_s):
                reasons[key] = _Exemption("down", covered)
            elif self._is_behind(lane):
                reasons[key] = _Exemption(lane.left_as or "down", covered)
            elif lane.claim():
                reasons[key] = _Exemption("down", self._claims_to(key))
        return reasons

    def _claims_to(self, key: LaneKey) -> int:
        """The last row about which there is no news since a lane said that its input is down.

        What has come since may be of that input, which lives again: then the lane will answer too.
        """
        then = self._heard_at[key]
        return min(
            (then[other] for other, lane in self._lanes.items()
             if other != key and lane.frontier > then[other]),
            default=self._covers_to(),
        )  # fmt: skip

    def _is_behind(self, lane: Lane) -> bool:
        """Rows have ended without its answer, and it has not caught up with them.

        What has ended within the last moment it may be about to answer: were that not waited for, a
        stream that never pauses would never wait for it again.
        """
        if lane.frontier >= self._done or not (lane.heard or lane.left_as is not None):
            return False
        since = next((at for done, at in self._left if done > lane.frontier), None)
        return since is None or self._now - since > _CATCH_UP_S

    def _stage_reasons(self, reasons: Mapping[LaneKey, _Exemption]) -> dict[str, Reason]:
        """Why rows are without an answer, by stage: those that are not down are late."""
        found: dict[str, Reason] = {}
        for stage, lanes in self._stages.items():
            keys = [(stage, lane.number) for lane in lanes]
            known = {reasons[key].reason if key in reasons else "late" for key in keys}
            found[stage] = "down" if "down" in known else "late"
        return found

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

    def _leave(
        self, limit: int, reasons: Mapping[str, Reason], overdue_to: int = -1
    ) -> JoinedRows | None:
        """All rows up to source offset *limit*."""
        self._blocked = None
        known = max(self._done, min(limit, self._held_to()))
        parts = {key: lane.take(limit) for key, lane in self._lanes.items()}
        source = self._source.take(limit) if self._source else None
        positions = self._finished_positions()
        everything = [*parts.values(), *([source] if source else [])]
        unaccounted = self._count_unaccounted(everything)
        self._done = known
        self._remember_what_left(reasons)
        for lane in self._lanes.values():
            if lane.frontier >= self._done:
                lane.left_as = None
            elif lane.stage in reasons:
                lane.left_as = reasons[lane.stage]
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

    def _remember_what_left(self, reasons: Mapping[str, Reason]) -> None:
        if reasons:
            if self._left and self._now - self._left[-1][1] < _CATCH_UP_S / 10:
                self._left[-1] = (self._done, self._left[-1][1])
            else:
                self._left.append((self._done, self._now))
        caught_up_to = min(lane.frontier for lane in self._lanes.values())
        while self._left and self._left[0][0] <= caught_up_to:
            self._left.popleft()
        while len(self._left) > _LEFT:  # the oldest one stands for those behind it
            del self._left[1]

    def _rows_of(self, parts: Sequence[LanePrefix], source: LanePrefix | None) -> Rows:
        known = [[batch.rows for batch in part.batches]
                 for part in [*parts, *([source] if source else [])] if part.batches]  # fmt: skip
        return union(known) if known else NO_ROWS

    def _has_finished_heads(self) -> bool:
        """Some record has no rows (any more) that are to be joined."""
        answered = self._complete_to()
        for lane in self._every:
            head = lane.batches[0].batch if lane.batches else None
            if head is not None and not len(head):
                if lane.several and head.covers_to > answered:
                    continue
                return True
        return any(waiting and waiting[0].finished for waiting in self._unfinished.values())

    def _complete_to(self) -> int:
        return min(lane.frontier for lane in self._lanes.values())

    def _finished_positions(self) -> dict[Hashable, int]:
        """What may be committed: an input's batches finish in any order, lane by lane."""
        positions: dict[Hashable, int] = {}
        for source, waiting in self._unfinished.items():
            while waiting and waiting[0].finished:
                positions[source] = waiting.popleft().position[1]
        return positions

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

    # -- what is waited for

    def waits(self, at: Moment) -> dict[str, LaneWait]:
        """Lanes that have not answered a row which is known here, and lanes that are down."""
        known = [
            (int(pending.batch.rows.offsets[-1]), pending.arrived_at)
            for lane in self._every
            for pending in lane.batches
            if len(pending.batch)
        ]
        furthest = max((offset for offset, _ in known), default=self._done)
        found: dict[str, LaneWait] = {}
        for lane in self._lanes.values():
            down = ""
            if not at.unread(lane.stage):
                down = lane.down(at.attended, self._stall_timeout_s) or lane.claim()
            if not down and self._is_behind(lane):
                down = f"it was down, and has come to offset {lane.frontier} of {self._done}"
            if lane.frontier < furthest or down:
                arrived = min((t for offset, t in known if offset > lane.frontier), default=at.now)
                since = max(lane.progressed_at, arrived)
                found[lane.name] = LaneWait(since, down)
        return found

    def oldest_ms(self) -> int | None:
        """When the first row that is held was published, in milliseconds since 1970."""
        heads = [lane.batches[0].batch.rows for lane in self._every if lane.batches]
        return min((int(rows.published_ms[0]) for rows in heads if len(rows)), default=None)
