"""Options that several commands have, and what they stand for."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from math import isfinite
from typing import Annotated, Any, Literal

import typer
import uvloop
from rich.console import Console
from rich.text import Text

from topics.printable import printable, printable_json

LEFTOVERS_S = 0.5
_SIGNALLED = 128
"""Shells tell the end by a signal as this and its number."""


class Terminal(Console):
    """Where commands print: a string, also in a table's cell, is one line and plain characters.

    Much of what is printed came from outside. No markup: brackets are brackets.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """The text of a string. A `Text` is printed as it is: clean what is put into one."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


stdout = Terminal()
stderr = Terminal(stderr=True)


def print_json(document: str | bytes) -> None:
    """Print a JSON document on stdout; what a terminal would obey is escaped in it."""
    typer.echo(printable_json(document))


PipelineArgument = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE", help="Name of a file in deploy/pipelines, or path of a pipeline file."
    ),
]


def _checked_broker(broker: str | None) -> str | None:
    """The broker as it was given. Raises InvalidAddress, before a command has done anything."""
    from topics.broker_address import checked_addresses

    if broker is not None:
        checked_addresses(broker)
    return broker


BrokerOption = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="HOST:PORT",
        callback=_checked_broker,
        help="Kafka broker; without it ANABRANCH_BROKER, or the embedded broker.",
    ),
]
CreateTopicsOption = Annotated[
    bool,
    typer.Option(
        "--create-topics",
        envvar="ANABRANCH_CREATE_TOPICS",
        help="Make the topics that are missing, as `anabranch topics --create` does; without it "
        "a missing one is an error. The embedded broker makes them by itself.",
    ),
]
SpeedOption = Annotated[
    float | None,
    typer.Option(
        "--speed",
        min=0.1,
        metavar="FACTOR",
        help="Publish at the pace of the event times, so many times faster: 3600 is an hour of "
        "them a second. Gaps are waited for.",
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        metavar="PORT",
        help="Serve /metrics, /healthz and /readyz here; 0 for any free port.",
    ),
]
MetricsHostOption = Annotated[
    str, typer.Option("--metrics-host", metavar="HOST", help="Where the metrics port listens.")
]
EngineName = Literal["local", "ray"]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        "--engine",
        help="Where models are fitted: on all cores here, or on Ray (extra ray). The models are "
        "the same, to the bit.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Ray cluster: auto, HOST:PORT or ray://HOST:PORT; without it RAY_ADDRESS, or a Ray "
        "of its own here.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, no more.")]

JsonLinesOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def check_engine(engine: EngineName, address: str | None) -> None:
    """Raise BadParameter for an --address without --engine ray."""
    if address is not None and engine != "ray":
        raise typer.BadParameter("is a Ray cluster's: add --engine ray", param_hint="--address")


def check_pace(rate: float | None, speed: float | None) -> None:
    """Raise BadParameter when both --rate and --speed are given, or one is not finite."""
    for option, value in (("--rate", rate), ("--speed", speed)):
        if value is not None and not isfinite(value):
            raise typer.BadParameter(f"{value} is no finite number", param_hint=option)
    if rate is not None and speed is not None:
        raise typer.BadParameter(
            "--rate and --speed exclude each other: events are published either so many a "
            "second, or at the pace of their own times",
            param_hint="--speed",
        )


class PlainFormatter(logging.Formatter):
    """A record is one line, whatever it quotes; a traceback's lines are behind it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # its interface
        """The line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # its interface
        """The traceback."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def configure_logging(*, verbose: bool) -> None:
    """Log to stderr: warnings of ours, everything with *verbose*."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(
        handlers=[handler], level=logging.INFO if verbose else logging.WARNING
    )  # fmt: skip
    if not verbose:
        # Clients log each failed connection attempt; ours say it once, with what to do.
        for noisy in ("aiokafka", "faust", "mode", "asyncio"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)


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
