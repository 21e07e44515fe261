"""`anabranch deploy kubernetes`: a pipeline's manifests, a Kustomize base and overlays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agents.commands.options import PipelineArgument, pipeline_file
from agents.commands.terminal import stderr


def kubernetes(
    pipeline: PipelineArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="Folder of the base and its overlays [deploy/kubernetes/PIPELINE].",
        ),
    ] = None,
    kafka: Annotated[
        str, typer.Option(metavar="NAME", help="Strimzi's Kafka resource that the pipeline uses.")
    ] = "kafka",
    image: Annotated[
        str, typer.Option(metavar="NAME", help="The image, without a tag: overlays set that.")
    ] = "anabranch",
    monitoring: Annotated[
        str, typer.Option(metavar="NAMESPACE", help="Where Prometheus runs.")
    ] = "monitoring",
) -> None:
    """Write a Kustomize base of a pipeline, and overlays for development and production.

    The base is written anew each time; overlays are written once, and then yours. Besides
    Kubernetes it takes the operators of Strimzi, KEDA and Prometheus.

    Examples:
      anabranch deploy kubernetes card-fraud

      anabranch deploy kubernetes churn.yaml -o manifests --image registry.example/anabranch

      kubectl apply -k deploy/kubernetes/card-fraud/overlays/production
    """  # fmt: skip
    from pydantic import ValidationError

    from agents.manifests.kubernetes import Cluster, write

    try:
        cluster = Cluster(kafka=kafka, image=image, monitoring=monitoring)
    except ValidationError as exc:
        wrong = exc.errors()[0]
        option = f"--{wrong['loc'][0]}"
        raise typer.BadParameter(f"{wrong['input']!r} is no such name", param_hint=option) from exc
    file = pipeline_file(pipeline)
    folder = output or Path("deploy") / "kubernetes" / file.pipeline.name
    written = write(folder, file.pipeline, file.path.read_text(), cluster)
    stderr.print(f"{len(written)} files in {folder}", highlight=False, soft_wrap=True)
    for spec in file.pipeline.components:
        if spec.model is not None and spec.model.path is not None:
            stderr.print(f"{spec.name}: put {spec.model.path} into the image, beside nothing else")
        if spec.import_path is not None:
            stderr.print(f"{spec.name}: its code, {spec.import_path}, must be in the image")
