"""One component on Kubernetes: its StatefulSet, Service and disruption budget.

A StatefulSet and not a Deployment: a worker's name in its consumer group (ANABRANCH_INSTANCE_ID)
must be the same after a restart, and never be another one's at the same time. Only a StatefulSet
gives both: `card-fraud-features-0` is ended before it is started again. So a rolling update moves
no partition: each pod's partitions wait for its successor, the others go on. A Deployment would
start a further worker and end an old one, two rebalances of the whole group for every pod.
"""

from __future__ import annotations

from agents.manifests.kubernetes.names import (
    METRICS_PORT,
    Cluster,
    Manifest,
    labels,
    manifest,
    selector,
    user,
    workload_name,
)
from topics.pipeline import Pipeline, workers

GRACE_S = 30
"""From SIGTERM to SIGKILL: twice what a worker gets on one machine
(agents.process.child_process)."""
_CONFIG, _PASSWORD, _CA = "/etc/anabranch/pipeline", "/etc/anabranch/password", "/etc/anabranch/ca"
_REGISTRY = "/var/lib/anabranch/registry"
_TEMPORARY = "/tmp"  # noqa: S108  # the pod's own, all else is read-only
_EVERYWHERE = "0.0.0.0"  # noqa: S104  # in the pod's network, which a policy guards
_USER_ID = 10001
_MEMORY = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
"""Measured: 96-121 MB a worker. No CPU limit: a throttled worker is a late one."""
_STATEFUL_MEMORY = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}
"""Measured: 863 bytes an entity of 20 entries besides; a million of them need a patch."""


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
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "topologySpreadConstraints": [spread],
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": _USER_ID, "runAsGroup": _USER_ID,
            "fsGroup": _USER_ID, "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(pipeline, component, cluster)],
        "volumes": _volumes(pipeline, component, cluster),
    }  # fmt: skip


def _container(pipeline: Pipeline, component: str, cluster: Cluster) -> Manifest:
    health = {"httpGet": {"path": "/healthz", "port": "metrics"}, "timeoutSeconds": 3}
    ready = {"httpGet": {"path": "/readyz", "port": "metrics"}, "timeoutSeconds": 3}
    members = workers(pipeline).get(component, ())
    stateful = any(pipeline.component(name).windowed for name in members)
    return {
        "name": "worker",
        "image": cluster.image,
        "command": ["anabranch"],
        "args": [
            "run", f"{_CONFIG}/pipeline.yaml", "--component", component, "--metrics-host",
            _EVERYWHERE, "--metrics-port", str(METRICS_PORT),
        ],
        "env": _environment(pipeline, component, cluster),
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        # The port opens once the broker has answered, which may take 30 s; then it joins its group.
        "startupProbe": {**health, "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {**ready, "periodSeconds": 2, "failureThreshold": 3},
        "resources": _STATEFUL_MEMORY if stateful else _MEMORY,
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"readOnly": True} if name != "tmp" else {})}
            for name, path in (("pipeline", _CONFIG), ("password", _PASSWORD), ("ca", _CA),
                               ("registry", _REGISTRY), ("tmp", _TEMPORARY))
        ],
    }  # fmt: skip


def _environment(pipeline: Pipeline, component: str, cluster: Cluster) -> list[Manifest]:
    settings = {
        "ANABRANCH_BROKER": cluster.bootstrap,
        "ANABRANCH_TLS": "true",
        "ANABRANCH_TLS_CA": f"{_CA}/ca.crt",
        "ANABRANCH_SASL_MECHANISM": "SCRAM-SHA-512",
        "ANABRANCH_SASL_USERNAME": user(pipeline, component),
        "ANABRANCH_SASL_PASSWORD_FILE": f"{_PASSWORD}/password",
        "ANABRANCH_HOME": f"{_TEMPORARY}/anabranch",
        "ANABRANCH_REGISTRY": _REGISTRY,
    }
    own_name = {"fieldRef": {"fieldPath": "metadata.name"}}
    return [
        {"name": "ANABRANCH_INSTANCE_ID", "valueFrom": own_name},
        *({"name": name, "value": value} for name, value in settings.items()),
    ]


def _volumes(pipeline: Pipeline, component: str, cluster: Cluster) -> list[Manifest]:
    return [
        {"name": "pipeline", "configMap": {"name": f"{pipeline.name}-pipeline"}},
        {"name": "password", "secret": {
            "secretName": user(pipeline, component),
            "items": [{"key": "password", "path": "password"}], "defaultMode": 0o440}},
        {"name": "ca", "secret": {
            "secretName": f"{cluster.kafka}-cluster-ca-cert",
            "items": [{"key": "ca.crt", "path": "ca.crt"}], "defaultMode": 0o440}},
        {"name": "registry", "persistentVolumeClaim": {
            "claimName": f"{pipeline.name}-registry", "readOnly": True}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]  # fmt: skip
