"""When a join reads: once all of its inputs have answered more, where this process writes them.

A row leaves a join when its last input has answered it. The answers of the others are written
earlier, one after the other, and a fetch costs about as much as all that is done to a few rows: so
a join whose inputs are all written here leaves the first ones on the broker until the last one is
there too, and reads them all at once. It waits for that, not for a time: nothing is later for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress


class WrittenAnswers:
    """How far each component of this process has answered, by source partition and lane."""

    def __init__(self) -> None:
        self._frontiers: dict[tuple[str, int], dict[int | None, int]] = {}
        self._written = asyncio.Event()
        """Set, and replaced, when anything is written."""

    def reach(self, component: str, partition: int, lane: int | None, frontier: int) -> None:
        """Answers up to source offset *frontier* are on the broker."""
        lanes = self._frontiers.setdefault((component, partition), {})
        lanes[lane] = max(frontier, lanes.get(lane, -1))
        written, self._written = self._written, asyncio.Event()
        written.set()

    def forget(self, component: str) -> None:
        """Others may write what the component has written here."""
        for key in [key for key in self._frontiers if key[0] == component]:
            del self._frontiers[key]

    def frontier(self, component: str, partition: int, lanes: Sequence[int | None]) -> int | None:
        """The source offset that all *lanes* have answered; None where one is not written here."""
        reached = self._frontiers.get((component, partition), {})
        frontiers = [reached[lane] for lane in lanes if lane in reached]
        return min(frontiers) if len(frontiers) == len(lanes) else None

    async def until(self, is_enough: Callable[[], bool], patience_s: float) -> None:
        """Return when what is written *is_enough*, or after *patience_s*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not is_enough():
                    await self._written.wait()
