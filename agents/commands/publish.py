"""`anabranch publish`: a file's rows as events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.options import (
    BrokerOption,
    CreateTopicsOption,
    JsonOption,
    MaxInFlightOption,
    PipelineArgument,
    SpeedOption,
    check_pace,
    pipeline_file,
)
from agents.commands.terminal import stderr, stdout

if TYPE_CHECKING:
    from topics.pipeline import Pipeline, Topology
    from topics.settings import BrokerSettings


def publish(
    pipeline: PipelineArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Parquet, CSV or JSONL; - is stdin.")],
    rate: Annotated[
        float | None, typer.Option(min=0.1, metavar="N", help="Events a second, at most.")
    ] = None,
    speed: SpeedOption = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after N.")] = None,
    max_in_flight: MaxInFlightOption = None,
    outcomes: Annotated[
        bool,
        typer.Option(
            "--outcomes/--no-outcomes", help="Publish the labels of a file that has them too."
        ),
    ] = True,
    broker: BrokerOption = None,
    create_topics: CreateTopicsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish a file's rows as events on PIPELINE's events topic.

    Columns are mapped to event fields by the pipeline file (data.columns); others are
    left out. Event times come from the data, the record's time is now. Where a file (not
    stdin) has the label, outcomes follow on PIPELINE's outcomes topic, for `models compare`
    and, where features use them, as much later in event time as they are known
    (outcomes.delay).

    Examples:
      anabranch publish card-fraud transactions.parquet

      anabranch publish card-fraud transactions.parquet --speed 3600

      tail -f events.jsonl | anabranch publish card-fraud - --rate 500
    """  # fmt: skip
    from agents.broker import needed_broker
    from models.data import DatasetNotFound, count_rows

    check_pace(rate, speed)
    loaded = pipeline_file(pipeline)
    settings = needed_broker(broker)
    if file != "-" and not Path(file).is_file():
        raise DatasetNotFound(file)
    events = _events(loaded.pipeline, file, limit, labelled=outcomes)
    began = time.monotonic()
    total = count_rows(file)
    if total is not None and limit is not None:
        total = min(total, limit)
    count = run_async(
        publish_events(
            loaded.pipeline, settings, events, total, rate, speed, max_in_flight,
            outcomes=outcomes and bool(loaded.pipeline.data.label) and file != "-",
            create_topics=create_topics,
        )
    )  # fmt: skip
    report(count, time.monotonic() - began, as_json=as_json)


def report(count: int, seconds: float, *, as_json: bool) -> None:
    """Print how much was published."""
    if as_json:
        import json

        typer.echo(json.dumps({"published": count, "seconds": round(seconds, 3)}))
    else:
        stdout.print(f"{count:,} events published in {seconds:.1f} s")


def _events(
    pipeline: Pipeline, file: str, limit: int | None, *, labelled: bool
) -> Iterator[tuple[dict[str, object], bool | None]]:
    """The rows as events; with their labels where outcomes are wanted and the file has them."""
    from datetime import UTC, datetime
    from itertools import chain, islice, repeat

    from models.data import MissingLabel, event_rows
    from topics.pipeline import Topology

    def now() -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds")

    def rows(*, labelled: bool) -> Iterator[tuple[dict[str, object], bool | None]]:
        for batch in event_rows(pipeline, file, now=now, labelled=labelled):
            labels = repeat(None) if batch.labels is None else batch.labels.tolist()
            yield from zip(batch.events(), labels, strict=False)

    # What has been read of stdin is gone: it cannot be tried with labels and then without.
    wanted = labelled and pipeline.data.label and file != "-"
    events = rows(labelled=bool(wanted))
    try:
        first = list(islice(events, 1))
    except MissingLabel:
        if Topology.of(pipeline).by_outcomes:
            stderr.print(f"{file} has no column {pipeline.data.label}: no outcomes are published")
        events, first = rows(labelled=False), []
    yield from islice(chain(first, events), limit)


async def publish_events(
    pipeline: Pipeline, settings: BrokerSettings,
    events: Iterator[tuple[dict[str, object], bool | None]],
    total: int | None, rate: float | None, speed: float | None, max_in_flight: int | None,
    *, outcomes: bool, create_topics: bool, source: str = "",
) -> int:  # fmt: skip
    """Publish *events* until they end or a signal comes; how many there were.

    Their outcomes too, if *outcomes*, or where features use them; with *source*, who says so.
    *total* of them are expected, for the progress bar; None when nobody knows.
    Without *max_in_flight* as many may have no decision yet as the embedded broker can keep.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from agents.broker import check_topics, ensure_topics, wait_for_broker
    from agents.process.tasks import first_of
    from agents.publish import InFlight, OutcomePublisher, chunks_that_fit, scheduled
    from agents.publish import publisher as publishing
    from topics.kafka import MAX_IN_FLIGHT
    from topics.pipeline import Topology

    if max_in_flight is None and settings.embedded:
        max_in_flight = MAX_IN_FLIGHT
    stopping = asyncio.Event()
    until_signalled(stopping)
    topology = Topology.of(pipeline)

    async def topics_there() -> None:
        await wait_for_broker(settings)
        await (ensure_topics if create_topics else check_topics)(settings, topology)

    await first_of(topics_there, stopping.wait)
    if stopping.is_set():
        return 0
    wanted = outcomes and await _has_outcomes(settings, topology)
    count = 0
    columns = [
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"), TimeRemainingColumn(),
    ]  # fmt: skip
    async with (
        publishing.producer(settings) as kafka,
        InFlight.of(settings, topology) as in_flight,
        chunks_that_fit(settings, topology, in_flight) as fitting,
    ):
        room = None if max_in_flight is None else in_flight.room(max_in_flight)
        with Progress(*columns, console=stderr) as bars:
            task = bars.add_task(topology.events, total=total, rate=0.0)
            began = time.monotonic()
            known = OutcomePublisher(pipeline, wanted=wanted, source=source if wanted else "")
            labelled, schedule = scheduled(events, pipeline.event.time, rate, speed)
            async for chunk in publishing.due_chunks(
                known.following(labelled), schedule=schedule, room=room, stopping=stopping,
                most=min(publishing.CHUNK, max_in_flight or publishing.CHUNK),
            ):  # fmt: skip
                await known.publish_known(kafka)
                async for part in fitting(chunk, stopping):
                    await publishing.publish_chunk(
                        kafka, topology.events, topology.partitions, part
                    )
                    count += len(part)
                    bars.update(task, completed=count, rate=count / (time.monotonic() - began))
            if not stopping.is_set():
                await known.publish_rest(kafka)
    return count


async def _has_outcomes(settings: BrokerSettings, topology: Topology) -> bool:
    """Whether the outcomes' topic is there, or we may make it; says so otherwise."""
    from agents.broker import ensure_outcomes_topic
    from topics.errors import NotAuthorized

    try:
        await ensure_outcomes_topic(settings, topology)
    except NotAuthorized as exc:
        stderr.print(f"no outcomes are published: {exc}", markup=False, highlight=False)
        return False
    return True
