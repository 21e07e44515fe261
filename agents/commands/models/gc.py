"""`anabranch models gc`: old versions that nothing needs, and files of none, removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.models.model_names import component_version
from agents.commands.options import JsonOption, PipelineArgument, open_registry, pipeline_file
from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from models.registry import Removal


def gc(
    pipeline: PipelineArgument,
    keep: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Old versions go too, but for the newest N."),
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(metavar="COMPONENT@V", help="A version that stays (several times)."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without, only say what.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove files that no version names, and with --keep old versions that nothing needs.

    Of every component and of the weights there stay: the newest N, what the pipeline file pins
    and what is in service, the versions those were made of, and the models that kept weights
    weigh. Files younger than an hour stay: they may be of a version that is being added.

    Examples:
      anabranch models gc card-fraud

      anabranch models gc card-fraud --keep 3 --yes
    """
    from agents.service.gc_protection import protected_by
    from models.registry import plan_removal, remove

    file, registry = pipeline_file(pipeline), open_registry()
    protected = protected_by(file) | {component_version(text) for text in protect or []}
    removal = plan_removal(registry, file.pipeline.name, keep=keep, protected=protected)
    if yes:
        remove(registry, file.pipeline.name, removal)
    if as_json:
        typer.echo(
            json.dumps({
                "removed": yes,
                "versions": [f"{component}@{version}" for component, version in removal.versions],
                "files": [file.name for file in removal.files],
                "bytes": removal.bytes,
            })
        )  # fmt: skip
    else:
        _print_removal(removal, done=yes)


def _print_removal(removal: Removal, *, done: bool) -> None:
    """What goes, a line each, and what to do for it to go."""
    for component, version in removal.versions:
        stdout.print(f"{component}@{version}", highlight=False)
    for file in removal.files:
        stdout.print(f"{file.name}  {file.size:,} bytes", highlight=False, soft_wrap=True)
    amount = (
        f"{len(removal.versions)} versions and {len(removal.files)} files, {removal.bytes:,} bytes"
    )
    if done:
        stdout.print(f"removed {amount}", highlight=False)
    elif removal.versions or removal.files:
        stdout.print(f"would remove {amount}; --yes does it")
    else:
        stdout.print("nothing to remove")
