"""`anabranch models list`: every version of a pipeline's models and weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from agents.commands.models.model_names import registered_as
from agents.commands.options import JsonOption, PipelineArgument, open_registry, pipeline_file
from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from models.onnx.weighed_models import ServedModel
    from models.registry import Registry
    from topics.pipeline import PipelineFile

    Facts = dict[str, Any]

_COLUMNS = ("component", "version", "variant", "created", "rows", "AUC", "AP", "from")
_NUMBERS = ("version", "rows", "AUC", "AP", "from")
_FIGURES = (("auc", "roc_auc"), ("average_precision",))
"""How cards name what the last columns show: those of `train`, and of models of others."""
_DAY = len("2026-11-30")


def list_versions(pipeline: PipelineArgument, as_json: JsonOption = False) -> None:
    """Every version of every component, and of the weights.

    A version whose card cannot be read is shown as that; `anabranch models verify` says why. The
    newest weights say so when they were learned for other models than would start now.
    AUC and AP (average precision) are those that `train` showed; `models show` has digests
    and all figures.

    Examples:
      anabranch models list card-fraud

      anabranch models list card-fraud --json | jq '.models[-1].digest'
    """
    from models.registry import NothingRegistered
    from topics.pipeline import PipelineNotFound

    registry, name = open_registry(), registered_as(pipeline)
    try:
        file = pipeline_file(pipeline)
    except PipelineNotFound:  # a name whose file is elsewhere
        file = None
    versions = registered_versions(registry, name, file)
    if not versions["models"] and not versions["weights"]:
        raise NothingRegistered(pipeline, registry.root)
    if as_json:
        typer.echo(json.dumps(versions))
    else:
        print_versions(versions)


def registered_versions(registry: Registry, pipeline: str, file: PipelineFile | None) -> Facts:
    """Every version of every component, then of the weights; `unreadable` for a bad card.

    With the pipeline's *file*, weights say which models they were not learned for of those that
    would start now: the newest, or what the file pins or names.
    """
    from models.onnx.weighed_models import in_service

    models = [
        _model_facts(registry, pipeline, component, version)
        for component in registry.components(pipeline)
        for version in registry.versions(pipeline, component)
    ]
    runs = {} if file is None else in_service(file.pipeline, registry, file.path.parent, {})
    weights = [
        _weights_facts(registry, pipeline, version, runs)
        for version in registry.weights_versions(pipeline)
    ]
    return {"pipeline": pipeline, "models": models, "weights": weights}


def _model_facts(registry: Registry, pipeline: str, component: str, version: int) -> Facts:
    from models.registry import RegistryError

    name: Facts = {"component": component, "version": version}
    try:
        model = registry.get(pipeline, component, version)
    except RegistryError as exc:
        return {**name, "unreadable": str(exc)}
    card = model.card
    return {
        **name, "variant": card.variant, "created_at": card.created_at, "rows": card.rows,
        "metrics": card.metrics, "digest": model.digest, "parent": card.parent,
        "estimator": card.estimator, "note": card.note,
    }  # fmt: skip


def _weights_facts(
    registry: Registry, pipeline: str, version: int, runs: Mapping[str, ServedModel]
) -> Facts:
    from models.onnx.weighed_models import other_models
    from models.registry import RegistryError

    try:
        weights = registry.weights(pipeline, version)
        others = other_models(registry, pipeline, weights, runs)
        card = weights.card
    except RegistryError as exc:
        return {"version": version, "unreadable": str(exc)}
    return {
        "version": version, "created_at": card.created_at, "rows": card.rows,
        "metrics": card.metrics, "values": card.values, "parent": card.parent, "note": card.note,
        "models": card.models, "not_learned": card.not_learned,
        "other_models": {other.component: other.runs for other in others},
    }  # fmt: skip


def print_versions(versions: Mapping[str, Any]) -> None:
    """The versions, a line each."""
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        side: JustifyMethod = "right" if column in _NUMBERS else "left"
        is_name = column in ("component", "variant")
        table.add_column(column, justify=side, no_wrap=not is_name, overflow="fold")
    for model in versions["models"]:
        table.add_row(model["component"], *_cells(model, model.get("variant", "")))
    for weights in versions["weights"]:
        table.add_row("(weights)", *_cells(weights, ""))
    stdout.print(table)
    if any("unreadable" in each for each in (*versions["models"], *versions["weights"])):
        stdout.print("why a version is unreadable: `anabranch models verify`", soft_wrap=True)
    newest = versions["weights"][-1] if versions["weights"] else {}
    if others := newest.get("other_models"):
        stdout.print(
            f"weights@{newest['version']} were learned for other models than "
            f"{', '.join(others.values())}: `anabranch train {versions['pipeline']}` learns new "
            "ones",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def _cells(facts: Mapping[str, Any], variant: str) -> tuple[str, ...]:
    version = str(facts["version"])
    if "unreadable" in facts:
        return version, "unreadable", "", "", "", "", ""
    metrics = facts["metrics"]
    figures = [
        next((metrics[name] for name in names if name in metrics), None) for names in _FIGURES
    ]
    parent = "" if facts["parent"] is None else f"@{facts['parent']}"
    return (
        version, variant, str(facts["created_at"])[:_DAY],
        f"{facts['rows']:,}" if facts["rows"] else "-",
        *("-" if figure is None else f"{figure:.3f}" for figure in figures), parent,
    )  # fmt: skip
