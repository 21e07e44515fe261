"""What a join holds of its inputs: to which bound, what is read again, what may be committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence

from agents.join.lane import Lane, LaneKey, PendingBatch

_ROOM_AGAIN = 0.5
"""An input that was full is read on when it holds no more than this share."""


class InputBound:
    """Rows and bytes that each input may hold, and what was not held for want of room.

    An input whose lanes come on one partition cannot be paused while one of them is waited for:
    batches of the others are refused, and their records read again later. *Source* is where
    records come from, a topic-partition.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._full = set[str]()
        """Inputs that were full when that was last asked."""
        self._refused: dict[Hashable, PendingBatch] = {}
        """Source → the first of its batches that was not held."""
        self._refused_lanes: dict[Hashable, set[LaneKey]] = {}
        """Source → the lanes of which a batch was not held: none of their later ones is either."""

    def is_full(self, name: str, lanes: Sequence[Lane]) -> bool:
        """Once it is, it is so until half has left: what was fetched meanwhile is fetched again."""
        return self._share_held(lanes) >= (_ROOM_AGAIN if name in self._full else 1)

    def remember_full(self, names: set[str]) -> None:
        """Those inputs are full now, and no others."""
        self._full = names

    def refuses(self, lane: Lane, source: Hashable, lanes: Sequence[Lane]) -> bool:
        """Whether a batch of one of an input's *lanes* is not to be held."""
        refused = self._refused_lanes.setdefault(source, set())
        if lane.key in refused:
            return True
        if lane is slowest(lanes):
            return False
        if source in self._refused or self._share_held(lanes) >= 1:
            refused.add(lane.key)
            return True
        return False

    def refuse(self, pending: PendingBatch) -> bool:
        """Take note of a batch that is not held; whether it is the first of its source."""
        is_first = pending.position[0] not in self._refused
        if is_first:
            self._refused[pending.position[0]] = pending
        return is_first

    def has_refused(self, lane: Lane, source: Hashable) -> bool:
        """Something that the lane has answered there was not held."""
        return lane.key in self._refused_lanes.get(source, ())

    def readmitted(self, stages: Mapping[str, Sequence[Lane]]) -> Iterator[PendingBatch]:
        """The first batches of sources that there is room for now, or that are waited for."""
        for source, refused in list(self._refused.items()):
            lanes = stages[refused.batch.component]
            is_waited_for = slowest(lanes).key in self._refused_lanes[source]
            if self._share_held(lanes) < _ROOM_AGAIN or is_waited_for:
                del self._refused[source], self._refused_lanes[source]
                yield refused

    def _share_held(self, lanes: Sequence[Lane]) -> float:
        """How much of what an input may hold is held: from 1 on it is full."""
        rows = nbytes = 0
        for lane in lanes:
            rows, nbytes = rows + lane.rows, nbytes + lane.nbytes
        return max(rows / self._max_rows, nbytes / self._max_bytes)


class CommitOrder:
    """The batches of each source in the order of their records: offsets are committed in it."""

    def __init__(self) -> None:
        self._batches: dict[Hashable, deque[PendingBatch]] = {}

    def add(self, pending: PendingBatch) -> None:
        """A record has come."""
        self._batches.setdefault(pending.position[0], deque()).append(pending)

    @property
    def has_finished(self) -> bool:
        """Some offset may be committed."""
        return any(batches and batches[0].finished for batches in self._batches.values())

    def pop_finished(self) -> dict[Hashable, int]:
        """What may be committed: batches finish in any order, lane by lane."""
        positions: dict[Hashable, int] = {}
        for source, batches in self._batches.items():
            while batches and batches[0].finished:
                positions[source] = batches.popleft().position[1]
        return positions

    def forget_from(self, pending: PendingBatch) -> None:
        """A batch and all behind it are read again, and are committed then."""
        batches = self._batches[pending.position[0]]
        while batches.pop() is not pending:
            pass


def slowest(lanes: Sequence[Lane]) -> Lane:
    """The one that has come least far."""
    return min(lanes, key=lambda lane: lane.frontier)
