"""`anabranch models import`: an ONNX file as a component's newest model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

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

    It needs one float32 input (rows, F), F being the component's columns in their order, and a
    float32 output called signal, (rows,) or (rows, 1), in [0, 1]. It is run: any number of rows
    must do, and a row's bits must not depend on its batch. From PyTorch:

      torch.onnx.export(net.eval(), (x,), "net.onnx", input_names=["x"],
                        output_names=["signal"], dynamic_axes={"x": {0: "rows"}}, dynamo=False)

    The next `anabranch run` uses it. `anabranch train` makes newer versions, unless the pipeline
    file keeps the component on this one (model: {version: N}).

    Examples:
      anabranch models import card-fraud/decision net.onnx --rows features.parquet
    """
    from agents.commands.models.onnx_import import register_file

    version = register_file(open_registry(), model, file, rows, note, _time(trained_until))
    if as_json:
        typer.echo(json.dumps(model_facts(version)))
    else:
        stdout.print(
            f"{file} is {version.name} now, {version.digest}", highlight=False, soft_wrap=True
        )


def _time(text: str | None) -> datetime | None:
    from topics.pipeline import instant

    try:
        return None if text is None else instant(text)
    except ValueError as exc:
        raise typer.BadParameter(
            f"{text!r} is no time such as 2026-01-31T00:00:00Z", param_hint="--trained-until"
        ) from exc
