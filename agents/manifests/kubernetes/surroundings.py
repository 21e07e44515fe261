"""What a pipeline has once: who may talk to its pods, who scrapes them, where its models are."""

from __future__ import annotations

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

_NAMESPACE = "kubernetes.io/metadata.name"


def network(pipeline: Pipeline, cluster: Cluster) -> Manifest:
    """Pods reach the brokers and DNS, Prometheus reaches their metrics, and that is all.

    The kubelet's probes come from the node, which network policies do not concern.
    """
    brokers = {"matchLabels": {"strimzi.io/cluster": cluster.kafka, "strimzi.io/kind": "Kafka"}}
    dns = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    spec = {
        "podSelector": {"matchLabels": selector(pipeline)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "from": [{"namespaceSelector": {"matchLabels": {_NAMESPACE: cluster.monitoring}}}],
            "ports": [{"port": METRICS_PORT, "protocol": "TCP"}],
        }],
        "egress": [
            {"to": [{"podSelector": brokers}],
             "ports": [{"port": KAFKA_PORT, "protocol": "TCP"}]},
            {"to": [{"namespaceSelector": {"matchLabels": {_NAMESPACE: "kube-system"}}}],
             "ports": dns},
        ],
    }  # fmt: skip
    return manifest(
        "networking.k8s.io/v1", "NetworkPolicy", pipeline.name, {"spec": spec},
        labelled=labels(pipeline),
    )  # fmt: skip


def monitor(pipeline: Pipeline) -> Manifest:
    """A PodMonitor, not a ServiceMonitor: a pod that is not ready yet is scraped too.

    Alerts and dashboards go by jobs with `anabranch` in their name.
    """
    spec = {
        "selector": {"matchLabels": selector(pipeline)},
        "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics", "interval": "15s"}],
    }
    return manifest(
        "monitoring.coreos.com/v1", "PodMonitor", f"anabranch-{pipeline.name}", {"spec": spec},
        labelled=labels(pipeline),
    )  # fmt: skip


def registry(pipeline: Pipeline) -> Manifest:
    """The claim of the volume with the models, which workers read and training writes."""
    spec = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return manifest(
        "v1", "PersistentVolumeClaim", f"{pipeline.name}-registry", {"spec": spec},
        labelled=labels(pipeline),
    )  # fmt: skip
