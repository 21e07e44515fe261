"""Waiting for several things at once, a failed component and a silent broker among them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from agents.process.liveness import LOOK_S, ComponentStuck, Liveness
from agents.process.runner import Running
from topics.errors import AnabranchError, BrokerUnreachable
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_CANCEL_TIMEOUT_S = 8.0
_TOLD_STUCK_S = 1.0
"""So long a process that is stuck still answers: whoever asks for its health learns why it ends."""


class ComponentFailed(AnabranchError):
    """A component stopped; nothing that it had not written is committed."""

    def __init__(self, name: str, cause: BaseException) -> None:
        super().__init__(
            f"component {name} stopped: {type(cause).__name__}: {cause}; its offsets are not "
            "committed, so a restart continues with the same rows"
        )


async def raise_failure(running: Running, settings: BrokerSettings) -> None:
    """Wait until a component fails or the broker is gone; raise what has happened.

    Raises ComponentFailed or BrokerUnreachable.
    """
    await first_of(lambda: _raise_failed(running), lambda: _raise_unreachable(running, settings))


async def raise_stuck(running: Running, liveness: Liveness) -> None:
    """Note again and again where the components stand. Raises ComponentStuck."""
    liveness.ready = True
    while True:
        liveness.look(running.standing())
        if reasons := liveness.stuck():
            await asyncio.sleep(_TOLD_STUCK_S)
            raise ComponentStuck(reasons)
        await asyncio.sleep(LOOK_S)


async def _raise_failed(running: Running) -> None:
    name, cause = await running.failed()
    raise ComponentFailed(name, cause) from cause


async def _raise_unreachable(running: Running, settings: BrokerSettings) -> None:
    """Say once that the broker is silent, and give up when it stays so."""
    warned = False
    while True:
        silent_s = running.silent_s()
        if silent_s > settings.give_up_s:
            raise BrokerUnreachable(settings.broker, silent_s)
        if silent_s > settings.session_timeout_s / 3 and not warned:
            log.warning(
                "%s has not answered for %.0f s: still trying, giving up after %.0f s",
                settings.broker, silent_s, settings.give_up_s,
            )  # fmt: skip
        warned = silent_s > settings.session_timeout_s / 3
        await asyncio.sleep(1)


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
        await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT_S)
