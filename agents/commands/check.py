"""`anabranch check`: everything that is wrong with a pipeline file, before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.options import open_registry, pipeline_file
from agents.commands.terminal import stdout
from topics.errors import AnabranchError

if TYPE_CHECKING:
    from models.registry import Registry
    from topics.pipeline import Finding, Location, ModelSpec, Pipeline, PipelineFile


def check(
    pipeline: Annotated[
        str | None,
        typer.Argument(
            metavar="PIPELINE",
            help="Path of a .yaml or .yml file, or name of one in deploy/pipelines.",
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of pipeline files instead.")
    ] = False,
) -> None:
    """Check a pipeline file; every mistake is one line with file, line and field.

    Also imports the components of your own and looks for the models that the file pins or
    names, and with weights: strict for weights that were learned for the newest models. Models
    that `anabranch train` has yet to make are no mistake; estimators that can become none, for
    want of a signal or of a converter to ONNX, are. What may stand in a file: --schema, and
    deploy/pipelines/README.md; which estimators: models/README.md.

    Examples:
      anabranch check card-fraud

      anabranch check my-pipeline.yaml

      anabranch check --schema > pipeline.schema.json
    """
    from topics.pipeline import Pipeline, workers

    if schema:
        typer.echo(json.dumps(Pipeline.model_json_schema(by_alias=True), indent=2))
        return
    if pipeline is None:
        raise typer.BadParameter("name a pipeline, or give --schema")
    file = pipeline_file(pipeline)
    if findings := _deep_findings(file):
        raise file.error(findings)
    size = f"{len(file.pipeline.components)} components"
    if file.pipeline.fuse:
        size += f" in {len(workers(file.pipeline))} workers"
    stdout.print(f"{file.path}: {size}, {file.pipeline.partitions} partitions, all well")
    for line in _notes(file.pipeline):
        stdout.print(line, soft_wrap=True, highlight=False)


def _notes(pipeline: Pipeline) -> list[str]:
    """What is no mistake, and yet may be other than its reader thinks."""
    windows = [spec.name for spec in pipeline.components if pipeline.reads_outcomes(spec.name)]
    if not windows or len(pipeline.outcomes.sources) < 2:
        return []
    named = ", ".join(windows)
    note = (
        f"note: windows of outcomes ({named}) count each outcome as it comes: there one of a "
        "stronger source (outcomes: sources) counts beside an earlier one of its event, and does "
        "not take its place"
    )
    return [note]


def _deep_findings(file: PipelineFile) -> list[Finding]:
    """What only loading code and looking into the registry can tell."""
    from agents.components import import_component
    from models.onnx.session import ModelSession
    from topics.pipeline import Finding

    registry = open_registry()
    folder: Path = file.path.parent
    findings = []
    for index, component in enumerate(file.pipeline.components):
        at: Location = ("components", index)
        model = component.model
        try:
            if component.import_path is not None:
                at = (*at, "import")
                import_component(component, folder)
            elif model is not None and model.path is not None:
                at = (*at, "model", "path")
                ModelSession.open(folder / model.path)
            elif model is not None and model.version is not None:
                at = (*at, "model", "version")
                registry.get(file.pipeline.name, component.name, model.version).read()
            elif model is not None:
                at = (*at, "model", "estimator")
                _check_estimator(model)
        except AnabranchError as exc:
            findings.append(Finding(at, str(exc)))
    return [*findings, *_incremental_findings(file), *_strict_findings(file, registry)]


def _incremental_findings(file: PipelineFile) -> list[Finding]:
    """Whether what renewals are to go on with can be; nothing where there is nothing to train."""
    from topics.pipeline import Finding

    try:
        from models.training.training_state import check_incremental
    except ImportError:
        return []
    findings = []
    for place, name in enumerate(file.pipeline.renew.incremental):
        model = file.pipeline.component(name).model
        try:
            if model is not None:
                check_incremental(model)
        except AnabranchError as exc:
            at: Location = ("renew", "incremental", place)
            findings.append(Finding(at, f"{name}: {exc}"))
    return findings


def _strict_findings(file: PipelineFile, registry: Registry) -> list[Finding]:
    """Whether the newest weights were learned for the newest models, where the file wants that."""
    name = file.pipeline.name
    if file.pipeline.weighting.weights != "strict" or not registry.has_weights(name):
        return []  # before what loads all that workers do
    from agents.service.open_pipeline import check_weighed_models
    from models.onnx.weighed_models import WeightsOfOtherModels
    from topics.pipeline import Finding
    from topics.records import ControlState

    try:
        newest = registry.weights_versions(name)[-1]
        check_weighed_models(file, registry, ControlState(), newest)
    except WeightsOfOtherModels as exc:
        return [Finding(("weighting", "weights"), str(exc))]
    except AnabranchError as exc:
        return [Finding(("weighting", "weights"), f"the weights cannot be read: {exc}")]
    return []


def _check_estimator(model: ModelSpec) -> None:
    """Raise what is wrong with an estimator; nothing where the packages that train are not."""
    try:
        from models.training.estimator_check import check_estimator
    except ImportError:
        return
    check_estimator(model)
