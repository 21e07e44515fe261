"""`anabranch models show`: all that is known of one version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from agents.commands.models.model_names import ModelArgument, model_name, registered_as
from agents.commands.options import JsonOption, open_registry
from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from models.registry import ModelVersion


def show(model: ModelArgument, as_json: JsonOption = False) -> None:
    """All that is known of one version: its card, its files and its probe rows.

    Examples:
      anabranch models show card-fraud/decision

      anabranch models show card-fraud/decision@3 --json

      anabranch models show card-fraud/@weights
    """
    from models.registry import WEIGHTS

    registry, name = open_registry(), model_name(model)
    pipeline = registered_as(name.pipeline)
    if name.component == WEIGHTS:
        weights = registry.weights(pipeline, name.version)
        rows = 0 if weights.background_digest is None else weights.background().rows
        facts = {"weights": weights.version, "background_rows": rows}
        facts |= weights.card.model_dump(mode="json")
    else:
        facts = model_facts(registry.get(pipeline, name.component, name.version))
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        print_facts(facts)


def model_facts(version: ModelVersion) -> dict[str, Any]:
    """All of a model's version. Raises RegistryError when a file of it is not what it was."""
    probe = version.probe()
    return {
        "model": version.name,
        "digest": version.digest,
        "file": version.location,
        "bytes": len(version.read()),
        "probe_rows": 0 if probe is None else len(probe.rows),
        **version.card.model_dump(mode="json"),
    }


def print_facts(facts: Mapping[str, Any]) -> None:
    """One version, a fact a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a digest is of use only whole
    for name, value in facts.items():
        for line, text in enumerate(value_lines(value)):
            table.add_row(name if line == 0 else "", text)
    stdout.print(table)


def value_lines(value: object) -> list[str]:
    """A value of a card as lines of text."""
    if value is None or value in ("", [], {}):
        return ["-"]
    if isinstance(value, Mapping):
        return [f"{name} {' '.join(value_lines(each))}" for name, each in value.items()]
    if isinstance(value, list):
        if all(isinstance(each, str) for each in value):
            return [", ".join(value)]
        return [", ".join(value_lines(each)) for each in value]
    return [f"{value:g}" if isinstance(value, float) else str(value)]
