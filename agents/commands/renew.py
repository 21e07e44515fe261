"""`anabranch renew`: models that renew themselves, or are renewed once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.monitoring import monitored
from agents.commands.options import (
    BrokerOption,
    ChangeReasonOption,
    JsonOption,
    MetricsHostOption,
    MetricsPortOption,
    PipelineArgument,
    open_registry,
    pipeline_file,
)
from agents.commands.terminal import stderr

if TYPE_CHECKING:
    from agents.renewal.renewal_ledger import Renewal
    from agents.renewal.renewal_log import RenewalLog
    from models.training.data import TrainingData
    from topics.pipeline import Pipeline, PipelineFile
    from topics.settings import BrokerSettings

_STOPPED_WITHIN_S = 60.0
_FINE = ("promoted", "partly", "lost", "undecided")


def renew(
    pipeline: PipelineArgument,
    once: Annotated[
        bool, typer.Option("--once", help="Renew once, now, whatever renew: says; then end.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--status", help="Show the renewals there were, and what runs.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="End the renewal that runs, and its challengers.")
    ] = False,
    reason: ChangeReasonOption = "",
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Renew a pipeline's models from what its topics hold, without a person.

    A renewal begins when the pipeline file says so (renew: on: [schedule, drift, quality]): it
    builds a data set of the newest days that have outcomes, as they were served, trains on it,
    holds the new models against what was served, tries them on the last days of events, has them
    run beside the versions in service, and promotes what the sequential test finds better and the
    gate lets through. What is worse is closed, and said why. Days are days of events. All of it is
    on <pipeline>.renewals, and who was promoted by what on the control topic.

    Several may run: one renews, the others stand by. After a crash the next goes on at the step
    that was not done. Ctrl-C leaves a renewal as it is; --stop ends it.

    Examples:
      anabranch renew card-fraud

      anabranch renew card-fraud --once --reason "new terminals"

      anabranch renew card-fraud --status

      anabranch renew card-fraud --stop --reason "wrong labels"
    """
    from agents.broker import needed_broker, wait_for_broker
    from agents.commands.renew_view import document, print_ledger
    from agents.renewal.renewal_log import RenewalLog
    from topics.pipeline import Topology

    if once + show + stop > 1:
        raise typer.BadParameter("one of --once, --status and --stop", param_hint="--once")
    file, settings = pipeline_file(pipeline), needed_broker(broker)
    topology = Topology.of(file.pipeline)

    async def main() -> tuple[RenewalLog, Renewal | None]:
        await wait_for_broker(settings)
        async with RenewalLog(settings, topology) as renewals:
            if show:
                return renewals, None
            if stop:
                return renewals, await _stop(file, renewals, reason)
            ended = await _train(
                file, settings, renewals, once=once, reason=reason, as_json=as_json,
                port=None if metrics_port is None else (metrics_host, metrics_port),
            )  # fmt: skip
            return renewals, ended

    renewals, ended = run_async(main())
    if as_json:
        typer.echo(document(renewals.ledger, ended))
    elif show or ended is not None:
        print_ledger(renewals.ledger, ended)
    verdict = None if ended is None or ended.verdict is None else ended.verdict.verdict
    if once and verdict not in _FINE:
        raise typer.Exit(1)
    if not (show or stop or once):
        # A fit that a signal has left behind would keep the process until it is done.
        sys.stdout.flush()
        os._exit(0)


async def _train(
    file: PipelineFile, settings: BrokerSettings, renewals: RenewalLog, *, once: bool,
    reason: str, as_json: bool, port: tuple[str, int] | None,
) -> Renewal | None:  # fmt: skip
    """Renew until a signal, or, *once*, until the renewal that was asked for has ended."""
    from agents.control import ControlTopic
    from agents.process.liveness import Liveness
    from agents.renewal.event_clock import EventClock
    from agents.renewal.model_steps import renewed_components
    from agents.renewal.monitor_reader import MonitorReader
    from agents.renewal.renewal_metrics import RenewalMetrics
    from agents.renewal.step_result import RenewalContext
    from agents.renewal.trainer import LEASE_SESSIONS, Trainer
    from agents.workers import TailReader
    from topics.pipeline import Topology
    from topics.settings import HomeSettings

    pipeline, topology = file.pipeline, Topology.of(file.pipeline)
    renewed_components(pipeline)
    if not once and not pipeline.renew.is_by_itself:
        raise typer.BadParameter(
            f"{file.path} says nothing of renew: on: [schedule, drift, quality], so nothing would "
            "begin a renewal: say so there, or give --once"
        )
    stopping = asyncio.Event()
    until_signalled(stopping)
    name = await _request(renewals, "renew", reason) if once else None
    metrics = RenewalMetrics(pipeline)
    tail = TailReader(settings)
    await tail.start()

    def answer() -> Renewal | None:
        number = None if name is None else renewals.ledger.answered(name)
        return None if number is None else renewals.ledger.renewals[number]

    def is_over() -> bool:
        ended = answer()
        return stopping.is_set() or (ended is not None and ended.verdict is not None)

    def tell(text: str) -> None:
        if not as_json:
            stderr.print(text, soft_wrap=True, highlight=False)

    async with AsyncExitStack() as open_:
        open_.push_async_callback(tail.stop)
        monitor = await open_.enter_async_context(MonitorReader(settings, topology))
        if port is not None:
            alive = Liveness(settings.stuck_after_s, ready=True)
            open_.enter_context(monitored(port, file, metrics.registry, alive))
        context = RenewalContext(
            settings, file, open_registry(), tail, EventClock(pipeline, tail),
            HomeSettings().home / "renewals" / pipeline.name, served_rows, blocks_of_served,
            lambda: ControlTopic(settings, topology),
        )  # fmt: skip
        lease_s = LEASE_SESSIONS * settings.session_timeout_s
        trainer = Trainer(context, renewals, monitor, metrics, lease_s=lease_s, tell=tell)
        await trainer.run(is_over)
    return answer()


def served_rows(pipeline: Pipeline, path: Path) -> TrainingData:
    """The rows of a data set that was served, checked like any others, with their windows."""
    from agents.commands.labelled_events import from_file

    return from_file(pipeline, str(path))


def blocks_of_served(
    pipeline: Pipeline, path: Path, rows: int, first: int
) -> Iterator[TrainingData]:
    """The same in blocks of so many, from block *first* on."""
    from agents.commands.labelled_events import served_blocks

    return served_blocks(pipeline, str(path), rows, first)


async def _request(renewals: RenewalLog, action: str, reason: str) -> str:
    """Ask for a renewal, or for the end of the one that runs; the name of that."""
    from uuid import uuid4

    from agents.control import now, user
    from topics.records import RenewalRequest

    name = uuid4().hex[:12]
    request = {"name": name, "action": action, "by": user(), "reason": reason, "at": now()}
    await renewals.append(RenewalRequest.model_validate(request))
    return name


async def _stop(file: PipelineFile, renewals: RenewalLog, reason: str) -> Renewal:
    """Have the renewal that runs stopped; returns once it is, or nobody has done it in time."""
    from agents.renewal.errors import NothingToStop

    running = renewals.ledger.running
    if running is None:
        raise NothingToStop(file.pipeline.name)
    await _request(renewals, "stop", reason)
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOPPED_WITHIN_S):
            while running.verdict is None and renewals.ledger.owner is not None:
                await renewals.more()
    if running.verdict is None:
        stderr.print("no trainer has answered yet: it is stopped when one runs")
    return running
