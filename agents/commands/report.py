"""`anabranch report`: what has happened in a pipeline, on one page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, JsonOption, PipelineArgument, pipeline_file
from agents.commands.terminal import bar_of, counting_bars, print_json, stderr, stdout

if TYPE_CHECKING:
    from agents.report import PipelineFigures

_TOPIC_WIDTH = 32


def report(
    pipeline: PipelineArgument,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="From what was written then on: 2026-01-31, or 2026-01-31T12:00:00Z. By default "
            "all that the topics hold.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html", help="Write the page there."),
    ] = None,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what has happened in a pipeline: on a page with plots, or in a few lines here.

    Traffic, latency, decisions and scores over time; quality and drift, where a monitor has
    watched; weights, versions, and who changed what; dead letters by what failed; exploration and
    cost. All is read from the topics, so what they have deleted is missing, and the report says so.
    The page is one file that loads nothing from elsewhere.

    Examples:
      anabranch report card-fraud

      anabranch report card-fraud --since 2026-01-01 -o january.html

      anabranch report card-fraud --json | jq .decisions
    """
    from agents.broker import check_topics, needed_broker, wait_for_broker
    from agents.commands.report_files import check_report_place, write_page
    from agents.replay.range_choice import edge_of
    from agents.report import collected, figures_page
    from agents.workers import TailReader
    from topics.pipeline import Topology

    check_report_place(output, "--output")
    start = edge_of([since] if since else [])
    if start is not None and not isinstance(start, datetime):
        raise typer.BadParameter(f"{since!r} is no time", param_hint="--since")
    settings, own = needed_broker(broker), pipeline_file(pipeline).pipeline
    topology = Topology.of(own)

    async def main() -> PipelineFigures:
        await wait_for_broker(settings)
        await check_topics(settings, topology)
        tail = TailReader(settings)
        await tail.start()
        try:
            with counting_bars(name_width=_TOPIC_WIDTH, disable=not stderr.is_terminal) as bars:
                topics = (topology.decisions, topology.dead_letters)
                progress = {topic: bar_of(bars, topic) for topic in topics}
                return await collected(settings, own, tail, start, progress)
        finally:
            await tail.stop()

    figures: PipelineFigures = run_async(main())
    if output is not None:
        write_page(output, figures_page(figures, own.policy, datetime.now(UTC)), "--output")
    if as_json:
        print_json(figures.model_dump_json())
        return
    _show(figures)
    if output is not None:
        stdout.print(f"report: {output}", soft_wrap=True)


def _show(figures: PipelineFigures) -> None:
    """The most important of it, in 80 columns."""
    stdout.print(f"{figures.pipeline}: {figures.decided:,} events decided", style="bold")
    table = Table(box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for name, count in figures.decisions.items():
        table.add_row(f"{count:,}", f"{name} ({count / max(figures.decided, 1):.2%})")
    table.add_row(f"{figures.dead_letters:,}", "dead letters")
    if figures.latency_p50_ms is not None and figures.latency_p99_ms is not None:
        table.add_row(f"{figures.latency_p50_ms:,.0f} ms", "half decided within")
        table.add_row(f"{figures.latency_p99_ms:,.0f} ms", "99 % decided within")
    table.add_row(f"{len(figures.changes):,}", "changes of what is in service")
    stdout.print(table)
    for each in [each for each in figures.drift if not each.ended][-5:]:
        stdout.print(f"drift: {each.sentence}", soft_wrap=True, highlight=False)
    for line in figures.not_read:
        stdout.print(f"not read: {line}", soft_wrap=True, highlight=False)
