"""`anabranch demo`: simulated events through the whole pipeline, in one process."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.options import (
    BrokerOption,
    DriftOption,
    IncidentOption,
    JsonOption,
    PipelineArgument,
    SimulatorSeedOption,
    SpeedOption,
    check_pace,
    open_registry,
    pipeline_file,
    scenario_of,
)
from agents.commands.terminal import print_json, stderr, stdout

if TYPE_CHECKING:
    from agents.demo.demo_gateway import DemoGateway
    from agents.demo.demo_stream import Demo
    from agents.process.child_process import WorkerProcess
    from models.registry import Registry
    from topics.pipeline import Pipeline, PipelineFile
    from topics.settings import BrokerSettings

_LIVE_RATE = 2000.0


def demo(
    pipeline: PipelineArgument = "card-fraud",
    events: Annotated[int, typer.Option(min=1, help="Events to publish.")] = 20_000,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Events a second. [default: 2000 live, as fast as it goes headless]"
        ),
    ] = None,
    speed: SpeedOption = None,
    seed: SimulatorSeedOption = 1,
    drift: DriftOption = 0.0,
    incident: IncidentOption = False,
    broker: BrokerOption = None,
    headless: Annotated[bool, typer.Option("--headless", help="No live view.")] = False,
    gateway: Annotated[
        bool,
        typer.Option(help="Whether it can be asked over HTTP meanwhile; never with --json."),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Run a whole pipeline on simulated events and account for every one of them.

    Trains the pipeline first if it has no model yet, and starts an embedded broker unless
    --broker is given. Rows wait for every stage, however slow the machine. Ctrl-C ends early
    with the summary so far. Meanwhile a gateway answers over HTTP (extra gateway): its link is
    printed, with a question to ask.

    Examples:
      anabranch demo

      anabranch demo card-fraud --events 100000 --headless

      anabranch demo machine-maintenance --drift 2 --incident

      anabranch demo road-risk --speed 3600 --events 50000

      anabranch demo --headless --json | jq .unaccounted
    """
    from agents.broker import started_embedded, wait_for_broker
    from agents.commands.train import train_if_needed
    from agents.demo.demo_stream import simulator_of
    from agents.service.open_pipeline import open_pipeline
    from topics.settings import BrokerSettings

    check_pace(rate, speed)
    live = not headless and not as_json and stdout.is_terminal
    file = pipeline_file(pipeline)
    simulator_of(file.pipeline)  # says that there is none before minutes of training
    if broker is not None:
        run_async(wait_for_broker(BrokerSettings(broker=broker)))  # the same
    registry = open_registry()
    train_if_needed(file, registry)
    open_pipeline(file, registry)  # says what is wrong with a model before a process is started
    with ExitStack() as stack:
        if broker is None:
            settings = stack.enter_context(started_embedded(None))
        else:
            settings = BrokerSettings(broker=broker)
        if live and rate is None and speed is None:
            rate = _LIVE_RATE
        scenario = scenario_of(drift, incident=incident)

        async def stream(demo: Demo, workers: WorkerProcess) -> None:
            await demo.run(settings, workers, events, seed, scenario, rate=rate, speed=speed)

        done = run_async(
            _demo(
                file, registry, settings, stream, events,
                live=live, quiet=as_json, gateway=gateway and not as_json,
            )
        )  # fmt: skip
    _report(done, as_json=as_json)


async def _demo(
    file: PipelineFile, registry: Registry, settings: BrokerSettings,
    stream: Callable[[Demo, WorkerProcess], Awaitable[None]], events: int,
    *, live: bool, quiet: bool, gateway: bool,
) -> Demo:  # fmt: skip
    from rich.live import Live

    from agents.broker import ensure_topics, wait_for_broker
    from agents.demo.demo_stream import Demo
    from agents.demo.live_view import LiveView
    from agents.process.child_process import worker_process
    from agents.process.tasks import first_of, interruptible
    from topics.pipeline import Topology

    pipeline = file.pipeline
    demo = Demo(pipeline)
    until_signalled(demo.stopping)
    began = time.monotonic()
    if not quiet:
        stderr.print(f"broker {settings.broker}: starting {pipeline.name} …")
    await wait_for_broker(settings)
    await ensure_topics(settings, Topology.of(pipeline))

    async def serve(up: asyncio.Event) -> None:
        async with AsyncExitStack() as children:
            beside = await _gateway(file, registry, settings, children) if gateway else None
            workers = await children.enter_async_context(
                worker_process(file.path, registry.root, settings, "--no-deadline")
            )
            up.set()
            if not quiet:
                stderr.print(
                    f"all components own their partitions after {time.monotonic() - began:.1f} s"
                )
            if beside is not None:
                await first_of(lambda: _tell(beside, pipeline), demo.stopping.wait)
            with ExitStack() as stack:
                if live:
                    view = LiveView(demo, events, workers)
                    stack.enter_context(
                        Live(
                            view, console=stdout, refresh_per_second=4, get_renderable=view.__rich__
                        )
                    )
                await first_of(lambda: stream(demo, workers), demo.stopping.wait)

    await interruptible(serve, demo.stopping)
    return demo


async def _gateway(
    file: PipelineFile, registry: Registry, settings: BrokerSettings, children: AsyncExitStack
) -> DemoGateway | None:
    """A gateway that ends with *children*; None, and it is said why, where it is not installed."""
    from agents.demo.demo_gateway import gateway_beside, gateway_is_installed
    from topics.errors import MissingExtra

    if not gateway_is_installed():
        missing = MissingExtra("the gateway", "gateway")
        stderr.print(f"without questions over HTTP: {missing}", soft_wrap=True)
        return None
    return await children.enter_async_context(gateway_beside(file.path, registry.root, settings))


async def _tell(gateway: DemoGateway, pipeline: Pipeline) -> None:
    """Say where *gateway* is, and how it is asked."""
    from agents.demo.demo_stream import simulator_of

    url = await gateway.url()
    if url is None:
        stderr.print("the gateway has not come up; the demo goes on without")
        return
    event = next(iter(simulator_of(pipeline)(0))).event
    body = shlex.quote(orjson.dumps(event).decode())
    for line in (
        f"gateway on {url}, as long as the demo runs; ask it:",
        f"  curl -H content-type:application/json -d {body} {url}/predict",
        f"  curl -N {url}/decisions/stream",
    ):
        stderr.print(line, soft_wrap=True)


def _report(demo: Demo, *, as_json: bool) -> None:
    from agents.demo.live_view import summary_table

    summary = demo.summary()
    if as_json:
        print_json(summary.model_dump_json())
    else:
        stdout.print(summary_table(summary, demo))
    complete = summary.unaccounted == 0 or demo.stopping.is_set()
    if not complete or summary.duplicates:
        raise typer.Exit(1)
