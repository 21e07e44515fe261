"""One component on Kubernetes: its StatefulSet, Service and disruption budget.

A StatefulSet and not a Deployment: a worker's name in its consumer group (ANABRANCH_INSTANCE_ID)
must be the same after a restart, and never be another one's at the same time. Only a StatefulSet
gives both: `card-fraud-features-0` is ended before it is started again. So a rolling update moves
no partition: each pod's partitions wait for its successor, the others go on. A Deployment would
start a further worker and end an old one, two rebalances of the whole group for every pod.
"""

from __future__ import annotations

from agents.manifests.kubernetes.configuration import config_name
from agents.manifests.kubernetes.names import (
    METRICS_PORT,
    Cluster,
    Manifest,
    labels,
    manifest,
    selector,
    workload_name,
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
from topics.pipeline import EXPLAINER, Pipeline, workers

GRACE_S = 30
"""From SIGTERM to SIGKILL: twice what a worker gets on one machine
(agents.process.child_process)."""
_MEMORY = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
"""Measured: 96-121 MB a worker. No CPU limit: a throttled worker is a late one."""
_STATEFUL_MEMORY = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}
"""Measured: 863 bytes an entity of 20 entries besides; a million of them need a patch."""
_EXPLAINER = {
    "requests": {"cpu": "50m", "memory": "256Mi"},
    "limits": {"cpu": "1", "memory": "512Mi"},
}
"""A fifth of a worker's share where cores are short, and never more than one."""


def workload(pipeline: Pipeline, component: str, cluster: Cluster) -> list[Manifest]:
    """What runs *component*."""
    name, labelled = workload_name(pipeline, component), labels(pipeline, component)
    chosen = {"matchLabels": selector(pipeline, component)}
    port = {"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics"}
    service = {
        "clusterIP": "None", "publishNotReadyAddresses": True,
        "selector": selector(pipeline, component), "ports": [port],
    }  # fmt: skip
    return [
        manifest("v1", "Service", name, {"spec": service}, labelled=labelled),
        _stateful_set(pipeline, component, cluster),
        manifest(
            "policy/v1", "PodDisruptionBudget", name,
            {"spec": {"maxUnavailable": 1, "selector": chosen}}, labelled=labelled,
        ),
    ]  # fmt: skip


def _stateful_set(pipeline: Pipeline, component: str, cluster: Cluster) -> Manifest:
    name, labelled = workload_name(pipeline, component), labels(pipeline, component)
    chosen = {"matchLabels": selector(pipeline, component)}
    spec = {
        # No replicas: they are the ScaledObject's.
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "minReadySeconds": 5,
        "updateStrategy": {"type": "RollingUpdate"},
        "selector": chosen,
        "template": {"metadata": {"labels": labelled}, "spec": _pod(pipeline, component, cluster)},
    }
    return manifest("apps/v1", "StatefulSet", name, {"spec": spec}, labelled=labelled)


def _pod(pipeline: Pipeline, component: str, cluster: Cluster) -> Manifest:
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(pipeline, component)},
    }  # fmt: skip
    own_name = {"fieldRef": {"fieldPath": "metadata.name"}}
    needs = (
        Needs(env=[{"name": "ANABRANCH_INSTANCE_ID", "valueFrom": own_name}])
        + login(pipeline, component, cluster)
        + config(config_name(pipeline, component))
        + registry(pipeline, cluster)
        + scratch("64Mi")
    )
    if cluster.otlp is not None:
        needs += Needs(env=[{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": cluster.otlp}])
    return pod(
        pipeline, cluster, _container(pipeline, component, cluster), needs,
        terminationGracePeriodSeconds=GRACE_S, topologySpreadConstraints=[spread],
    )  # fmt: skip


def _resources(component: str, *, stateful: bool) -> Manifest:
    if component == EXPLAINER:
        return _EXPLAINER
    return _STATEFUL_MEMORY if stateful else _MEMORY


def _container(pipeline: Pipeline, component: str, cluster: Cluster) -> Manifest:
    members = workers(pipeline).get(component, ())
    stateful = any(pipeline.component(name).windowed for name in members)
    return {
        "name": "worker",
        "image": cluster.image.name,
        "command": ["anabranch"],
        "args": [
            "run", f"{CONFIG}/pipeline.yaml", "--component", component, "--metrics-host",
            EVERYWHERE, "--metrics-port", str(METRICS_PORT),
        ],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        # The port opens once the broker has answered, which may take 30 s; then it joins its group.
        **probes(startup_s=120),
        "resources": _resources(component, stateful=stateful),
    }  # fmt: skip
