"""Several things awaited at once: the first that ends, ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

CANCEL_TIMEOUT_S = 8.0
"""So long tasks have to end once they are cancelled."""


async def interruptible(
    serve: Callable[[asyncio.Event], Awaitable[None]], stopping: asyncio.Event
) -> None:
    """Run *serve*, which sets its argument once it is up; *stopping* ends it before that.

    Afterwards *serve* looks at *stopping* itself.
    """
    up = asyncio.Event()

    async def abort() -> None:
        await stopping.wait()
        if up.is_set():
            await asyncio.Event().wait()

    await first_of(lambda: serve(up), abort)


async def first_of(*waits: Callable[[], Any]) -> None:
    """Run all, end with the first; its error is raised, the others are cancelled."""
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        # A task that swallows its cancellation is left behind rather than waited for.
        await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT_S)
