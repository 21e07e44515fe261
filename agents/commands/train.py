"""`anabranch train`: every model of a pipeline, then its weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agents.commands.options import (
    SIMULATED_ROWS,
    AddressOption,
    BrokerOption,
    DataOption,
    EngineName,
    EngineOption,
    FromOption,
    JsonOption,
    MaturedOption,
    PipelineArgument,
    RowsOption,
    ToOption,
    check_engine,
    pipeline_file,
)
from agents.commands.terminal import counting_bars, percent_bars, print_json, stderr, stdout

if TYPE_CHECKING:
    from models.registry import Registry
    from models.training.train import TrainingReport
    from topics.pipeline import Pipeline, PipelineFile

TrackerName = Literal["json", "tensorboard", "wandb", "mlflow"]


def train(
    pipeline: PipelineArgument,
    data: DataOption = None,
    holdout: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Rows that no model has seen, to weigh and measure all on; nothing is fitted on "
            "them. [default: the last 20 % of --data]",
        ),
    ] = None,
    from_topics: Annotated[
        bool,
        typer.Option(
            "--from-topics",
            help="Train on what was served, straight from the topics: the events whose outcome is "
            "known, with the windowed features that decided them.",
        ),
    ] = False,
    start: FromOption = None,
    end: ToOption = None,
    matured: MaturedOption = None,
    backfill: Annotated[
        bool,
        typer.Option("--backfill", help="Compute the features of --from-topics from the events."),
    ] = False,
    component: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Fit only this component (may be given several times)."),
    ] = None,
    rows: RowsOption = SIMULATED_ROWS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of simulator and estimators.")] = 0,
    if_needed: Annotated[
        bool,
        typer.Option(
            "--if-needed", help="Only when a model or the weights are missing, or fit no more."
        ),
    ] = False,
    report_file: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html",
            help="Write the report there, and FILE.json beside it. "
            "[default: $ANABRANCH_HOME/reports/PIPELINE-TIME.html]",
        ),
    ] = None,
    write_policy: Annotated[
        bool,
        typer.Option(
            "--write-policy",
            help="Put the thresholds that cost the least into the pipeline file (policy: costs:).",
        ),
    ] = False,
    tracker: Annotated[
        TrackerName,
        typer.Option(
            "--track",
            help="Who writes the run down: a line of runs.jsonl in $ANABRANCH_HOME/reports, or "
            "there, without a server, files for TensorBoard, Weights & Biases (offline) or MLflow.",
        ),
    ] = "json",
    engine: EngineOption = "local",
    address: AddressOption = None,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit every component on its own, then learn the weights on held-out events.

    The data is split by time: components on the first 60 %, those that read other models
    on the next 20 %, weights on the last 20 %; rows without times (data.published_at) are
    dealt out at random. Rows whose outcome is not known yet when the next share begins
    (outcomes.delay) are left out, where the data spans long enough. Then each is fitted again
    with all rows held back, and so are the weights; all figures are of those before. Each becomes
    a new version in the registry ($ANABRANCH_HOME/registry, by default .anabranch/registry).

    A model that is not fitted here (model: {path: …}, an import, one that --component leaves as
    it is) may have seen the rows held back. It is measured, and gets a learned weight, on events
    later than it was trained until (trained_until: in the pipeline file, models import
    --trained-until), or on those of --holdout; else it is not measured, and its weight is an equal
    share.

    The report is a page: how well components and the whole rank and mean what they say, what
    each stage adds, what the policy decides and, with `policy: costs:`, the thresholds that
    would cost the least.

    Examples:
      anabranch train card-fraud

      anabranch train card-fraud --data transactions.parquet --report fraud.html

      anabranch train card-fraud --component decision --data may.parquet --holdout june.parquet

      anabranch train card-fraud --from-topics --since 2026-01-01

      anabranch train card-fraud --if-needed

      anabranch train card-fraud --track mlflow

      anabranch train card-fraud --engine ray --address ray://head:10001
    """
    from agents.commands import policy_advice
    from agents.commands.report_files import check_report_place, write_report
    from agents.service.open_pipeline import is_trained
    from models.registry import Registry
    from models.report.tracking import check_tracker, track
    from topics.settings import HomeSettings

    check_engine(engine, address)
    check_source(
        data,
        from_topics=from_topics,
        only_for_topics=(start, end, matured, broker, backfill or None),
    )
    file = pipeline_file(pipeline)
    settings = HomeSettings()
    registry = Registry(settings.registry)
    if if_needed and is_trained(file.pipeline, registry):
        stderr.print(f"{file.pipeline.name} has models that fit its file: nothing to do")
        if as_json:
            typer.echo("null")
        return
    check_report_place(report_file)
    check_tracker(tracker)
    if write_policy:
        policy_advice.check_costs(file)
    with ExitStack() as stack:
        if from_topics:
            settings.home.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(TemporaryDirectory(prefix=".served-", dir=settings.home))
            data = str(
                served_rows(
                    file.pipeline, broker, Path(folder), start, end, matured, backfill=backfill
                )
            )
        report = train_pipeline(
            file, registry, data=data, rows=rows, seed=seed, only=component,
            engine=engine, address=address, holdout=holdout,
        )  # fmt: skip
    if as_json:
        print_json(report.model_dump_json())
    else:
        print_report(report)
    written = write_report(report, report_file, settings.home)
    _say(f"report: {', '.join(map(str, written))}")
    parameters: dict[str, bool | int | float | str | None] = {
        "file": str(file.path), "data": "topics" if from_topics else data or "simulated",
        "holdout": holdout,
        "seed": seed, "engine": engine,
        "components": ",".join(component or []) or "all", "weights": report.weights_version,
    }  # fmt: skip
    # Beside the reports: a container may write nothing else of its home.
    track(tracker, settings.home / "reports", report, parameters, written)
    if write_policy and report.held_out.costs is None:
        _say(f"{file.path} is left as it was: the weighted score was not measured")
    if costs := report.held_out.costs:
        _say((policy_advice.write_policy if write_policy else policy_advice.advice)(file, costs))


def check_source(data: str | None, *, from_topics: bool, only_for_topics: Sequence[object]) -> None:
    """Raise BadParameter for options that do not go together."""
    if from_topics and data is not None:
        raise typer.BadParameter("--from-topics and --data are two sources: give one of them")
    if not from_topics and any(option not in (None, []) for option in only_for_topics):
        raise typer.BadParameter(
            "--since, --to, --matured, --backfill and --broker go with --from-topics"
        )


def served_rows(
    pipeline: Pipeline, broker: str | None, folder: Path, start: list[str] | None,
    end: list[str] | None, matured: float | None, *, backfill: bool = False,
) -> Path:  # fmt: skip
    """The labelled events of a range as a file in *folder*; what it holds is said on stderr."""
    from agents.commands.dataset import written_dataset
    from agents.dataset import check_place

    path = folder / "served.parquet"
    check_place(path)
    summary = written_dataset(
        pipeline, broker, path, start, end, matured=matured, labelled=True, backfill=backfill
    )  # fmt: skip
    _say(
        f"{summary.rows:,} events with an outcome from the topics, {summary.positives:,} of them "
        f"true, {summary.explored:,} explored; without one {summary.unlabelled:,}, too young "
        f"{summary.immature:,}"
    )
    return path


def _say(text: str) -> None:
    for line in text.split("\n"):
        stderr.print(line, highlight=False, soft_wrap=True)


def train_if_needed(file: PipelineFile, registry: Registry) -> None:
    """Train on simulated events when a model or the weights are missing."""
    from agents.service.open_pipeline import is_trained

    if not is_trained(file.pipeline, registry):
        stderr.print(
            f"{file.pipeline.name} has no models that fit its file: training on simulated events"
        )
        train_pipeline(file, registry, data=None, rows=SIMULATED_ROWS, seed=0, only=None)


def train_pipeline(
    file: PipelineFile,
    registry: Registry,
    *,
    data: str | None,
    rows: int,
    seed: int,
    only: list[str] | None,
    engine: EngineName = "local",
    address: str | None = None,
    holdout: str | None = None,
) -> TrainingReport:
    """Read the data and train, with progress bars on stderr."""
    from agents.commands.labelled_events import training_rows
    from agents.components import open_component
    from agents.service.decided_by import keep_decided_by
    from models.training.engines import open_engine
    from models.training.train import train as fit

    pipeline = file.pipeline
    with counting_bars() as bars:
        training = training_rows(pipeline, data, rows=rows, seed=seed, bars=bars)
        unseen = None
        if holdout is not None:
            unseen = training_rows(pipeline, holdout, rows=rows, seed=seed, bars=bars)
        with open_engine(engine, address, rows=training.rows) as opened:
            report = fit(
                pipeline, file.path.parent, training, registry, engine=opened,
                open_component=open_component, seed=seed, only=only, progress=percent_bars(bars),
                holdout=unseen,
            )  # fmt: skip
    keep_decided_by(registry, file)
    return report


def print_report(report: TrainingReport) -> None:
    """Print what each component and the whole reached, as a table."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("component", "version", "AUC ROC", "average precision", "weight"):
        table.add_column(column, justify="left" if column == "component" else "right")
    for name, part in report.components.items():
        weight = report.weights.get(name)
        table.add_row(
            name, str(part.version or "-"), _metric(part.auc), _metric(part.average_precision),
            "-" if weight is None else f"{weight:.3f}",
        )  # fmt: skip
    composed = report.composed
    table.add_row(
        "composed", str(report.weights_version or "-"), _metric(composed.auc),
        _metric(composed.average_precision), "1.000", style="bold",
    )  # fmt: skip
    stdout.print(table)
    stdout.print(f"{report.rows:,} events, {report.positives:,} positive, {report.seconds:.1f} s")
    for line in report.notes:
        stdout.print(line, highlight=False, markup=False, soft_wrap=True)
    if report.label_delay is not None and (note := report.label_delay.note):
        stdout.print(note, highlight=False, soft_wrap=True)


def _metric(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
