"""`anabranch rollout copy`: the changed pipeline gets the events of the one that runs."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.options import BrokerOption, JsonOption, pipeline_file
from agents.commands.rollout.pipelines import AfterArgument, BeforeOption
from agents.commands.terminal import stderr, stdout

if TYPE_CHECKING:
    from agents.rollout import Copier

_TELL_S = 10.0


def copy(
    new: AfterArgument,
    old: BeforeOption,
    once: Annotated[
        bool, typer.Option("--once", help="End when all that stands there now is copied.")
    ] = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy events and outcomes of a running pipeline to a changed one, and what comes, both ways.

    It begins as far back as the changed pipeline's topics keep records, and runs until it is
    stopped: for as long as the rollout takes. Killed and started again it goes on where it was,
    and copies no record twice; a second one takes the place of the first.

    Examples:
      anabranch rollout copy card-fraud-v2.yaml --from card-fraud

      anabranch rollout copy card-fraud-v2.yaml --from card-fraud --once
    """
    from agents.broker import needed_broker, wait_for_broker
    from agents.rollout import Copier

    after, before = pipeline_file(new).pipeline, pipeline_file(old).pipeline
    settings = needed_broker(broker)

    async def run() -> tuple[int, int]:
        await wait_for_broker(settings)
        stopping = asyncio.Event()
        exit_code = until_signalled(stopping)
        async with Copier.of(before, after, settings) as copier:
            telling = asyncio.create_task(_tell(copier)) if not as_json else None
            try:
                await copier.run(stopping, once=once)
            finally:
                if telling is not None:
                    telling.cancel()
                    with suppress(asyncio.CancelledError):
                        await telling
            return copier.copied, exit_code() if once else 0

    copied, code = run_async(run())
    if as_json:
        typer.echo(json.dumps({"from": before.name, "to": after.name, "copied": copied}))
    else:
        stdout.print(f"{copied:,} records copied", highlight=False)
    if code:
        raise typer.Exit(code)


async def _tell(copier: Copier) -> None:
    """Now and then how far it is."""
    copied, since = 0, time.monotonic()
    while True:
        await asyncio.sleep(_TELL_S)
        rate = (copier.copied - copied) / (time.monotonic() - since)
        copied, since = copier.copied, time.monotonic()
        stderr.print(
            f"{copied:,} records copied, {await copier.behind():,} left, {rate:,.0f}/s",
            highlight=False,
        )
