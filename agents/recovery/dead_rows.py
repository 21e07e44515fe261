"""Which rows the weighting agent has ended already, in a decision or a dead letter.

Dead letters of a batch are written before its decisions, both in the order of the source. So what
is dead beyond the last decision died before a crash, or nothing has been decided since.
"""

from __future__ import annotations

from array import array
from contextlib import aclosing

import numpy as np

from agents.workers import TailReader, readable
from topics.records import Bools, Ints, buried_offset, decided_offset

_NONE = np.zeros(0, np.int64)


async def last_decision(tail: TailReader, decisions: str, partition: int) -> int:
    """The highest source offset that is decided; -1 for none."""
    offsets = await tail.last_read(decisions, partition, decided_offset)
    return max(offsets, default=-1)


class DeadRows:
    """Knows, by partition, which source offsets beyond the last decision have a dead letter."""

    def __init__(self, tail: TailReader, dead_letters: str) -> None:
        self._tail = tail
        self._topic = dead_letters
        self._dead: dict[int, Ints] = {}

    async def open(self, partition: int, decided: int) -> int:
        """Read what is dead beyond source offset *decided*; -1 when nothing is decided.

        The result is the offset up to which, from *decided* on, every source offset has ended.
        """
        spans: list[Ints] = []
        async with aclosing(self._tail.backwards(self._topic, partition)) as ranges:
            async for start, end in ranges:
                offsets = await self._read(partition, start, end)
                spans.append(offsets[offsets > decided])
                if len(spans[-1]) < len(offsets):
                    break
        dead = np.unique(np.concatenate(spans)) if spans else _NONE
        # Those that follow without a gap need not come again.
        adjoining = int((dead == decided + 1 + np.arange(len(dead))).sum())
        self._dead[partition] = dead[adjoining:]
        return decided + adjoining

    def among(self, partition: int, offsets: Ints) -> Bools:
        """Which rows, by ascending source offset (N,), have their dead letter already."""
        dead = self._dead.get(partition, _NONE)
        if not len(dead):
            return np.zeros(len(offsets), np.bool_)
        at = dead.searchsorted(offsets)
        same: Bools = dead.take(at, mode="clip") == offsets
        return same

    def forget(self, partition: int, ended: int) -> None:
        """All rows up to source offset *ended* have their end: none of them comes again."""
        dead = self._dead.get(partition, _NONE)
        if len(dead):
            # A copy: a view would keep the whole array.
            self._dead[partition] = dead[dead.searchsorted(ended, "right") :].copy()

    async def _read(self, partition: int, start: int, end: int) -> Ints:
        """Source offsets that the dead letters at [start, end) are about."""
        offsets = array("q")
        chunks = self._tail.between_chunks(self._topic, partition, start, end)
        async with aclosing(chunks):
            async for records in chunks:
                offsets.extend(readable(records, buried_offset))
        return np.array(offsets, np.int64)
