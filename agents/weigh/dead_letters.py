"""Writing the dead letters of the weighting agent, each with its original record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from agents.redrive import DeadLetterWriter
from agents.workers import TailReader, Wiring, ranges
from topics.kafka import Record
from topics.records import Failure, Original, Rows
from topics.records.dead_letter import dead_letter

_AT_ONCE_BYTES = 4_000_000
"""Originals are held in memory up to so many bytes, then their letters are written."""


class DeadLetters:
    """Ends rows in dead letters."""

    def __init__(self, wiring: Wiring, tail: TailReader) -> None:
        self._wiring = wiring
        self._tail = tail
        self._letters = DeadLetterWriter(wiring.app, wiring.topology.dead_letters)
        self._writing = asyncio.Lock()
        """Originals of one partition at a time: they may be large, and so are their letters."""

    async def write(self, partition: int, rows: Rows, causes: Sequence[Failure]) -> None:
        """Write the dead letters of *causes*, which name *rows* in ascending order.

        The original records go with them. Returns when the broker has them.
        """
        if causes:
            async with self._writing:
                await self._write(partition, rows, causes)
            self._wiring.metrics.observe_dead(causes)

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
