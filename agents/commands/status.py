"""`anabranch status`: how every component of a pipeline fares, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.options import BrokerOption, PipelineArgument, pipeline_file
from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from rich.console import Group

    from agents.status import PipelineStatus
    from topics.pipeline import Pipeline
    from topics.settings import BrokerSettings

_BROKER_WAIT_S = 10.0


def status(
    pipeline: PipelineArgument,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew every second until Ctrl-C.")
    ] = False,
    broker: BrokerOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout; with --watch, one a line.")
    ] = False,
) -> None:
    """Say of each component and partition whether it works, waits or is down, and what to do.

    Exit code 1 when something is down, or rows have waited longer than the pipeline's
    stall_timeout_s. A worker that was not heard of for that time is down, and so is a partition
    that no worker owns. Rows are those that are held because they wait, with the age of the
    oldest; lag is records left to do, where nobody owns the partition by what was committed.

    What workers say is on <pipeline>.reports. How old it is, is told by the clocks of the brokers
    and of this machine: they should agree within a second or two.

    Examples:
      anabranch status card-fraud

      anabranch status card-fraud --watch --broker kafka:9092

      anabranch status card-fraud --json | jq '.advice[].remedy'
    """  # fmt: skip
    from agents.broker import needed_broker

    settings = needed_broker(broker)
    spec = pipeline_file(pipeline).pipeline
    well: bool = run_async(_status(pipeline, spec, settings, watch=watch, as_json=as_json))
    if not well:
        raise typer.Exit(1)


async def _status(
    argument: str, pipeline: Pipeline, settings: BrokerSettings, *, watch: bool, as_json: bool
) -> bool:
    """Show the status; whether all is well in the end."""
    from aiokafka.errors import KafkaError

    from agents.broker import wait_for_broker
    from agents.control import ControlTopic
    from agents.process.tasks import first_of
    from agents.status import StatusReader
    from topics.errors import BrokerUnreachable
    from topics.pipeline import Topology

    stopping, began = asyncio.Event(), time.monotonic()
    # Until then there is nothing to end well: a signal ends the process, as it does any other.
    await wait_for_broker(settings, _BROKER_WAIT_S)
    until_signalled(stopping)
    well = False

    async def look() -> None:
        nonlocal well
        async with ControlTopic(settings, Topology.of(pipeline)) as control:
            reader = StatusReader(pipeline, settings, control)
            status = await reader.first()
            with _screen(argument, live=watch, as_json=as_json) as show:
                show(status)
                well = status.well
                await control.tidy()
                while watch:
                    status = await reader.next()
                    show(status)
                    well = status.well

    try:
        await first_of(look, stopping.wait)
    except KafkaError as exc:
        raise BrokerUnreachable(settings.broker, time.monotonic() - began, str(exc)) from exc
    return well


@contextmanager
def _screen(
    argument: str, *, live: bool, as_json: bool
) -> Iterator[Callable[[PipelineStatus], None]]:
    """Where a status is shown: as JSON, as tables, or as tables in the place of those before."""
    from rich.live import Live

    from agents.commands.status_view import rendered
    from agents.status.advice import advice

    def tables(status: PipelineStatus) -> Group:
        return rendered(status, advice(status, argument))

    def print_json(status: PipelineStatus) -> None:
        todo = [each._asdict() for each in advice(status, argument)]
        typer.echo(json.dumps({**status.model_dump(), "advice": todo}))

    if as_json:
        yield print_json
    elif live and stdout.is_terminal:
        with Live(console=stdout, auto_refresh=False, vertical_overflow="visible") as screen:
            yield lambda status: screen.update(tables(status), refresh=True)
    else:
        yield lambda status: stdout.print(tables(status), crop=False)
