"""Waves: a source reads on when what it has read last is decided.

All components of a process share one thread. Were every one of them always busy with some wave,
each wave would take as long as all of them together; one at a time takes a fraction of that, and
what arrives meanwhile is the next, larger and so cheaper one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

PATIENCE_S = 0.05
"""A wave may be held up, by other processes or by rows that wait for a stage: not for longer."""


class FlowControl:
    """Between the sources of a process and its weighting agent, by source partition."""

    def __init__(self) -> None:
        self.weighed: Callable[[], Collection[int]] | None = None
        """Said by the weighting agent of the process: its partitions. Of others no end is heard."""
        self._sent: dict[int, int] = {}
        self._decided: dict[int, int] = {}
        self._landed = asyncio.Event()
        self._landed.set()

    def sent(self, partition: int, offset: int) -> None:
        """A source has written what it makes of the events up to *offset*."""
        self._sent[partition] = max(offset, self._sent.get(partition, -1))
        self._look()

    def decided(self, partition: int, offset: int) -> None:
        """The events up to *offset* have ended."""
        self._decided[partition] = max(offset, self._decided.get(partition, -1))
        self._look()

    def _look(self) -> None:
        # What the weighting agent of another process has is not waited for: nobody would tell.
        here = self._sent.keys() if self.weighed is None else self.weighed()
        under_way = {p for p, offset in self._sent.items()
                     if p in here and offset > self._decided.get(p, -1)}  # fmt: skip
        self._sent = {partition: self._sent[partition] for partition in under_way}
        if under_way:
            self._landed.clear()
        else:
            self._landed.set()

    async def turn(self) -> None:
        """Return when the last wave has landed, or has taken too long to be waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._landed.wait()
                return
        self._sent.clear()
        self._landed.set()
