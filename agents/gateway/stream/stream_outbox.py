"""What one caller of the stream has not been sent yet: bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque

from agents.gateway.stream.stream_events import Block
from agents.gateway.stream.stream_position import Position


class TooFarBehind(Exception):
    """The caller reads too slowly: *events* that waited for it are dropped."""

    def __init__(self, events: int) -> None:
        super().__init__(f"{events} events")
        self.events = events


class Outbox:
    """Blocks for one caller, in order; for one event loop.

    Blocks of the past are `put` by who reads it, when there is nothing left to send. Live ones are
    offered, whether the caller keeps up or not; from `hold` to `release` they wait for the past.
    """

    def __init__(self, most_bytes: int, position: Position | None) -> None:
        self._most_bytes = most_bytes
        self._blocks = deque[Block]()
        self._held: list[Block] | None = None
        self._bytes = 0
        self._shed_events: int | None = None
        self._ready, self._empty, self._interrupted = (asyncio.Event() for _ in range(3))
        self._empty.set()
        self._interrupted.set()
        self.position = position
        """Right behind all that was ever in it, without what is held; None where nothing was."""

    def put(self, block: Block) -> None:
        """Take a block of the past."""
        self.position = block.position
        if block.events:
            self._blocks.append(block)
            self._bytes += len(block.content)
            self._empty.clear()
            self._ready.set()

    async def emptied(self) -> None:
        """Return when nothing waits to be sent."""
        await self._empty.wait()

    def hold(self) -> None:
        """From now on it is live, but what comes waits for `release`."""
        self._held = []
        self._interrupted.clear()

    def release(self) -> bool:
        """Take what was held; False where live blocks were missed since."""
        held, self._held = self._held or [], None
        if self._interrupted.is_set():
            self._bytes = sum(len(block.content) for block in self._blocks)
            return False
        for block in held:
            self._bytes -= len(block.content)
            self.put(block)
        return True

    def offer(self, block: Block) -> bool:
        """Take a live block; False, and nothing is left, where there is no room for it.

        There is for one, however large: what comes at once is no sign of a slow caller.
        """
        if self._bytes and block.events and self._bytes + len(block.content) > self._most_bytes:
            if self._held is None:
                self._shed_events = block.events + sum(each.events for each in self._blocks)
                self._blocks.clear()
                self._ready.set()
            else:
                self.interrupt()
            return False
        if self._held is None:
            self.put(block)
        else:
            self._held.append(block)
            self._bytes += len(block.content)
        return True

    def interrupt(self) -> None:
        """Nothing live comes any more; the past has to be read from `position` on."""
        self._interrupted.set()

    async def interrupted(self) -> None:
        """Return when nothing live comes any more."""
        await self._interrupted.wait()

    async def take(self, within_s: float) -> Block | None:
        """The next block to send; None when none has come in that time. Raises TooFarBehind."""
        if not self._blocks and self._shed_events is None:
            self._empty.set()
            self._ready.clear()
            try:
                async with asyncio.timeout(within_s):
                    await self._ready.wait()
            except TimeoutError:
                return None
        if self._shed_events is not None:
            raise TooFarBehind(self._shed_events)
        block = self._blocks.popleft()
        self._bytes -= len(block.content)
        return block
