"""`anabranch run`: components as workers, until they are told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.monitoring import monitored
from agents.commands.options import (
    BrokerOption,
    CreateTopicsOption,
    MetricsHostOption,
    MetricsPortOption,
    PipelineArgument,
    pipeline_file,
)
from agents.commands.terminal import stderr

if TYPE_CHECKING:
    from agents.process.runner import PipelineRun
    from agents.workers import Metrics
    from models.registry import Registry
    from topics.pipeline import PipelineFile
    from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_TELL_S = 1.0


def run(
    pipeline: PipelineArgument,
    component: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Run only this component, and those that are fused with it (may be given several "
            "times); the weighting agent is called weigh, what explains decisions explainer.",
        ),
    ] = None,
    broker: BrokerOption = None,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Once they run, a JSON object on stdout every second."),
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the broker.")
    ] = 30.0,
    create_topics: CreateTopicsOption = False,
    no_deadline: Annotated[
        bool,
        typer.Option(
            "--no-deadline",
            help="Rows wait for every stage, whatever the file's weighting says of late ones.",
        ),
    ] = False,
) -> None:
    """Run a pipeline's components until Ctrl-C or SIGTERM; what is done is committed then.

    Without a broker it starts the embedded one, which publish, watch and audit find by
    themselves while this runs. On a Kafka cluster the topics must be there: `anabranch topics
    PIPELINE --create` makes them. Where the file asks for explanations (explain: when:), all
    components are joined by an explainer: a process beside this one, of lower priority.

    Examples:
      anabranch run card-fraud

      anabranch run card-fraud --component features --broker kafka:9092

      anabranch run card-fraud --component risk-linear --component weigh --metrics-port 9464

      anabranch run card-fraud --json | jq --unbuffered .components.weigh.lag
    """  # fmt: skip
    from agents.broker import broker_settings, started_embedded
    from agents.service.open_pipeline import check_trained
    from models.registry import Registry
    from topics.settings import HomeSettings

    home = HomeSettings()
    settings = broker_settings(broker, home)
    file = pipeline_file(pipeline)
    if no_deadline:
        file = file.without_deadline()
    registry = Registry(home.registry)
    check_trained(file.pipeline, registry, component)  # said before a broker is waited for
    with ExitStack() as stack:
        if settings is None:
            settings = stack.enter_context(started_embedded(home))
        port = None if metrics_port is None else (metrics_host, metrics_port)
        run_async(
            _run(
                (file, registry, component), settings, port, wait, create_topics=create_topics,
                as_json=as_json,
            )
        )  # fmt: skip


async def _run(
    what: tuple[PipelineFile, Registry, list[str] | None], settings: BrokerSettings,
    port: tuple[str, int] | None, wait_s: float, *, create_topics: bool, as_json: bool,
) -> None:  # fmt: skip
    from agents.broker import check_topics, ensure_topics, retention_findings, wait_for_broker
    from agents.control import ControlTopic
    from agents.identity import raise_changed
    from agents.process.explainer_process import give_way
    from agents.process.liveness import Liveness, guard
    from agents.process.refusal import SHOWN_FOR_S, show_refusal
    from agents.process.runner import run_workers
    from agents.process.supervision import raise_failure, raise_stuck
    from agents.process.tasks import first_of, interruptible
    from agents.service.hot_swap import HotSwap
    from agents.service.open_pipeline import open_pipeline
    from agents.workers import Metrics, check_time_outs
    from topics.pipeline import EXPLAINER, Topology

    stopping = asyncio.Event()
    until_signalled(stopping)
    metrics = Metrics()
    file, registry, only = what
    if only != [EXPLAINER]:  # no stage waits for it
        check_time_outs(file.pipeline, settings)
    topology = Topology.of(file.pipeline)
    liveness = Liveness(settings.stuck_after_s)
    guard(liveness)

    async def serve(up: asyncio.Event) -> None:
        # A signal ends these too: a supervisor would wait for the broker with us, and then kill.
        await wait_for_broker(settings, wait_s)
        await (ensure_topics if create_topics else check_topics)(settings, topology)
        for finding in await retention_findings(settings, topology):
            log.warning("%s", finding)
        async with ControlTopic(settings, topology) as control, AsyncExitStack() as stack:
            await control.tidy()  # what it has read is the newest now
            active = open_pipeline(file, registry, only, await control.state_at_start())
            give_way(active)
            workers = await stack.enter_async_context(
                run_workers(active, settings, metrics, control)
            )
            swapper = HotSwap(control, file, registry, workers)
            up.set()
            gc.collect()
            gc.freeze()  # or each full collection walks through every module: 50 ms now and then
            waits = [
                stopping.wait,
                lambda: raise_failure(workers, settings),
                lambda: raise_stuck(workers, liveness),
                lambda: raise_changed(workers.topics),
                swapper.follow,
                *_beside(file, registry, only, settings, metrics),
            ]
            if as_json:
                waits.append(lambda: _tell(workers, file.pipeline.name, settings.broker))
            else:
                names = ", ".join(workers.apps)
                stderr.print(f"{names} running on {settings.broker}; Ctrl-C stops", soft_wrap=True)
            await first_of(*waits)

    with ExitStack() as stack:
        if port is not None:
            stack.enter_context(monitored(port, file, metrics.registry, liveness))
        for_s = 0.0 if port is None else SHOWN_FOR_S
        async with show_refusal(topology.pipeline, metrics, liveness, stopping, for_s):
            await interruptible(serve, stopping)
    if not as_json:
        stderr.print("stopped; what was done is committed")


def _beside(
    file: PipelineFile, registry: Registry, only: list[str] | None, settings: BrokerSettings,
    metrics: Metrics,
) -> list[Callable[[], Awaitable[None]]]:  # fmt: skip
    """What keeps an explainer running beside all components, if the file asks for one."""
    from agents.process.explainer_process import keep_explaining
    from agents.workers import StageMetrics
    from topics.pipeline import EXPLAINER

    if only is not None or not file.pipeline.explain.is_continuous:
        return []
    beside = StageMetrics(metrics, file.pipeline.name, EXPLAINER)
    return [lambda: keep_explaining(file.path, registry.root, settings, beside)]


async def _tell(workers: PipelineRun, pipeline: str, broker: str) -> None:
    """Say every second what the components have done, as long as somebody reads it."""
    from agents.process.child_process import RunStatus

    while True:
        stats = {name: metrics.stats for name, metrics in workers.stages.items()}
        status = RunStatus(pipeline=pipeline, broker=broker, components=stats)
        try:
            sys.stdout.write(status.model_dump_json() + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the exit's flush
            return
        await asyncio.sleep(_TELL_S)
