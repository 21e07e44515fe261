"""Dead letters of the weighting agent: which rows have one already, and writing those of others.

What the weighting agent calls, in this order:

    ended = await burials.open(partition, decided)          # once, when a partition is opened
    dead = burials.are_dead(partition, rows.offsets)        # for each batch of joined rows
    await burials.bury(partition, rows, causes)             # before the batch's decisions
    burials.forget(partition, last_offset)                  # after them

Dead letters of a batch are written before its decisions, both in the order of the source. So what
is dead beyond the last decision was buried before a crash, or nothing has been decided since.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import numpy as np

from agents.redrive import DeadLetterWriter
from agents.workers import TailReader, Wiring, ranges, readable
from topics.kafka import Record
from topics.records import Bools, Failure, Ints, Original, Rows, buried_offset
from topics.records.dead_letter import dead_letter

_AT_ONCE_BYTES = 4_000_000
"""Originals are held in memory up to so many bytes, then their letters are written."""
_NONE = np.zeros(0, np.int64)


class Burials:
    """Knows, by partition, which source offsets beyond the last decision are dead."""

    def __init__(self, wiring: Wiring, tail: TailReader) -> None:
        self._wiring = wiring
        self._tail = tail
        self._letters = DeadLetterWriter(wiring.app, wiring.topology.dead_letters)
        self._dead: dict[int, Ints] = {}
        self._burying = asyncio.Lock()
        """Originals of one partition at a time: they may be large, and so are their letters."""

    async def open(self, partition: int, decided: int) -> int:
        """Read what is dead beyond source offset *decided*; -1 when nothing is decided.

        The result is the offset up to which, from *decided* on, every source offset has ended.
        """
        found: list[Ints] = []
        topic = self._wiring.topology.dead_letters
        async with aclosing(self._tail.backwards(topic, partition)) as spans:
            async for start, end in spans:
                offsets = await self._buried(partition, start, end)
                found.append(offsets[offsets > decided])
                if len(found[-1]) < len(offsets):
                    break
        dead = np.unique(np.concatenate(found)) if found else _NONE
        # Those that follow without a gap need not come again.
        adjoining = int((dead == decided + 1 + np.arange(len(dead))).sum())
        self._dead[partition] = dead[adjoining:]
        return decided + adjoining

    def are_dead(self, partition: int, offsets: Ints) -> Bools:
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

    async def bury(self, partition: int, rows: Rows, causes: Sequence[Failure]) -> None:
        """Write the dead letters of *causes*, which name *rows* in ascending order.

        The original records go with them. Returns when the broker has them.
        """
        if causes:
            async with self._burying:
                await self._write(partition, rows, causes)
            self._wiring.metrics.observe_ends(np.zeros(0), 0, causes)

    async def _write(self, partition: int, rows: Rows, causes: Sequence[Failure]) -> None:
        now_ms = int(time.time() * 1000)
        letters: list[Record] = []
        size = 0
        offsets = rows.offsets[[cause.row for cause in causes]].tolist()
        async with aclosing(self._originals(partition, offsets)) as originals:
            async for place, original in originals:
                cause = causes[place]
                source = (self._wiring.topology.events, partition, offsets[place])
                letter = dead_letter(
                    cause, source, original, now_ms,
                    published_ms=int(rows.published_ms[cause.row]),
                )  # fmt: skip
                letters.append(letter)
                size += letter.size
                if size > _AT_ONCE_BYTES:
                    await self._letters.write(partition, letters)
                    letters, size = [], 0
        await self._letters.write(partition, letters)

    async def _buried(self, partition: int, start: int, end: int) -> Ints:
        """Source offsets that the dead letters at [start, end) are about."""
        topic = self._wiring.topology.dead_letters
        found = array("q")
        async with aclosing(self._tail.between_chunks(topic, partition, start, end)) as chunks:
            async for records in chunks:
                found.extend(readable(records, buried_offset))
        return np.array(found, np.int64)

    async def _originals(
        self, partition: int, offsets: Sequence[int]
    ) -> AsyncGenerator[tuple[int, Original | None]]:
        """The place of each offset (ascending), and its source record if that is still there."""
        place, topic = 0, self._wiring.topology.events
        for start, end in ranges(offsets):
            chunks = self._tail.between_chunks(topic, partition, start, end)
            async with aclosing(chunks):
                async for records in chunks:
                    for record in records:
                        while place < len(offsets) and offsets[place] < record.offset:
                            yield place, None
                            place += 1
                        if place < len(offsets) and offsets[place] == record.offset:
                            yield place, (record.key, record.value, record.headers)
                            place += 1
        for missing in range(place, len(offsets)):
            yield missing, None
