"""Which dead letters a command is about, and reading them all."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.terminal import stderr

if TYPE_CHECKING:
    from agents.redrive import DeadLetterIndex
    from topics.pipeline import Pipeline
    from topics.settings import BrokerSettings

ReasonOption = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Only those with it in their class or reason."),
]
StageOption = Annotated[
    str | None, typer.Option("--stage", metavar="NAME", help="Only those that died there.")
]
AttemptsOption = Annotated[
    int,
    typer.Option(
        "--attempts", min=1, metavar="N", help="After so many attempts a letter is given up."
    ),
]


async def read_all(settings: BrokerSettings, pipeline: Pipeline) -> DeadLetterIndex:
    """All dead letters of *pipeline*, without their payloads."""
    from agents.broker import wait_for_broker
    from agents.redrive import read_dead_letters

    await wait_for_broker(settings)
    # Dead letters refer to nothing that refers to them, but the collector would look at all of them
    # again and again as they become more: that takes as long as reading them.
    gc.disable()
    try:
        with stderr.status("reading dead letters"):
            return await read_dead_letters(settings, pipeline, payloads=False)
    finally:
        gc.enable()
        gc.freeze()
