"""Whether a run gets on: a component that fails or is stuck, and a silent broker, end it."""

from __future__ import annotations

import asyncio
import logging

from agents.process.liveness import LOOK_S, ComponentStuck, Liveness
from agents.process.runner import PipelineRun
from agents.process.tasks import first_of
from topics.errors import AnabranchError, BrokerUnreachable
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_STUCK_SHOWN_S = 1.0
"""So long a process that is stuck still answers: whoever asks for its health learns why it ends."""


class ComponentStopped(AnabranchError):
    """A component stopped; nothing that it had not written is committed."""

    def __init__(self, name: str, cause: BaseException) -> None:
        super().__init__(
            f"component {name} stopped: {type(cause).__name__}: {cause}; its offsets are not "
            "committed, so a restart continues with the same rows"
        )


async def raise_failure(run: PipelineRun, settings: BrokerSettings) -> None:
    """Wait until a component fails or the broker is gone; raise what has happened.

    Raises ComponentStopped or BrokerUnreachable.
    """
    await first_of(lambda: _raise_failed(run), lambda: _raise_unreachable(run, settings))


async def raise_stuck(run: PipelineRun, liveness: Liveness) -> None:
    """Note again and again where the components stand. Raises ComponentStuck."""
    liveness.ready = True
    while True:
        liveness.look(run.positions())
        if reasons := liveness.stuck():
            await asyncio.sleep(_STUCK_SHOWN_S)
            raise ComponentStuck(reasons)
        await asyncio.sleep(LOOK_S)


async def _raise_failed(run: PipelineRun) -> None:
    name, cause = await run.failed()
    raise ComponentStopped(name, cause) from cause


async def _raise_unreachable(run: PipelineRun, settings: BrokerSettings) -> None:
    """Say once that the broker is silent, and give up when it stays so."""
    warned = False
    while True:
        silent_s = run.silent_s()
        if silent_s > settings.give_up_s:
            raise BrokerUnreachable(settings.broker, silent_s)
        if silent_s > settings.session_timeout_s / 3 and not warned:
            log.warning(
                "%s has not answered for %.0f s: still trying, giving up after %.0f s",
                settings.broker, silent_s, settings.give_up_s,
            )  # fmt: skip
        warned = silent_s > settings.session_timeout_s / 3
        await asyncio.sleep(1)
