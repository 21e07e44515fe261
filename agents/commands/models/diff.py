"""`anabranch models diff`: what differs between two versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agents.commands.models.model_names import ModelArgument, find_version
from agents.commands.models.show import value_lines
from agents.commands.options import JsonOption, open_registry
from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from models.onnx.version_diff import Difference


def diff(
    before: ModelArgument,
    after: Annotated[
        str, typer.Argument(metavar="PIPELINE/COMPONENT[@V]|@V", help="The other; @V: same model.")
    ],
    as_json: JsonOption = False,
) -> None:
    """What differs between two versions, and how far their signals are apart.

    Signals are compared on the probe rows of both versions, when they read the same columns.

    Examples:
      anabranch models diff card-fraud/decision@1 @2

      anabranch models diff card-fraud/risk-linear card-fraud/risk-forest --json
    """
    from dataclasses import asdict

    from models.onnx.version_diff import compare

    registry = open_registry()
    one, other = find_version(registry, before), find_version(registry, after, before)
    difference = compare(one, other)
    if as_json:
        typer.echo(json.dumps({"before": one.name, "after": other.name, **asdict(difference)}))
    else:
        print_difference(one.name, other.name, difference)


def print_difference(before: str, after: str, difference: Difference) -> None:
    """What differs, a fact a line."""
    table = Table("", before, after, box=None, pad_edge=False)
    for name, change in difference.facts.items():
        old, new = value_lines(change.before), value_lines(change.after)
        table.add_row(name, " ".join(old), " ".join(new))
    table.add_row("bytes", f"{difference.bytes.before:,}", f"{difference.bytes.after:,}")
    stdout.print(table)
    signals = difference.signals
    if signals is None:
        stdout.print(f"signals are not compared: {difference.why_no_signals}")
        return
    stdout.print(
        f"signals of {signals.rows} probe rows: {signals.same_bits} have the same bits, largest "
        f"|Δ| {signals.most:.3g}, mean |Δ| {signals.mean:.3g}",
        highlight=False,
    )
