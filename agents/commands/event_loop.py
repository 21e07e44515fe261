"""The event loop of a command: ended by a signal, and by its own end whatever still hangs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

LEFTOVERS_S = 0.5
_SIGNALLED = 128
"""Shells tell the end by a signal as this and its number."""


def until_signalled(stopping: asyncio.Event) -> Callable[[], int]:
    """Set *stopping* on Ctrl-C or SIGTERM; a second signal ends the process at once.

    Returns what tells the exit code of a process that its first signal ends: 130 for Ctrl-C, 143
    for SIGTERM, 0 while there was none.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        if stopping.is_set():
            raise SystemExit(_SIGNALLED + number)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    return lambda: _SIGNALLED + received[0] if received else 0


def run_async(main: Coroutine[Any, Any, Any]) -> Any:
    """Run *main* to its end in an event loop of its own.

    What it leaves behind gets LEFTOVERS_S to end. `asyncio.run` would wait without an end for a
    client whose broker is gone, a Faust service that swallows its cancellation, or a thread that
    hangs in a component.
    """
    import uvloop

    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        return runner.run(main)
    finally:
        loop = runner.get_loop()
        loop.run_until_complete(_end_leftovers())
        loop.close()  # not the runner, which would wait for threads


async def _end_leftovers() -> None:
    leftovers = asyncio.all_tasks() - {asyncio.current_task()}
    for task in leftovers:
        task.cancel()
    if leftovers:
        await asyncio.wait(leftovers, timeout=LEFTOVERS_S)
    await asyncio.get_running_loop().shutdown_asyncgens()
