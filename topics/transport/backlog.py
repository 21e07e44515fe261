"""Since when the oldest record of a partition waits, of what a consumer knows anyway.

No record is looked at for it, and nothing is asked of the broker. Of each fetch the first record's
offset and timestamp are noted; now and then, how far the partition goes. So a record that was
fetched and is not dealt with is as old as the first of its fetch, and one that was not fetched yet
waits at least since its partition was first seen to go beyond it.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord
from faust.types import TP

_Mark = tuple[int, int]
"""An offset, and a time in milliseconds since 1970."""


class PartitionBacklog(NamedTuple):
    """What there is left to do of one partition."""

    topic: str
    partition: int
    records: int
    oldest_ms: int | None
    """When the oldest of them was published (milliseconds since 1970); None where none is left."""


class Backlog:
    """Marks of the partitions that a consumer owns."""

    def __init__(self) -> None:
        self._fetched: dict[TP, list[_Mark]] = {}
        """Each fetch: its first record's offset and timestamp, ascending by offset."""
        self._ends: dict[TP, list[_Mark]] = {}
        """Where the partition ended, and when that was seen first, ascending."""

    def fetched(self, records: Mapping[TP, Sequence[ConsumerRecord]]) -> None:
        """A fetch was given to the worker."""
        for tp, fetched in records.items():
            first = fetched[0]
            marks = self._fetched.setdefault(tp, [])
            if marks and marks[-1][0] >= first.offset:  # the partition is read again
                marks.clear()
            has_time = first.timestamp >= 0
            marks.append((first.offset, first.timestamp if has_time else _now_ms()))

    def forget(self) -> None:
        """The partitions may have new owners."""
        self._fetched.clear()
        self._ends.clear()

    def of(
        self, tp: TP, *, done: int, delivered: int, end: int, now_ms: int | None = None
    ) -> PartitionBacklog:
        """What is left of a partition now, of records from offset *done* to before *end*.

        Those before *delivered* were given to the worker. Marks of what is done are dropped.
        """
        now_ms = _now_ms() if now_ms is None else now_ms
        marks, ends = self._fetched.get(tp, []), self._ends.setdefault(tp, [])
        del marks[: max(0, bisect_right(marks, done, key=_offset) - 1)]
        del ends[: bisect_right(ends, done, key=_offset)]
        if end <= done:
            return PartitionBacklog(tp.topic, tp.partition, 0, None)
        if not ends or ends[-1][0] < end:
            ends.append((end, now_ms))
        is_fetched = marks and done < delivered
        _, oldest_ms = marks[0] if is_fetched else ends[0]
        return PartitionBacklog(tp.topic, tp.partition, end - done, min(oldest_ms, now_ms))


def _now_ms() -> int:
    return int(time.time() * 1000)


def _offset(mark: _Mark) -> int:
    return mark[0]
