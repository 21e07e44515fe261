"""`anabranch replay`: decide a range of events again, and compare."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agents.commands.event_loop import run_async
from agents.commands.models.model_names import component_version
from agents.commands.options import (
    BrokerOption,
    FromOption,
    JsonOption,
    PipelineArgument,
    ToOption,
    open_registry,
    pipeline_file,
)
from agents.commands.report_files import check_report_place, write_page
from agents.commands.terminal import bar_of, counting_bars, print_json, stderr, stdout
from agents.commands.what_if_view import print_report

if TYPE_CHECKING:
    from agents.replay.recorded_range import SourceRange
    from agents.replay.report import ReplayReport
    from agents.replay.what_if import Alteration
    from agents.replay.what_if_report import WhatIfReport
    from agents.workers import TailReader
    from models.registry import Registry
    from topics.pipeline import PipelineFile
    from topics.settings import BrokerSettings

_TOPIC_WIDTH = 32


def replay(
    pipeline: PipelineArgument,
    start: FromOption = None,
    end: ToOption = None,
    partitions: Annotated[
        list[int] | None,
        typer.Option(
            "--partitions", min=0, metavar="N", help="Only this partition (may be given for more)."
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            metavar="N",
            help="Replay partitions in so many processes at once. [default: one a core, where "
            "there are events enough]",
        ),
    ] = None,
    weights: Annotated[
        int | None,
        typer.Option("--weights", min=1, metavar="VERSION", help="Other learned weights."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", metavar="FILE", help="Other thresholds: a pipeline file, or its policy."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="COMPONENT@VERSION", help="Another model; may be said several times."
        ),
    ] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(
            "--segment",
            metavar="FIELD",
            help="Figures by an event field, numbers by quantiles; may be said several times.",
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, max=100, help="Of each kind of change.")
    ] = 3,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the report as a page with plots."),
    ] = None,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide a range of events again: as they were, to the bit, or by something else.

    As they were, each event is decided from its raw record by what its decision names: pipeline
    file, models, weights and policy, by digest. What each component wrote is compared bit by bit,
    each decision byte by byte. What cannot be made again is taken as it was recorded, and counted
    by its reason, such as events that did not wait for a partition that was down, or a component of
    your own without `deterministic: true`. Exit code 1, and the first difference, where anything is
    not the same.
    With --weights, --policy or --model it is said what would have been decided: computed again is
    what lies downstream of the change, bit by bit as the pipeline would have. The report has the
    decisions that change, how scores move, and, where outcomes are known, cost and quality before
    and after; see deploy/what_if.md.
    All is in memory: nothing is written, and what is in service does not notice.

    Examples:
      anabranch replay card-fraud

      anabranch replay card-fraud --from 2026-01-31T00:00:00Z --to 2026-02-01T00:00:00Z

      anabranch replay card-fraud --partitions 2 --from 2/1000 --to 2/2000

      anabranch replay card-fraud --json | jq .first_difference

      anabranch replay card-fraud --weights 2 --from 2026-01-31T12:00:00Z

      anabranch replay card-fraud --policy stricter.yaml --segment amount --html stricter.html

      anabranch replay card-fraud --model risk-forest@4 --json | jq .flows
    """
    from agents.broker import check_topics, needed_broker, wait_for_broker
    from agents.replay.processes import ReplayJob, replayed
    from agents.replay.range_choice import chosen_ranges, edge_of
    from agents.replay.what_if import Alteration
    from agents.workers import TailReader
    from topics.pipeline import Topology, load_policy

    begin, stop = edge_of(start or []), edge_of(end or [])
    alteration = Alteration(
        weights, None if policy is None else load_policy(policy),
        dict(map(component_version, model or ())),
    )  # fmt: skip
    is_altered = alteration != Alteration()
    if not is_altered and (segment or html):
        raise typer.BadParameter(
            "--segment and --html are for what would be otherwise: add --weights, --policy or "
            "--model"
        )
    check_report_place(html, "--html")
    settings, file, registry = needed_broker(broker), pipeline_file(pipeline), open_registry()
    topology = Topology.of(file.pipeline)

    async def main() -> ReplayReport | WhatIfReport:
        await wait_for_broker(settings)
        await check_topics(settings, topology)
        tail = TailReader(settings)
        await tail.start()
        try:
            ranges = await chosen_ranges(tail, topology, begin, stop, partitions)
            if is_altered:
                return await _altered(
                    settings, file, registry, tail, ranges, alteration, segment or (), examples
                )
        finally:
            await tail.stop()
        with counting_bars(disable=not stderr.is_terminal) as bars:
            bar = bars.add_task("events", total=sum(of.end - of.start for of in ranges))
            return await replayed(
                ReplayJob(settings, file, registry), ranges, processes=processes,
                progress=lambda done: bars.update(bar, completed=done),
            )  # fmt: skip

    report: ReplayReport | WhatIfReport = run_async(main())
    if is_altered:
        _show_what_if(report, html, as_json=as_json)  # type: ignore[arg-type]  # that kind it is
        return
    _show_replay(report, as_json=as_json)  # type: ignore[arg-type]  # that kind it is


async def _altered(
    settings: BrokerSettings, file: PipelineFile, registry: Registry, tail: TailReader,
    ranges: Sequence[SourceRange], alteration: Alteration, segments: Sequence[str], examples: int,
) -> WhatIfReport:  # fmt: skip
    from agents.control import ControlTopic
    from agents.replay.what_if import WhatIf
    from topics.pipeline import Topology

    topology = Topology.of(file.pipeline)
    async with ControlTopic(settings, topology) as control:
        state = control.state
    with counting_bars(name_width=_TOPIC_WIDTH, disable=not stderr.is_terminal) as bars:
        progress = {
            topic: bar_of(bars, topic)
            for topic in (topology.decisions, topology.outcomes, topology.events)
        }
        what_if = WhatIf(settings, file, registry, tail, state, alteration, progress=progress)
        return await what_if.report(ranges, segments=segments, examples=examples)


def _show_what_if(report: WhatIfReport, html: Path | None, *, as_json: bool) -> None:
    if html is not None:
        from agents.replay.what_if_page import what_if_page

        write_page(html, what_if_page(report, datetime.now(UTC)), "--html")
    if as_json:
        print_json(report.document())
    else:
        print_report(report)


def _show_replay(report: ReplayReport, *, as_json: bool) -> None:
    """Exit code 1 where anything is not the same."""
    if as_json:
        print_json(report.model_dump_json())
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(1)


def _print(report: ReplayReport) -> None:
    from agents.replay.report import CLASSES

    table = Table(box=None, pad_edge=False)
    for column in ("component", "same", "taken", "different"):
        table.add_column(column, justify="left" if column == "component" else "right")
    for name, count in report.stages.items():
        taken = sum(count.taken.values())
        table.add_row(name, f"{count.same:,}", f"{taken:,}", f"{count.different:,}")
    decided = (report.recomputed, report.partly_taken, report.different)
    table.add_row("decisions", *(f"{number:,}" for number in decided), style="bold")
    stdout.print(table)
    for kind, number in report.taken.items():
        if number:
            stdout.print(f"taken as recorded: {number:,} {kind}: {CLASSES[kind]}", soft_wrap=True)
    _print_ends(report)
    if report.unnamed:
        stdout.print(
            f"{report.unnamed:,} decisions name no pipeline file: by the one that is given",
            soft_wrap=True,
        )
    stdout.print(
        f"{report.events:,} events in {report.seconds:.1f} s, {report.events_per_s:,.0f} a second"
    )
    if (difference := report.first_difference) is None:
        stdout.print("the same to the bit: all that was made again")
        return
    source = difference.source
    stdout.print(
        f"DIFFERENT first at {source.topic}/{source.partition}/{source.offset}, "
        f"{difference.stage}: {difference.field} was {difference.recorded}, and is "
        f"{difference.recomputed} now", soft_wrap=True,
    )  # fmt: skip


def _print_ends(report: ReplayReport) -> None:
    """What there is beside the decision that each event should have."""
    for error, number in report.dead_letters.items():
        stdout.print(f"not decided: {number:,} dead letters, {error}", soft_wrap=True)
    for said, number in (
        ("not decided: {:,} without an end yet", report.undecided),
        ("lost: {:,} without an end, though later events have theirs", report.lost),
        ("misplaced: {:,} decisions behind those of later events", report.misplaced),
        ("repeated: {:,} decisions about events that have one", report.repeated),
        ("not looked at: {:,} records among decisions, about no event there", report.foreign),
    ):
        if number:
            stdout.print(said.format(number), soft_wrap=True)
