"""What every pod of ours has: what it may not do, its login at the broker, files and models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agents.manifests.kubernetes.names import Cluster, Manifest, claim, user
from topics.pipeline import Pipeline

CONFIG = "/etc/anabranch/pipeline"
REGISTRY = "/var/lib/anabranch/registry"
_PASSWORD, _CA = "/etc/anabranch/password", "/etc/anabranch/ca"
_TEMPORARY = "/tmp"  # noqa: S108  # the pod's own, all else is read-only
_USER_ID = 10001
EVERYWHERE = "0.0.0.0"  # noqa: S104  # in the pod's network, which a policy guards


class Needs(NamedTuple):
    """What a container needs of its pod, and how it finds that."""

    env: Sequence[Manifest] = ()
    env_from: Sequence[Manifest] = ()
    volumes: Sequence[Manifest] = ()
    mounts: Sequence[Manifest] = ()

    def __add__(self, other: object) -> Needs:
        """Both."""
        if not isinstance(other, Needs):
            return NotImplemented
        return Needs(*([*mine, *theirs] for mine, theirs in zip(self, other, strict=True)))


def pod(
    pipeline: Pipeline, cluster: Cluster, container: Manifest, needs: Needs, **more: object
) -> Manifest:
    """A pod of one container, as restricted as Kubernetes' `restricted` level wants it."""
    user_and_groups = {
        "runAsUser": _USER_ID, "runAsGroup": _USER_ID, "fsGroup": _USER_ID,
    }  # fmt: skip
    return {
        "serviceAccountName": pipeline.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **more,
        "securityContext": {
            "runAsNonRoot": True,
            **({} if cluster.openshift else user_and_groups),
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            **container,
            "env": list(needs.env),
            **({"envFrom": list(needs.env_from)} if needs.env_from else {}),
            "securityContext": {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": list(needs.mounts),
        }],
        "volumes": list(needs.volumes),
    }  # fmt: skip


def probes(*, startup_s: int) -> Manifest:
    """Of a process that answers /healthz, at the latest *startup_s* after its start."""
    health = {"httpGet": {"path": "/healthz", "port": "metrics"}, "timeoutSeconds": 3}
    ready = {"httpGet": {"path": "/readyz", "port": "metrics"}, "timeoutSeconds": 3}
    return {
        "startupProbe": {**health, "periodSeconds": 2, "failureThreshold": startup_s // 2},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {**ready, "periodSeconds": 2, "failureThreshold": 3},
    }


def config(name: str, *, at: str = CONFIG, file: str = "pipeline.yaml") -> Needs:
    """The pipeline file of ConfigMap *name*, as *file* in folder *at*."""
    items = [{"key": "pipeline.yaml", "path": file}]
    return Needs(
        volumes=[{"name": "pipeline", "configMap": {"name": name, "items": items}}],
        mounts=[{"name": "pipeline", "mountPath": at, "readOnly": True}],
    )


def login(pipeline: Pipeline, who: str, cluster: Cluster) -> Needs:
    """The broker, and how to log in there as the user of component *who*."""
    settings = {
        "ANABRANCH_BROKER": cluster.bootstrap,
        "ANABRANCH_TLS": "true",
        "ANABRANCH_TLS_CA": f"{_CA}/ca.crt",
        "ANABRANCH_SASL_MECHANISM": "SCRAM-SHA-512",
        "ANABRANCH_SASL_USERNAME": user(pipeline, who),
        "ANABRANCH_SASL_PASSWORD_FILE": f"{_PASSWORD}/password",
    }
    return Needs(
        env=[{"name": name, "value": value} for name, value in settings.items()],
        volumes=[
            _secret("password", user(pipeline, who), "password"),
            _secret("ca", cluster.ca_secret, "ca.crt"),
        ],
        mounts=[
            {"name": "password", "mountPath": _PASSWORD, "readOnly": True},
            {"name": "ca", "mountPath": _CA, "readOnly": True},
        ],
    )


def registry(pipeline: Pipeline, cluster: Cluster, *, read_only: bool = True) -> Needs:
    """The models: on the claim, or at a URL, with what is needed to log in there."""
    if cluster.registry is not None:
        logins = {"secretRef": {"name": claim(pipeline), "optional": True}}
        return Needs([{"name": "ANABRANCH_REGISTRY", "value": cluster.registry}], [logins])
    volume = {"claimName": claim(pipeline), **({"readOnly": True} if read_only else {})}
    mount = {"name": "registry", "mountPath": REGISTRY}
    return Needs(
        env=[{"name": "ANABRANCH_REGISTRY", "value": REGISTRY}],
        volumes=[{"name": "registry", "persistentVolumeClaim": volume}],
        mounts=[{**mount, **({"readOnly": True} if read_only else {})}],
    )


def scratch(size: str) -> Needs:
    """The only place where the process may write, and where it keeps what is its own."""
    return Needs(
        env=[{"name": "ANABRANCH_HOME", "value": f"{_TEMPORARY}/anabranch"}],
        volumes=[{"name": "tmp", "emptyDir": {"sizeLimit": size}}],
        mounts=[{"name": "tmp", "mountPath": _TEMPORARY}],
    )


def _secret(volume: str, secret: str, key: str) -> Manifest:
    items = [{"key": key, "path": key}]
    return {
        "name": volume, "secret": {"secretName": secret, "items": items, "defaultMode": 0o440},
    }  # fmt: skip
