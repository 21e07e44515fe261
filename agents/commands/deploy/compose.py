"""`anabranch deploy compose`: a Compose file, written from a pipeline file."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.options import PipelineArgument, pipeline_file
from agents.commands.terminal import stderr
from topics.errors import AnabranchError

if TYPE_CHECKING:
    from agents.manifests import Layout
    from topics.pipeline import PipelineFile

_SOURCE = Path(__file__).resolve().parents[3]


class NoSourceTree(AnabranchError):
    """The image is built from the source tree, and this is no part of one."""

    def __init__(self, looked_at: Path) -> None:
        super().__init__(
            f"{looked_at} has no deploy/Dockerfile: the image is built from Anabranch's source "
            "tree, so run this there (pip install -e)"
        )


def compose(
    pipeline: PipelineArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write here, with paths from here. [default: stdout, paths from this directory]",
        ),
    ] = None,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure", help="The file that adds TLS, a user for each component, and ACLs, instead."
        ),
    ] = False,
) -> None:
    """Write a Compose file: Kafka, topics, training, and a container for each component.

    Components share one image and can be scaled and replaced one by one. A pipeline file that is
    not in the image is mounted, with the code beside it.

    Examples:
      anabranch deploy compose card-fraud -o docker-compose.yml

      anabranch deploy compose churn.yaml -o docker-compose.yml

      anabranch deploy compose card-fraud --secure -o deploy/compose/secure.yml
    """  # fmt: skip
    from agents.manifests import render, render_secure

    file = pipeline_file(pipeline)
    layout = _layout(file, pipeline, output, secure=secure)
    text = (render_secure if secure else render)(file.pipeline, layout)
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text)
    stderr.print(f"{output} written; its first lines say how it is used", soft_wrap=True)


def _layout(file: PipelineFile, pipeline: str, output: Path | None, *, secure: bool) -> Layout:
    """How the Compose file names what is elsewhere. Raises NoSourceTree."""
    from agents.manifests import PIPELINES, Layout
    from models.simulators import SIMULATORS

    if not (_SOURCE / "deploy" / "Dockerfile").is_file():
        raise NoSourceTree(_SOURCE)
    # Compose takes all paths from the directory of its first file, which the secure one is not.
    base = output.resolve().parent if output is not None and not secure else Path.cwd()
    bundled = file.path.resolve().parent == _SOURCE / "deploy" / "pipelines"
    return Layout(
        command=" ".join(
            [
                "anabranch deploy compose",
                quote(pipeline),
                *(["--secure"] if secure else []),
                *(["-o", quote(str(output))] if output else []),
            ]
        ),
        source=_from(base, _SOURCE),
        argument=file.path.stem if bundled else f"{PIPELINES}/{file.path.name}",
        folder=None if bundled else _from(base, file.path.resolve().parent),
        simulated=file.pipeline.name in SIMULATORS,
    )


def _from(base: Path, path: Path) -> str:
    """*path* as Compose takes it for a directory beside *base*: it begins with a dot."""
    relative = os.path.relpath(path, base)
    return relative if relative.startswith(".") else f"./{relative}"
