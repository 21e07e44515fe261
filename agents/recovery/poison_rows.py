"""Rows at which workers end: found by what each says before it runs on rows, then passed over.

A component's code may take its whole process along: a crash in native code, a call that never
returns, memory that runs out. Whoever comes next gets the same rows, and ends at them too. So a
worker says on its topic which rows it is about to run on, before the first of a partition. One
that finds that others have said so at the same place, and were not heard of again, takes one row
at a time. A row that three workers have ended at alone is absent, with WorkerEnded as its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agents.workers import WORKER_RUN, TailReader
from topics.errors import WireError
from topics.records import Heartbeat, Ints, heartbeat_of

ENDINGS_AT_ROWS = 2
"""So many workers have to have ended at a batch before its rows are taken one by one."""
ENDINGS_AT_ROW = 3
"""So many have to have ended at a single row before it is passed over: twice may be chance."""

_LOOKED_AT = 64


class RowRange(NamedTuple):
    """Rows [start, stop) that are to be run on together."""

    start: int
    stop: int
    passed_over: str
    """Why the rows are absent without being run on; empty when they are to be run on."""


class PoisonRows:
    """Finds poison rows among the first rows of a partition after it was opened."""

    def __init__(self, heartbeats: Iterable[Heartbeat] = ()) -> None:
        """*heartbeats* are those of earlier workers that were about to run on the same rows."""
        self._tries: dict[str, list[tuple[int, int]]] = {}
        for heartbeat in heartbeats:
            if heartbeat.tried is not None and heartbeat.worker != WORKER_RUN:
                self._tries.setdefault(heartbeat.worker, []).append(heartbeat.tried)
        ranges = [each for tries in self._tries.values() for each in tries]
        careful = len(self._tries) >= ENDINGS_AT_ROWS or any(
            first == last for first, last in ranges
        )
        self._careful_to = max((last for _, last in ranges), default=-1) if careful else -1

    @classmethod
    async def of(
        cls, tail: TailReader, topic: str, partition: int, component: str, frontier: int
    ) -> PoisonRows:
        """Those that follow source offset *frontier*, by what stands on the topic."""
        first, end = await tail.bounds(topic, partition)
        start = max(first, end - _LOOKED_AT)
        heartbeats = []
        for record in await tail.between(topic, partition, start, end):
            try:
                heartbeat = heartbeat_of(record.value, dict(record.headers))
            except WireError:
                continue  # joins say so
            if heartbeat is None or heartbeat.component != component:
                continue
            if heartbeat.partition == partition and heartbeat.frontier == frontier:
                heartbeats.append(heartbeat)
        return cls(heartbeats)

    def is_over(self, offset: int) -> bool:
        """Rows behind source offset *offset* are run on like any others."""
        return offset >= self._careful_to

    def row_ranges(self, offsets: Ints) -> Iterator[RowRange]:
        """How rows with these source offsets (N,) are to be run on."""
        careful = int(offsets.searchsorted(self._careful_to, "right"))
        for row in range(careful):
            yield RowRange(row, row + 1, self._why_absent(int(offsets[row])))
        if careful < len(offsets):
            yield RowRange(careful, len(offsets), "")

    def _why_absent(self, offset: int) -> str:
        ended = sum((offset, offset) in tries for tries in self._tries.values())
        if ended < ENDINGS_AT_ROW:
            return ""
        return f"{ended} workers ended while they ran on this row alone"
