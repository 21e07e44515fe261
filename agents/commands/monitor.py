"""`anabranch monitor`: how good decisions are, as outcomes come in."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.monitoring import monitored
from agents.commands.options import (
    BrokerOption,
    MetricsHostOption,
    MetricsPortOption,
    PipelineArgument,
    open_registry,
    pipeline_file,
)
from agents.commands.terminal import print_json, stderr, stdout

if TYPE_CHECKING:
    from agents.monitor import Finding
    from topics.pipeline import PipelineFile
    from topics.settings import BrokerSettings


def monitor(
    pipeline: PipelineArgument,
    once: Annotated[
        bool,
        typer.Option("--once", help="Say how things stand by all that is on the topics, and end."),
    ] = False,
    broker: BrokerOption = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            help="Where decisions wait for their outcomes, on disk: no more than the topics hold, "
            "and made again from them. [default: monitor in ANABRANCH_HOME]",
        ),
    ] = None,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout; with --once a list of them.")
    ] = False,
) -> None:
    """Hold decisions against outcomes as these come in, until Ctrl-C.

    What it finds is on <pipeline>.monitor and on the metrics port. Several may run: the eldest
    counts, the others stand by. One that was killed goes on where it was, and counts nothing twice.
    With --once nothing is written, and a monitor that runs is not disturbed.

    Examples:
      anabranch monitor card-fraud --metrics-port 9465

      anabranch monitor card-fraud --once

      anabranch monitor card-fraud --once --json | jq '.[].kind'
    """  # fmt: skip
    from agents.broker import needed_broker
    from topics.settings import HomeSettings

    file, settings = pipeline_file(pipeline), needed_broker(broker)
    place = folder or HomeSettings().home / "monitor"
    if once:
        findings = run_async(_once(file, settings, place))
        if as_json:
            print_json(json.dumps([json.loads(each.value) for each in findings]))
        else:
            _show(findings)
        return
    at = None if metrics_port is None else (metrics_host, metrics_port)
    run_async(_monitor(file, settings, place, at, as_json=as_json))


async def _once(file: PipelineFile, settings: BrokerSettings, folder: Path) -> list[Finding]:
    from agents.process.monitor_process import look_once

    return await look_once(file, open_registry(), settings, folder)


async def _monitor(
    file: PipelineFile, settings: BrokerSettings, folder: Path, at: tuple[str, int] | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    from agents.process.monitor_process import run_monitor

    stopping = asyncio.Event()
    until_signalled(stopping)
    name = file.pipeline.name

    def up(is_active: bool) -> None:  # what has become of it is all there is to say
        if as_json:
            print_json(json.dumps({"pipeline": name, "active": is_active}))
        elif is_active:
            stderr.print(f"{name} is watched; Ctrl-C stops", soft_wrap=True)
        else:
            stderr.print(f"{name}: standing by while another monitor counts", soft_wrap=True)

    served = None if at is None else partial(monitored, at, file)
    await run_monitor(file, open_registry(), settings, folder, stopping, up=up, served=served)


def _show(findings: list[Finding]) -> None:
    from agents.commands.monitor_view import quality_tables
    from topics.records import QUALITY, QualityFinding

    quality = [
        QualityFinding.model_validate_json(each.value) for each in findings if each.kind == QUALITY
    ]
    if not quality:
        stdout.print(
            "No window is over yet: figures come once an event is later than quality: window."
        )
    for table in quality_tables(quality):
        stdout.print(table)
