"""`anabranch models verify`: whether cards, models and probe rows are what they were."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from agents.commands.models.model_names import model_name, registered_as
from agents.commands.options import JsonOption, open_registry
from agents.commands.terminal import stderr, stdout


def verify(
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE[/COMPONENT]", help="What to look at.")
    ],
    run: Annotated[
        bool,
        typer.Option("--run/--no-run", help="Run each model on its probe rows, on this machine."),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Check every card, model and probe against its digest, and run the models.

    Exit code 1 if one is wrong.
    Each model is run on the rows that were recorded with it, and must give the same signals, to
    the bit. Another kind of processor, or another onnxruntime, may round the last bits in another
    way: that is said with by how much.

    Examples:
      anabranch models verify card-fraud

      anabranch models verify card-fraud/decision --no-run
    """
    from models.onnx.version_check import verify_versions
    from models.registry import NothingRegistered

    component, registry = None, open_registry()
    if "/" in pipeline and not pipeline.endswith((".yaml", ".yml")):
        name = model_name(pipeline)
        pipeline, component = name.pipeline, name.component
    checked = list(verify_versions(registry, registered_as(pipeline), component, run=run))
    if not checked:
        raise NothingRegistered(pipeline, registry.root)
    wrong = {
        f"{version.component}@{version.version}": version.wrong
        for version in checked if version.wrong is not None
    }  # fmt: skip
    if as_json:
        bad = [{"model": model, "wrong": reason} for model, reason in wrong.items()]
        typer.echo(json.dumps({"versions": len(checked), "wrong": bad}))
    else:
        for model, reason in wrong.items():
            stdout.print(f"{model}: {reason}", highlight=False, soft_wrap=True)
        stderr.print(f"{len(checked)} versions checked, {len(wrong)} wrong", highlight=False)
    if wrong:
        raise typer.Exit(1)
