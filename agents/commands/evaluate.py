"""`anabranch evaluate`: how good a pipeline's decisions are, of a labelled file or week by week."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.commands.evaluate_file import evaluate_file
from agents.commands.event_loop import run_async, until_signalled
from agents.commands.options import BrokerOption, JsonOption, PipelineArgument, pipeline_file
from agents.commands.terminal import counting_bars, stderr

if TYPE_CHECKING:
    from rich.progress import Progress

    from agents.demo.evaluation_stream import Evaluation
    from models.registry import Registry
    from models.report.handbook import Weeks
    from models.training.train import TrainingData
    from topics.pipeline import PipelineFile
    from topics.settings import BrokerSettings

_BAR_NAME_WIDTH = 16


def evaluate(
    pipeline: PipelineArgument,
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Judge the trained pipeline by a labelled file."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Train and stream week by week: a folder with transactions.parquet, or a file.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="PLOT.png", help="Of FILE: draw the curves, as PNG, SVG or PDF."),
    ] = None,
    train: Annotated[
        str, typer.Option(metavar="START/DAYS", help="Training days.")
    ] = "2018-07-25/7",
    delay: Annotated[
        int, typer.Option(min=0, metavar="DAYS", help="Days until a label is known.")
    ] = 7,
    test: Annotated[int, typer.Option(min=1, metavar="DAYS", help="Test days.")] = 7,
    events_from: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="First day to stream. [default: as early as the pipeline's features look back]",
        ),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(metavar="DIR|URL", help="Keep the models here. [default: a temporary folder]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the estimators.")] = 0,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge decisions by true outcomes: those of FILE, or, with --data, of a stream after training.

    FILE is scored without a broker, as `anabranch score` does it, with the newest models of the
    registry; its label column says what came true. Each stage and the composed score: AUC, average
    precision, Brier score and calibration error; at the policy's thresholds precision, recall, and
    cost where costs are stated; each with its 95 % interval (a bootstrap of keys). Rows that models
    were trained on flatter them: give rows that are later.

    With --data it trains on some days, streams later ones through Kafka, and scores the decisions
    made of them. Between training and test lie the days until labels are known; customers (event
    keys) with a fraud known by then are not tested. Every figure is computed from the topics.
    Rows wait for every stage, whatever the file says of late ones: figures are of the models,
    however slow the machine. There are none of a model that may have been fitted on the test days:
    of a path without trained_until:, of a version that the file keeps. Exit code 1, and no figures,
    when a valid event lacks a stage or its decision. An embedded broker is started unless --broker
    is given.

    Examples:
      anabranch evaluate card-fraud july.parquet --plot july.png

      anabranch evaluate card-fraud --data handbook

      anabranch evaluate card-fraud --data handbook --train 2018-07-11/7 --json | jq .auc
    """
    if (file is None) == (data is None):
        raise typer.BadParameter("give FILE, a labelled file, or --data DIR: one of them")
    if file is not None:
        evaluate_file(pipeline, file, plot, seed=seed, registry=registry, as_json=as_json)
    elif data is not None:
        if plot is not None:
            raise typer.BadParameter("it is drawn of FILE only", param_hint="--plot")
        _evaluate_weeks(
            pipeline, data, train, delay, test, events_from, registry, seed, broker,
            as_json=as_json,
        )  # fmt: skip


def _evaluate_weeks(
    pipeline: str, data: Path, train: str, delay: int, test: int, events_from: str | None,
    registry: str | None, seed: int, broker: str | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Train on some days, stream later ones, judge the decisions made of them."""
    from agents.broker import wait_for_broker
    from agents.commands.evaluate_view import report
    from agents.demo.evaluation_data import not_measured, transactions_in
    from agents.service.open_version import open_weights
    from models.registry import Registry
    from models.report.handbook import Weeks
    from models.report.training_report import COMPOSED
    from topics.settings import BrokerSettings

    if broker is not None:
        run_async(wait_for_broker(BrokerSettings(broker=broker)))  # said before minutes of training
    start, days = _start_and_days(train)
    weeks = Weeks(start, days, delay, test)
    streamed_from = None if events_from is None else _date(events_from, "--events-from")
    file, path = pipeline_file(pipeline), transactions_in(data)
    with ExitStack() as stack:
        bars = stack.enter_context(counting_bars(name_width=_BAR_NAME_WIDTH, disable=as_json))
        kept = registry or stack.enter_context(TemporaryDirectory(prefix="anabranch-"))
        models = Registry(kept)
        evaluation, tested = _prepared(file, models, path, weeks, streamed_from, seed, bars)
        weighed = open_weights(file.pipeline, models).values
        unmeasured = not_measured(file.pipeline, models, weeks.test_start)
        settings = _settings(stack, broker)
        stderr.print(
            f"every event waits for every stage here, whatever {file.path} says of late ones "
            f"(weighting.deadline_ms {file.pipeline.weighting.deadline_ms:,})",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
        run_async(_stream(file, models, settings, evaluation, bars))
    if stage := next((name for name in unmeasured if weighed.get(name)), None):
        unmeasured = {**unmeasured, COMPOSED: f"{stage} {unmeasured[stage]}"}
    report(evaluation, weeks, tested, unmeasured, as_json=as_json)


def _start_and_days(text: str) -> tuple[date, int]:
    start, slash, days = text.partition("/")
    if not slash or not days.isdecimal() or int(days) < 1:
        raise typer.BadParameter(
            f"{text!r} is not START/DAYS, for example 2018-07-25/7", param_hint="--train"
        )
    return _date(start, "--train"), int(days)


def _date(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a date like 2018-07-25", param_hint=option
        ) from None


def _settings(stack: ExitStack, broker: str | None) -> BrokerSettings:
    from agents.broker import started_embedded
    from topics.settings import BrokerSettings

    if broker is None:
        return stack.enter_context(started_embedded(None))
    return BrokerSettings(broker=broker)


def _prepared(
    file: PipelineFile, registry: Registry, path: str, weeks: Weeks, streamed_from: date | None,
    seed: int, bars: Progress,
) -> tuple[Evaluation, Any]:  # fmt: skip
    """Train the pipeline; the events to stream, and which of them (N,) are tested."""
    from agents.commands.labelled_events import events_and_labels, from_file
    from agents.demo.evaluation_data import (
        events_between,
        outcomes_of,
        outcomes_of_events,
        stream_start,
        training_days,
    )
    from agents.demo.evaluation_stream import Evaluation
    from models.data import count_rows
    from models.report.handbook import test_rows

    pipeline = file.pipeline
    reading = bars.add_task("reading", total=count_rows(path))
    data = from_file(pipeline, path, seed=seed, on_rows=lambda n: bars.advance(reading, n))
    days = training_days(pipeline, data, weeks)
    outcomes = outcomes_of(pipeline, data)
    test_rows(outcomes, weeks)  # says what is wrong with the days before minutes of training
    first = stream_start(pipeline, outcomes, weeks.test_start, streamed_from)
    _train(file, days, registry, seed, bars)
    events = events_between(
        events_and_labels(pipeline, path), pipeline, min(first, weeks.start), weeks.last_test
    )
    tested = test_rows(outcomes_of_events(events), weeks)
    at = sum(event.time[:10] < first.isoformat() for event in events)
    return Evaluation(pipeline, events=events[at:]), tested[at:]


def _train(
    file: PipelineFile, days: TrainingData, registry: Registry, seed: int, bars: Progress
) -> None:
    from agents.components import open_component
    from models.training.train import train

    tasks = {
        spec.name: bars.add_task(f"fit {spec.name}"[:_BAR_NAME_WIDTH], total=100)
        for spec in file.pipeline.components
    }

    def progressed(name: str, fraction: float) -> None:
        bars.update(tasks[name], completed=round(100 * fraction))

    train(
        file.pipeline, file.path.parent, days, registry,
        open_component=open_component, seed=seed, progress=progressed,
    )  # fmt: skip


async def _stream(
    file: PipelineFile, registry: Registry, settings: BrokerSettings, evaluation: Evaluation,
    bars: Progress,
) -> None:  # fmt: skip
    from agents.broker import ensure_topics, wait_for_broker
    from agents.process.child_process import worker_process
    from agents.process.tasks import first_of, interruptible
    from topics.pipeline import WEIGH, Topology, workers

    # By name: what explains decisions is not evaluated.
    components = [f"--component={name}" for name in (*workers(file.pipeline), WEIGH)]
    exit_code = until_signalled(evaluation.stopping)
    streaming = bars.add_task("streaming", total=len(evaluation.events))

    async def show() -> None:
        while True:
            bars.update(streaming, completed=evaluation.ended)
            await asyncio.sleep(0.1)

    async def serve(up: asyncio.Event) -> None:
        await wait_for_broker(settings)
        await ensure_topics(settings, Topology.of(file.pipeline))
        async with worker_process(
            file.path, registry.root, settings, "--no-deadline", *components
        ) as running:
            up.set()
            await first_of(
                lambda: evaluation.run(settings, running),
                show,
                evaluation.stopping.wait,
            )

    await interruptible(serve, evaluation.stopping)
    bars.update(streaming, completed=evaluation.ended)
    if evaluation.stopping.is_set():
        raise typer.Exit(exit_code())
