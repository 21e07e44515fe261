"""`anabranch deploy kubernetes`: a pipeline's manifests, a Kustomize base and overlays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.options import PipelineArgument, pipeline_file
from agents.commands.terminal import stderr

if TYPE_CHECKING:
    from agents.manifests.kubernetes import Cluster
    from topics.pipeline import PipelineFile

_TRAINING_ROWS = 150_000
_IMAGE = "NAME, without a tag, or NAME@sha256: and 64 digits"
_WANTED = {
    "image": _IMAGE, "train_image": _IMAGE, "registry": "a URL such as s3://bucket/models",
    "training_data": "CLAIM/FILE", "monitor_labels": "a label's key and value",
    "otlp": "a URL such as http://collector.tracing:4318",
    "dns": "an address, or a network such as 10.96.0.10/32",
}  # fmt: skip


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
        str,
        typer.Option(
            metavar="NAME",
            help="Strimzi's Kafka resource that the pipeline uses.",
        ),
    ] = "kafka",
    kafka_namespace: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Its namespace; topics and users are made there.",
        ),
    ] = "kafka",
    namespace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The namespace of all else. Another one than Kafka's needs copies of the users' "
            "passwords and of the cluster's certificate there: the README says how. "
            "[default: Kafka's]",
        ),
    ] = None,
    dns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Let pods ask for names there, too, besides kube-system, NodeLocal DNSCache "
            "(169.254.20.10) and OpenShift's resolvers (may be given several times). Where "
            "NodeLocal DNSCache takes over the DNS service's own address: that one.",
        ),
    ] = None,
    openshift: Annotated[
        bool,
        typer.Option(
            "--openshift",
            help="Leave users and groups of pods to the cluster: OpenShift refuses pods that name "
            "theirs. The images run as any user.",
        ),
    ] = False,
    image: Annotated[
        str,
        typer.Option(
            metavar="NAME[@DIGEST]",
            help="The image that serves, without a tag: overlays set that. With @sha256:… the "
            "production overlay takes that very image.",
        ),
    ] = "anabranch",
    train_image: Annotated[
        str,
        typer.Option(
            metavar="NAME[@DIGEST]",
            help="The image that trains, in the same way.",
        ),
    ] = "anabranch-train",
    registry: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Keep models in an object store, as s3://bucket/models, and make no claim for "
            "them. The image needs the store's fsspec package (build it with --build-arg "
            "STORE=s3fs); a Secret PIPELINE-registry, if there is one, is its environment. "
            "[default: a claim PIPELINE-registry, ReadWriteMany]",
        ),
    ] = None,
    training_data: Annotated[
        str | None,
        typer.Option(
            metavar="CLAIM/FILE",
            help="Train on this file of a volume of yours. [default: simulated events, for "
            "pipelines that have a simulator; else there is no training]",
        ),
    ] = None,
    otlp: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Send OpenTelemetry spans there, over HTTP, as http://collector.tracing:4318; "
            "pods may reach that port then.",
        ),
    ] = None,
    monitoring: Annotated[
        str,
        typer.Option(metavar="NAMESPACE", help="Where Prometheus runs."),
    ] = "monitoring",
    monitor_label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="A label by which your Prometheus finds PodMonitors and rules, often "
            "release=NAME of its Helm chart (may be given several times).",
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Make a PrometheusRule of the rules in FILE (deploy/prometheus/rules.yml). They "
            "hold for all pipelines: give them for one of those that a Prometheus watches.",
        ),
    ] = None,
    dashboards: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Make a ConfigMap of each dashboard in DIR (deploy/grafana/dashboards), labelled "
            "grafana_dashboard=1 for Grafana's sidecar.",
        ),
    ] = None,
    audit: Annotated[
        bool,
        typer.Option(
            help="Run an audit, in whose pod an operator's commands run, too.",
        ),
    ] = True,
    monitor: Annotated[
        bool,
        typer.Option(
            "--monitor", help="Run a monitor, which says how good decisions are by outcomes."
        ),
    ] = False,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway",
            help="Run gateways, for questions over HTTP: two to ten, as busy as they are. Who may "
            "ask is in a Secret of yours, PIPELINE-gateway-keys.",
        ),
    ] = False,
    gateway_host: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="And an Ingress of this host name, which ends TLS with the Secret "
            "PIPELINE-gateway-tls; let it in with --gateway-from.",
        ),
    ] = None,
    ingress_class: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose Ingress it is. [default: the cluster's]"),
    ] = None,
    gateway_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMESPACE",
            help="Let pods of this namespace reach gateways, besides those of their own (may be "
            "given several times).",
        ),
    ] = None,
    gateway_tls: Annotated[
        bool,
        typer.Option(
            "--gateway-tls",
            help="Gateways speak HTTPS themselves, with that Secret, where no Ingress does.",
        ),
    ] = False,
) -> None:
    """Write a Kustomize base of a pipeline, and overlays for development and production.

    The base is written anew each time; overlays are written once, and then yours. Besides
    Kubernetes it takes the operators of Strimzi, KEDA and Prometheus.

    A change of the pipeline file restarts the components that it concerns, and no others.

    Examples:
      anabranch deploy kubernetes card-fraud

      anabranch deploy kubernetes churn.yaml -o manifests --image registry.example/anabranch

      anabranch deploy kubernetes card-fraud --namespace fraud --registry s3://models/fraud

      anabranch deploy kubernetes card-fraud --rules deploy/prometheus/rules.yml

      anabranch deploy kubernetes card-fraud --gateway --gateway-host fraud.example.org

      anabranch deploy kubernetes card-fraud --monitor

      kubectl apply -k deploy/kubernetes/card-fraud/overlays/production
    """  # fmt: skip
    from agents.manifests.kubernetes import (
        Source,
        overlay_findings,
        read_dashboards,
        read_rules,
        write,
    )
    from models.simulators import SIMULATORS

    if (gateway_host or ingress_class or gateway_from or gateway_tls) and not gateway:
        raise typer.BadParameter("they are of gateways: give --gateway too", param_hint="--gateway")
    if gateway_host and gateway_tls:
        raise typer.BadParameter("the Ingress ends TLS: leave it out", param_hint="--gateway-tls")
    cluster = _cluster(
        kafka=kafka, kafka_namespace=kafka_namespace, namespace=namespace or kafka_namespace,
        dns=dns or (), openshift=openshift, image=image, train_image=train_image,
        registry=registry, training_data=training_data, audit=audit, otlp=otlp,
        monitor=monitor, gateway=gateway, gateway_host=gateway_host, ingress_class=ingress_class,
        gateway_from=gateway_from or (), gateway_tls=gateway_tls,
        monitoring=monitoring, monitor_labels=dict(map(_label, monitor_label or ())),
    )  # fmt: skip
    file = pipeline_file(pipeline)
    source = Source(
        file.pipeline, file.path.read_text(),
        training_rows=_TRAINING_ROWS if file.pipeline.name in SIMULATORS else None,
        rules=None if rules is None else read_rules(rules),
        dashboards={} if dashboards is None else read_dashboards(dashboards),
    )  # fmt: skip
    folder = output or Path("deploy") / "kubernetes" / file.pipeline.name
    written = write(folder, source, cluster)
    stderr.print(f"{len(written)} files in {folder}", highlight=False, soft_wrap=True)
    for finding in overlay_findings(folder, source, cluster):
        stderr.print(f"warning: {finding}", highlight=False, soft_wrap=True)
    is_trained = source.training_rows is not None or training_data is not None
    _say_what_is_missing(file, is_trained=is_trained)


def _label(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise typer.BadParameter(f"{word!r} is not KEY=VALUE", param_hint="--monitor-label")
    return key, value


def _cluster(**given: object) -> Cluster:
    """What the options say; a value that is no good is told with its option."""
    from pydantic import ValidationError

    from agents.manifests.kubernetes import Cluster

    try:
        return Cluster.model_validate(given)
    except ValidationError as exc:
        wrong = exc.errors()[0]
        field = str(wrong["loc"][0])
        value = given[field] if isinstance(given[field], str) else wrong["input"]
        option = "--monitor-label" if field == "monitor_labels" else f"--{field.replace('_', '-')}"
        raise typer.BadParameter(
            f"{value!r} is not {_WANTED.get(field, 'a name that Kubernetes takes')}",
            param_hint=option,
        ) from exc


def _say_what_is_missing(file: PipelineFile, *, is_trained: bool) -> None:
    """What the manifests need and do not bring."""
    for spec in file.pipeline.components:
        if spec.model is not None and spec.model.path is not None:
            stderr.print(f"{spec.name}: put {spec.model.path} into the image, beside nothing else")
        if spec.import_path is not None:
            stderr.print(f"{spec.name}: its code, {spec.import_path}, must be in the image")
    if not is_trained:
        stderr.print(
            f"nothing trains {file.pipeline.name}: give --training-data CLAIM/FILE, or bring "
            "models from elsewhere",
            soft_wrap=True,
        )
