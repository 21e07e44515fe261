"""What things are called on Kubernetes, and what the cluster around them is called."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from topics.errors import AnabranchError
from topics.pipeline import EXPLAINER, MONITOR, TRAINER, WEIGH, Pipeline, Topology, workers

Manifest = dict[str, Any]
DnsName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
]
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?$"
    ),
]
LabelValue = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?$")
]
Network = Annotated[IPv4Network | IPv6Network, AfterValidator(str)]

_LONGEST = 52
"""Of a StatefulSet: a label of its revisions is its name and eleven characters, 63 at most."""
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

METRICS_PORT = 9464
KAFKA_PORT = 9093
AUDIT, TRAIN, GATEWAY = "audit", "train", "gateway"
_TAKEN = (AUDIT, TRAIN, GATEWAY, TRAINER, MONITOR)
"""What runs beside the components; a component of such a name would have the same pods."""


class NameUnusable(AnabranchError):
    """A component's name makes no name on Kubernetes."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is no name that a StatefulSet can have: {_LONGEST} characters at most, and "
            f"no dash at the end, and not that of {', '.join(_TAKEN)}; give the pipeline "
            "or the component another name"
        )


class Image(BaseModel):
    """A container image: its name, and which one of that name; written NAME or NAME@DIGEST."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][^\s:@]*(:\d+/[^\s:@]+)?$")]
    """Without a tag: overlays set it."""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    """The very image, which nobody can push another one over; None for a tag."""

    @model_validator(mode="before")
    @classmethod
    def _written(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        name, at, digest = given.partition("@")
        return {"name": name, "digest": digest if at else None}


class TrainingData(BaseModel):
    """A file to train on, on a volume that somebody else fills; written CLAIM/FILE."""

    model_config = ConfigDict(frozen=True)

    claim: DnsName
    file: Annotated[str, Field(pattern=r"^[^\s/.][^\s]*$")]

    @model_validator(mode="before")
    @classmethod
    def _written(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        claim, _, file = given.partition("/")
        return {"claim": claim, "file": file}


class Cluster(BaseModel):
    """What the manifests refer to and do not make."""

    model_config = ConfigDict(frozen=True)

    kafka: DnsName = "kafka"
    """Strimzi's Kafka resource; its listener on port 9093 has TLS and SCRAM-SHA-512."""
    kafka_namespace: DnsName = "kafka"
    """Where that is: topics and users are made there."""
    namespace: DnsName = "kafka"
    """Where everything else is."""
    image: Image = Image(name="anabranch")
    train_image: Image = Image(name="anabranch-train")
    registry: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+]*://[^\s]+$")] | None = None
    """An fsspec URL of the model registry; None for a claim that workers and training share."""
    training_data: TrainingData | None = None
    audit: bool = True
    """Whether an audit runs beside the workers."""
    monitor: bool = False
    """Whether a monitor runs beside the workers."""
    gateway: bool = False
    """Whether gateways run beside the workers."""
    gateway_host: (
        Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)] | None
    ) = None
    """The name under which an Ingress has them, and ends TLS; None for no Ingress."""
    ingress_class: DnsName | None = None
    """Whose Ingress it is; None for the cluster's default."""
    gateway_from: tuple[DnsName, ...] = ()
    """Namespaces whose pods reach them, besides their own."""
    gateway_tls: bool = False
    """Whether they speak HTTPS themselves."""
    otlp: (
        Annotated[str, Field(pattern=r"^https?://[a-zA-Z0-9.-]+(:[0-9]{1,5})?(/\S*)?$")] | None
    ) = None
    """Where components send OpenTelemetry spans, over HTTP; None for nowhere."""
    monitoring: DnsName = "monitoring"
    """The namespace that Prometheus scrapes from."""
    monitor_labels: dict[LabelKey, LabelValue] = {}
    """By which the Prometheus operator finds PodMonitors and PrometheusRules."""
    dns: tuple[Network, ...] = ()
    """Where else pods ask for names."""
    openshift: bool = False
    """Whether the cluster chooses users and groups, and refuses pods that name theirs."""

    @property
    def bootstrap(self) -> str:
        """host:port of the brokers; from every namespace, as KEDA asks from its own."""
        return f"{self.kafka}-kafka-bootstrap.{self.kafka_namespace}.svc:{KAFKA_PORT}"

    @property
    def ca_secret(self) -> str:
        """The Secret with the certificate that vouches for the brokers."""
        return f"{self.kafka}-cluster-ca-cert"


def components(pipeline: Pipeline) -> tuple[str, ...]:
    """What runs, each in pods of its own: workers, the weighting agent, the explainer, if any."""
    explainer = (EXPLAINER,) if pipeline.explain.is_continuous else ()
    return (*workers(pipeline), WEIGH, *explainer)


def workload_name(pipeline: Pipeline, component: str) -> str:
    """What component's StatefulSet, Service and the like are called. Raises NameUnusable."""
    name = f"{pipeline.name}-{component}"
    if len(name) > _LONGEST or not _LABEL.fullmatch(name) or component in _TAKEN:
        raise NameUnusable(name)
    return name


def labels(pipeline: Pipeline, component: str | None = None) -> dict[str, str]:
    """Kubernetes' recommended labels."""
    common = {
        "app.kubernetes.io/part-of": pipeline.name,
        "app.kubernetes.io/managed-by": "kustomize",
    }
    if component is not None:
        common |= {"app.kubernetes.io/name": "anabranch", "app.kubernetes.io/component": component}
    return common


def selector(pipeline: Pipeline, component: str | None = None) -> dict[str, str]:
    """The labels by which pods are found: never to be changed, a StatefulSet would refuse it."""
    common = {"app.kubernetes.io/name": "anabranch", "app.kubernetes.io/part-of": pipeline.name}
    return common if component is None else {**common, "app.kubernetes.io/component": component}


def manifest(
    api: str, kind: str, name: str, content: Manifest, *, labelled: dict[str, str]
) -> Manifest:
    """A resource: what every one of them begins with, and its content."""
    about = {"name": name, "labels": labelled}
    return {"apiVersion": api, "kind": kind, "metadata": about, **content}


def user(pipeline: Pipeline, component: str) -> str:
    """The Kafka user of a component, and the Secret that Strimzi keeps its password in."""
    return Topology.of(pipeline).group(component)


def claim(pipeline: Pipeline) -> str:
    """The claim of the volume with the models."""
    return f"{pipeline.name}-registry"


def pipeline_config(pipeline: Pipeline) -> str:
    """The ConfigMap of the whole pipeline file, for what is no component."""
    return f"{pipeline.name}-pipeline"
