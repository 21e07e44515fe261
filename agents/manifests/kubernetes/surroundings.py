"""What a pipeline's pods have in common: who may talk to them, and as whom they run."""

from __future__ import annotations

from urllib.parse import urlsplit

from agents.manifests.kubernetes.names import (
    KAFKA_PORT,
    METRICS_PORT,
    Cluster,
    Manifest,
    labels,
    manifest,
    selector,
)
from topics.pipeline import Pipeline

_NODE_LOCAL_DNS = "169.254.20.10/32"
"""Where Kubernetes' NodeLocal DNSCache listens on every node."""
_DNS, _OPENSHIFT_DNS = 53, 5353
"""OpenShift's resolvers listen on another port behind their service's 53, and a policy goes by
that."""
_HTTP, _HTTPS = 80, 443


def service_account(pipeline: Pipeline) -> Manifest:
    """As whom pods run: without rights on the cluster, and without a token.

    It is there to be annotated, where a cloud gives rights on its object store that way.
    """
    content = {"automountServiceAccountToken": False}
    return manifest("v1", "ServiceAccount", pipeline.name, content, labelled=labels(pipeline))


def network(pipeline: Pipeline, cluster: Cluster) -> Manifest:
    """Pods reach the brokers and DNS, Prometheus reaches their metrics, and that is all.

    And what takes spans, where that is asked for, and whatever answers HTTPS, where the registry is
    at a URL: object stores have no fixed addresses. The kubelet's probes come from the node, which
    network policies do not concern. Who reaches a gateway says a policy of its own.
    """
    brokers = {"matchLabels": {"strimzi.io/cluster": cluster.kafka, "strimzi.io/kind": "Kafka"}}
    resolvers = [
        namespace_selector("kube-system"),
        *({"ipBlock": {"cidr": address}} for address in (_NODE_LOCAL_DNS, *cluster.dns)),
    ]
    egress: list[Manifest] = [
        {
            "to": [{**namespace_selector(cluster.kafka_namespace), "podSelector": brokers}],
            "ports": [{"port": KAFKA_PORT, "protocol": "TCP"}],
        },
        {"to": resolvers, "ports": _ports(_DNS)},
        {"to": [namespace_selector("openshift-dns")], "ports": _ports(_OPENSHIFT_DNS)},
    ]
    if cluster.registry is not None:
        egress.append({"ports": [{"port": _HTTPS, "protocol": "TCP"}]})
    if cluster.otlp is not None:
        egress.append({"ports": [{"port": _port_of(cluster.otlp), "protocol": "TCP"}]})
    spec = {
        "podSelector": {"matchLabels": selector(pipeline)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "from": [namespace_selector(cluster.monitoring)],
            "ports": [{"port": METRICS_PORT, "protocol": "TCP"}],
        }],
        "egress": egress,
    }  # fmt: skip
    return manifest(
        "networking.k8s.io/v1", "NetworkPolicy", pipeline.name, {"spec": spec},
        labelled=labels(pipeline),
    )  # fmt: skip


def _port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (_HTTPS if parts.scheme == "https" else _HTTP)


def namespace_selector(name: str) -> Manifest:
    """Whom a policy means by the pods of a namespace."""
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _ports(number: int) -> list[Manifest]:
    return [{"port": number, "protocol": protocol} for protocol in ("UDP", "TCP")]
