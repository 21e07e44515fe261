"""The gateway on Kubernetes: its Deployment and Service, who reaches it, and how many there are.

A Deployment, as gateways keep nothing and are in no consumer group: any of them answers. Their
number follows the processor time that requests take, of which one gateway uses a core at most. Who
may ask is in a Secret that is not made here; without it pods do not start.
"""

from __future__ import annotations

from collections.abc import Iterator

from agents.manifests.kubernetes.names import (
    GATEWAY,
    METRICS_PORT,
    Cluster,
    Manifest,
    labels,
    manifest,
    pipeline_config,
    selector,
)
from agents.manifests.kubernetes.pod import (
    CONFIG,
    EVERYWHERE,
    Needs,
    config,
    login,
    pod,
    probes,
    registry,
    scratch,
)
from agents.manifests.kubernetes.surroundings import namespace_selector
from topics.pipeline import Pipeline
from topics.records import GATEWAY as GATEWAY_USER

PORT = 8080
_KEYS, _TLS = "/etc/anabranch/keys", "/etc/anabranch/tls"
_LEAST, _MOST, _CPU_PERCENT = 2, 10, 80
_GRACE_S, _DRAIN_S = 30, 5
"""Requests still come for a moment after a pod was told to end; those that are there have 10 s."""


def gateway(pipeline: Pipeline, cluster: Cluster) -> Iterator[Manifest]:
    """Everything of the gateway but its user on the broker."""
    name, labelled = f"{pipeline.name}-{GATEWAY}", labels(pipeline, GATEWAY)
    chosen = {"matchLabels": selector(pipeline, GATEWAY)}

    def resource(api: str, kind: str, spec: Manifest) -> Manifest:
        return manifest(api, kind, name, {"spec": spec}, labelled=labelled)

    port = 443 if cluster.gateway_tls else 80
    yield resource("apps/v1", "Deployment", {
        # No replicas: they are the autoscaler's.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
        "minReadySeconds": 5,
        "selector": chosen,
        "template": {"metadata": {"labels": labelled}, "spec": _pod(pipeline, cluster)},
    })  # fmt: skip
    yield resource("v1", "Service", {
        "selector": selector(pipeline, GATEWAY),
        "ports": [{"name": "http", "port": port, "targetPort": "http"}],
    })  # fmt: skip
    yield resource("policy/v1", "PodDisruptionBudget", {"maxUnavailable": 1, "selector": chosen})
    yield resource("autoscaling/v2", "HorizontalPodAutoscaler", {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": _LEAST, "maxReplicas": _MOST,
        "metrics": [{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": _CPU_PERCENT},
        }}],
    })  # fmt: skip
    yield resource("networking.k8s.io/v1", "NetworkPolicy", {
        "podSelector": chosen, "policyTypes": ["Ingress"],
        "ingress": [{
            "from": [{"podSelector": {}}, *map(namespace_selector, cluster.gateway_from)],
            "ports": [{"port": PORT, "protocol": "TCP"}],
        }],
    })  # fmt: skip
    if cluster.gateway_host is not None:
        backend = {"service": {"name": name, "port": {"name": "http"}}}
        by_class = {} if cluster.ingress_class is None else {
            "ingressClassName": cluster.ingress_class,
        }  # fmt: skip
        yield resource("networking.k8s.io/v1", "Ingress", {
            **by_class,
            "tls": [{"hosts": [cluster.gateway_host], "secretName": _tls_secret(pipeline)}],
            "rules": [{"host": cluster.gateway_host, "http": {
                "paths": [{"path": "/", "pathType": "Prefix", "backend": backend}],
            }}],
        })  # fmt: skip


def _pod(pipeline: Pipeline, cluster: Cluster) -> Manifest:
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(pipeline, GATEWAY)},
    }  # fmt: skip
    needs = (
        login(pipeline, GATEWAY_USER, cluster)
        + config(pipeline_config(pipeline))
        + registry(pipeline, cluster)
        + scratch("64Mi")
        + _secret_files("keys", f"{pipeline.name}-gateway-keys", _KEYS, "keys.txt")
    )
    tls: list[str] = []
    if cluster.gateway_tls:
        needs += _secret_files("tls", _tls_secret(pipeline), _TLS, "tls.crt", "tls.key")
        tls = ["--tls-certificate", f"{_TLS}/tls.crt", "--tls-key", f"{_TLS}/tls.key"]
    container = {
        "name": GATEWAY,
        "image": cluster.image.name,
        "command": ["anabranch"],
        "args": [
            "gateway", f"{CONFIG}/pipeline.yaml", "--host", EVERYWHERE, "--port", str(PORT),
            "--keys", f"{_KEYS}/keys.txt", *tls, "--metrics-host", EVERYWHERE, "--metrics-port",
            str(METRICS_PORT),
        ],
        "ports": [
            {"name": "http", "containerPort": PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        **probes(startup_s=120),
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN_S}}},
        "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    }  # fmt: skip
    return pod(
        pipeline, cluster, container, needs,
        terminationGracePeriodSeconds=_GRACE_S, topologySpreadConstraints=[spread],
    )  # fmt: skip


def _tls_secret(pipeline: Pipeline) -> str:
    """Of type kubernetes.io/tls, as cert-manager makes them."""
    return f"{pipeline.name}-gateway-tls"


def _secret_files(volume: str, secret: str, at: str, *files: str) -> Needs:
    items = [{"key": file, "path": file} for file in files]
    content = {"secretName": secret, "items": items, "defaultMode": 0o440}
    return Needs(
        volumes=[{"name": volume, "secret": content}],
        mounts=[{"name": volume, "mountPath": at, "readOnly": True}],
    )
