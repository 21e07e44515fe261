"""`anabranch deploy grafana`: dashboards, of every pipeline or of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agents.commands.options import pipeline_file
from agents.commands.terminal import stderr
from topics.errors import MissingExtra


def grafana(
    pipeline: Annotated[
        str | None,
        typer.Argument(
            metavar="[PIPELINE]",
            help="A pipeline file, or a name under deploy/pipelines. Without one they are of every "
            "pipeline that Prometheus knows, chosen at their top.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", file_okay=False, help="Write here; made if needed."
        ),
    ] = Path("dashboards"),
) -> None:
    """Write Grafana dashboards: overview, decisions, components, models, capacity, machines.

    The files are JSON: provision the folder, or import them. Those of one pipeline know its
    components and thresholds, and have ids of their own, so that they stand beside others in one
    Grafana. The runbooks are a dashboard too, which panels link to. Needs the extra `grafana`.

    Examples:
      anabranch deploy grafana card-fraud -o dashboards

      anabranch deploy grafana -o deploy/grafana/dashboards
    """  # fmt: skip
    try:
        from agents.manifests.grafana import Scope, generated
    except ImportError as exc:
        raise MissingExtra("writing dashboards", "grafana") from exc

    scope = Scope(None if pipeline is None else pipeline_file(pipeline).pipeline)
    output.mkdir(parents=True, exist_ok=True)
    files = generated(scope)
    for name, content in files.items():
        (output / name).write_text(content)
    stderr.print(f"{len(files)} dashboards in {output}", highlight=False, soft_wrap=True)
