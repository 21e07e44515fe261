"""`anabranch dataset`: what was served, as a file to train and to analyse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agents.commands.event_loop import run_async
from agents.commands.options import (
    BrokerOption,
    FromOption,
    JsonOption,
    MaturedOption,
    PipelineArgument,
    ToOption,
    pipeline_file,
)
from agents.commands.terminal import bar_of, counting_bars, print_json, stderr, stdout

if TYPE_CHECKING:
    from agents.dataset import DatasetSummary
    from topics.pipeline import Pipeline

_TOPIC_WIDTH = 32


def dataset(
    pipeline: PipelineArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The data set, FILE.parquet.")
    ],
    start: FromOption = None,
    end: ToOption = None,
    immature: Annotated[
        bool,
        typer.Option(
            "--immature", help="Also events that are younger than `outcomes: delay` says."
        ),
    ] = False,
    matured: MaturedOption = None,
    labelled: Annotated[
        bool, typer.Option("--labelled", help="Only events whose outcome is known.")
    ] = False,
    backfill: Annotated[
        bool,
        typer.Option(
            "--backfill",
            help="Compute features anew, from the events, as the pipeline file has them now: for "
            "features that were not served yet.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write events with what was served of them: features, signals, decisions, and outcomes.

    A row for each event, in the order of event time: its fields, the features and signals that
    decided it (as they stand on the stage topics, so nothing in them is from later), the models
    that made these, how it ended, and its outcome. An outcome belongs to the event of its
    id and key; of several that of the strongest source counts, and of its the latest. Where none
    has come `outcome` is null: that is unknown, not false, as for what was declined. Events younger
    than `outcomes: delay`, by event time as far as that has come, are left out, for theirs cannot
    have come yet.
    The file is a training set, too: `anabranch train PIPELINE --data FILE.parquet` takes the events
    and `outcome` of it, and passes over those whose outcome is not known.

    A feature that the file has and that was not served yet is computed with --backfill: extractors
    run over the events again, from as far back as windows reach, so nothing in it is from later.

    Examples:
      anabranch dataset card-fraud -o card-fraud.parquet

      anabranch dataset card-fraud --since 2026-01-01 --to 2026-02-01 --labelled -o january.parquet
    """
    from agents.dataset import DatasetExists, check_place

    if output.exists() and not force:
        raise DatasetExists(output)
    check_place(output)
    if immature and matured is not None:
        raise typer.BadParameter("--immature takes in what --matured leaves out: give one of them")
    own = pipeline_file(pipeline).pipeline
    summary = written_dataset(
        own, broker, output, start, end, immature=immature, matured=matured, labelled=labelled,
        backfill=backfill,
    )  # fmt: skip
    if as_json:
        print_json(summary.model_dump_json())
    else:
        print_summary(summary)


def written_dataset(
    own: Pipeline, broker: str | None, output: Path, start: list[str] | None,
    end: list[str] | None, *, labelled: bool, matured: float | None = None,
    immature: bool = False, backfill: bool = False,
) -> DatasetSummary:  # fmt: skip
    """Write a data set of *own* topics, with progress bars on stderr.

    How old an event is, event time tells, as far as it has come: of what was recorded long ago,
    or is published again in an hour, outcomes take as long as they did.
    """
    from agents.broker import check_topics, needed_broker, wait_for_broker
    from agents.dataset import DatasetBuilder, as_served, maturity_ms
    from agents.renewal.event_clock import EventClock
    from agents.replay.range_choice import chosen_ranges, edge_of
    from agents.workers import TailReader
    from topics.pipeline import Topology

    begin, stop = edge_of(start or []), edge_of(end or [])
    if backfill and (served := as_served(own)):
        stderr.print(
            f"{', '.join(served)}: features as they were served; windows by another key than the "
            "events', and of outcomes, are not computed anew", soft_wrap=True, highlight=False,
        )  # fmt: skip
    settings, topology = needed_broker(broker), Topology.of(own)

    async def main() -> DatasetSummary:
        await wait_for_broker(settings)
        await check_topics(settings, topology)
        tail = TailReader(settings)
        await tail.start()
        try:
            ranges = await chosen_ranges(tail, topology, begin, stop)
            now_ms = None if immature else await EventClock(own, tail).now_ms()
            before_ms = None if now_ms is None else maturity_ms(own, now_ms, matured)
            with counting_bars(name_width=_TOPIC_WIDTH, disable=not stderr.is_terminal) as bars:
                progress = {
                    topic: bar_of(bars, topic) for topic in (topology.outcomes, topology.events)
                }
                return await DatasetBuilder(settings, own, tail, progress).build(
                    ranges, output, mature_before_ms=before_ms, labelled_only=labelled,
                    backfill=backfill,
                )  # fmt: skip
        finally:
            await tail.stop()

    summary: DatasetSummary = run_async(main())
    return summary


def print_summary(summary: DatasetSummary) -> None:
    """What is in it, and what is not."""
    stdout.print(f"{summary.rows:,} rows in {summary.file}", style="bold", soft_wrap=True)
    table = Table(box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_row(f"{summary.labelled:,}", f"with an outcome, {summary.positives:,} of them true")
    for count, what in (
        (summary.unlabelled, "old enough for an outcome, without one"),
        (summary.undecided, "without a decision: in flight, or dead letters"),
        (summary.immature, "left out: too young for an outcome (--immature takes them in)"),
        (summary.invalid, "left out: no valid event"),
        (summary.explored, f"explored, of {summary.explorable:,} that exploration applies to"),
        (summary.not_backfilled, "without backfilled features: their windows reach back too far"),
        (summary.no_outcomes, "records among the outcomes that are none"),
        (summary.foreign, "records among the decisions that are none of this pipeline"),
    ):
        if count:
            table.add_row(f"{count:,}", what)
    stdout.print(table)
