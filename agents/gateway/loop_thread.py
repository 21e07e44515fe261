"""An event loop in a thread of its own, for what may take long: it holds up nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines elsewhere."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @classmethod
    @asynccontextmanager
    async def of(cls, name: str) -> AsyncIterator[LoopThread]:
        """One that runs meanwhile."""
        thread = cls(name)
        thread._thread.start()
        try:
            yield thread
        finally:
            thread._loop.call_soon_threadsafe(thread._loop.stop)

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What *coroutine* returns or raises; cancelled, it is cancelled there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
