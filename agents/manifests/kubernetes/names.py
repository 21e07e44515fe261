"""What things are called on Kubernetes, and what the cluster around them is called."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from topics.errors import AnabranchError
from topics.pipeline import WEIGH, Pipeline, Topology, workers

Manifest = dict[str, Any]
DnsName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
]

_LONGEST = 52
"""Of a StatefulSet: a label of its revisions is its name and eleven characters, 63 at most."""
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

METRICS_PORT = 9464
KAFKA_PORT = 9093


class NameUnusable(AnabranchError):
    """A component's name makes no name on Kubernetes."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is no name that a StatefulSet can have: {_LONGEST} characters at most, and "
            "no dash at the end; give the pipeline or the component another name"
        )


class Cluster(BaseModel):
    """What the manifests refer to and do not make."""

    model_config = ConfigDict(frozen=True)

    kafka: DnsName = "kafka"
    """Strimzi's Kafka resource; its listener on port 9093 has TLS and SCRAM-SHA-512."""
    image: Annotated[str, Field(pattern=r"^[^\s:@]+(:\d+/[^\s:@]+)?$")] = "anabranch"
    """The container image, without a tag: overlays set it."""
    monitoring: DnsName = "monitoring"
    """The namespace that Prometheus scrapes from."""

    @property
    def bootstrap(self) -> str:
        """host:port of the brokers, inside the namespace."""
        return f"{self.kafka}-kafka-bootstrap:{KAFKA_PORT}"


def components(pipeline: Pipeline) -> tuple[str, ...]:
    """What runs, each in pods of its own: the workers of components, and the weighting agent."""
    return (*workers(pipeline), WEIGH)


def workload_name(pipeline: Pipeline, component: str) -> str:
    """What component's StatefulSet, Service and the like are called. Raises NameUnusable."""
    name = f"{pipeline.name}-{component}"
    if len(name) > _LONGEST or not _LABEL.fullmatch(name):
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
