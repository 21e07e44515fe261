"""`anabranch models import`: an ONNX file as a component's newest model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agents.commands.models.show import model_facts
from agents.commands.options import JsonOption, open_registry
from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from datetime import datetime


def import_file(
    model: Annotated[str, typer.Argument(metavar="PIPELINE/COMPONENT", help="Whose model it is.")],
    file: Annotated[str, typer.Argument(metavar="FILE.onnx", help="The model.")],
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Rows to check it on: Parquet, CSV or JSONL with the component's input columns, "
            "or an (N, F) array as .npy. [default: random ones]",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The output that has the signal. [default: the plain one]"
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="LABEL",
            help="Of an output with a column for each class: the positive one, by its label or "
            "its place from 0 on. [default: the second of two]",
        ),
    ] = None,
    apply: Annotated[
        Literal["sigmoid", "softmax"] | None,
        typer.Option(help="What makes probabilities of the output, where it has logits."),
    ] = None,
    constant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="Values (V1,V2,… or FILE.npy) of an input that is a constant which the exporter "
            "left out. May be given several times.",
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="Why there is this version, for people.")] = "",
    trained_until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="When the newest event happened that it was trained on, such as "
            "2026-01-31T00:00:00Z, or a whole day: anabranch train measures and weighs it on later "
            "events alone. [default: now, as it cannot know what comes]",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register an ONNX file, from PyTorch, TensorFlow or others, as a component's newest model.

    Its inputs read the component's columns: one input all of them, in their order; several, those
    of their names; a text input a feature with categories (ordinal, one_hot). Of its outputs one
    is the signal, a probability. What is plain is seen from the file, and said: maps (ZipMap),
    classes, double and half, a fixed number of rows, weights in a file beside it. The model that
    is registered has one float32 input and the output signal, and is run: it must say of rows what
    the file says, for any number of them, and a row's bits must not depend on its batch.

    The next `anabranch run` uses it. `anabranch train` leaves it as it is, unless it is told to
    fit the component (--component NAME).

    Examples:
      anabranch models import card-fraud/decision net.onnx --rows features.parquet
      anabranch models import card-fraud/risk-forest lightgbm.onnx --class fraud
      anabranch models import card-fraud/risk-linear logits.onnx --apply sigmoid
    """
    from agents.commands.models.onnx_import import OutputOptions, register_file

    wanted = OutputOptions(output, label, apply, constant or ())
    version = register_file(open_registry(), model, file, rows, note, _time(trained_until), wanted)
    if as_json:
        typer.echo(json.dumps(model_facts(version)))
        return
    for line in version.card.changes:
        stdout.print(f"  {line}", highlight=False, soft_wrap=True)
    stdout.print(f"{file} is {version.name} now, {version.digest}", highlight=False, soft_wrap=True)


def _time(text: str | None) -> datetime | None:
    from topics.pipeline import instant

    try:
        return None if text is None else instant(text)
    except ValueError as exc:
        raise typer.BadParameter(
            f"{text!r} is no time such as 2026-01-31T00:00:00Z", param_hint="--trained-until"
        ) from exc
