"""`anabranch init`: from a data file to a trained pipeline."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.options import JsonOption, open_registry
from agents.commands.terminal import print_json, stderr
from topics.errors import AnabranchError

if TYPE_CHECKING:
    from agents.commands.pipeline_template import Template
    from models.registry import Registry
    from models.schema import InferredSchema
    from models.training.train import TrainingReport
    from topics.pipeline import PipelineFile

_REVIEW, _YES = 0.25, 0.5
_STEP = 0.0001


class UnusablePipelineName(AnabranchError):
    """The name cannot be the prefix of topics."""

    def __init__(self, name: str, better: str) -> None:
        super().__init__(
            f"{name!r} cannot name a pipeline: use lower case letters, digits and hyphens, and "
            f"begin with a letter, for example {better or 'my-pipeline'!r}"
        )


class PipelineExists(AnabranchError):
    """The file to write is there already."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists; --force overwrites it, --directory writes elsewhere")


class UnknownEncoding(AnabranchError):
    """No encoding of text has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"--encoding: {name!r} is no encoding of text; windows-1252, iso-8859-2, utf-16-le, "
            "shift_jis and gb18030 are"
        )


class NotWritable(AnabranchError):
    """The pipeline file cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be written: {reason}; choose another --directory")


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new pipeline's name.")],
    data: Annotated[
        str, typer.Option("--from", metavar="FILE", help="Labelled rows: CSV, Parquet or JSONL.")
    ],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="The true outcome: two values.")],
    positive: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE", help="The label's positive value. [default: yes/1/the rarer]"
        ),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="What names a row.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Events of one key stay in order.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="When a row's event happened.")
    ] = None,
    missing: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Stands for no value; may be given often."),
    ] = None,
    month_first: Annotated[
        bool | None,
        typer.Option("--month-first/--day-first", help="Order of dates that do not say it."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a CSV file that is not UTF-8.")
    ] = None,
    directory: Annotated[Path, typer.Option(metavar="DIR", help="Where to write.")] = Path(),
    no_train: Annotated[bool, typer.Option("--no-train", help="Write the file only.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a pipeline file for data of your own, and train it.

    Types, missing values, categories, times and an id are inferred from the file, and so
    is how it writes them (separator, encoding, numbers, dates; text may be gzip): publish and
    train read it by what the pipeline file then says. What is nearly a number, a time or an
    id is said. The result is an ordinary pipeline file to read and change.

    Examples:
      anabranch init churn --from churn.csv --label churned

      anabranch init claims --from claims.parquet --label outcome --positive fraud --time filed_at
    """
    from agents.commands import init_view as schema_report
    from agents.commands.pipeline_template import Template
    from models.schema import SchemaOptions, infer_schema, sample_columns

    path = _new_path(name, directory, force=force)
    _check_is_file(data)
    _check_encoding(encoding)
    sampled = sample_columns(data, missing=missing or (), encoding=encoding)
    wishes = SchemaOptions(
        label, positive=positive, id=id_column, key=key, time=time, month_first=month_first
    )
    schema = infer_schema(sampled.columns, wishes, numbers_as_text=sampled.numbers_as_text)
    template = Template(
        name, Path(data).name, sampled.missing_values, novelty=True, review=_REVIEW, yes=_YES,
        thresholds_from="not from data yet: see the scores of a trained pipeline",
        schema_line=(directory / "pipeline.schema.json").is_file(), csv=sampled.csv,
    )  # fmt: skip
    report = None
    if not no_train:
        template, report = _train(schema, template, directory, data, open_registry())
    _write(path, schema, template)
    following = _next_commands(path, data, trained=report is not None)
    if as_json:
        print_json(schema_report.as_json(path, schema, sampled, report, following))
    else:
        schema_report.print_schema(path, schema, sampled, report, following)


def _new_path(name: str, directory: Path, *, force: bool) -> Path:
    from models.schema import slug

    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", name):
        raise UnusablePipelineName(name, slug(name).replace("_", "-"))
    path = directory / f"{name}.yaml"
    if path.exists() and not force:
        raise PipelineExists(path)
    return path


def _check_is_file(data: str) -> None:
    from models.data import DatasetNotFound

    if not Path(data).is_file():
        raise DatasetNotFound(data)


def _check_encoding(name: str | None) -> None:
    from topics.pipeline import CsvFormat

    try:
        CsvFormat(encoding=name)
    except ValueError as exc:
        raise UnknownEncoding(str(name)) from exc


def _train(
    schema: InferredSchema, template: Template, directory: Path, data: str, registry: Registry
) -> tuple[Template, TrainingReport]:
    """Train, without the novelty model when the data does not bear one, and set thresholds."""
    from agents.commands.train import train_pipeline
    from models.errors import ComponentFailed, EstimatorError
    from models.training.export import BatchDependent, ExportMismatch, NotExportable

    def trained(template: Template) -> TrainingReport:
        file = _loaded(schema, template, directory)
        return train_pipeline(file, registry, data=data, rows=0, seed=0, only=None)

    try:
        report = trained(template)
    except (EstimatorError, NotExportable, ExportMismatch, BatchDependent, ComponentFailed) as exc:
        stderr.print(f"without a novelty model: {exc}", highlight=False)
        template = template._replace(novelty=False)
        report = trained(template)
    if report.cutoffs is None:
        return template, report
    yes = round(max(report.cutoffs.as_many, 2 * _STEP), 4)
    review = round(max(min(report.cutoffs.twice_as_many, yes - _STEP), _STEP), 4)
    origin = "yes: as many held-out rows as are positive; review: twice as many"
    return template._replace(review=review, yes=yes, thresholds_from=origin), report


def _loaded(schema: InferredSchema, template: Template, directory: Path) -> PipelineFile:
    """The pipeline as it will be read from *directory*; nothing is written there."""
    from dataclasses import replace

    from agents.commands.pipeline_template import render
    from topics.pipeline import load_pipeline

    with tempfile.TemporaryDirectory(prefix="anabranch-init-") as aside:
        draft = Path(aside) / f"{template.name}.yaml"
        draft.write_text(render(schema, template), encoding="utf-8")
        return replace(load_pipeline(draft), path=directory / draft.name)


def _write(path: Path, schema: InferredSchema, template: Template) -> None:
    from agents.commands.pipeline_template import render

    _loaded(schema, template, path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(schema, template), encoding="utf-8")
    except OSError as exc:
        raise NotWritable(path, exc.strerror or str(exc)) from exc


def _next_commands(path: Path, data: str, *, trained: bool) -> list[str]:
    from shlex import quote

    file, rows = quote(str(path)), quote(data)
    first = [] if trained else [f"anabranch train {file} --data {rows}"]
    return [*first, f"anabranch run {file}", f"anabranch publish {file} {rows}"]
