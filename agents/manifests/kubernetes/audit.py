"""The audit that runs beside a pipeline, as the operator, and where an operator's commands run."""

from __future__ import annotations

from agents.manifests.kubernetes.names import (
    AUDIT,
    METRICS_PORT,
    Cluster,
    Manifest,
    labels,
    manifest,
    pipeline_config,
    selector,
)
from agents.manifests.kubernetes.pod import (
    EVERYWHERE,
    config,
    login,
    pod,
    probes,
    registry,
    scratch,
)
from topics.pipeline import Pipeline
from topics.records import OPERATOR

_HOME = "/var/lib/anabranch"
_BY_NAME = f"{_HOME}/deploy/pipelines"
"""Where commands that run in _HOME find a pipeline file by the pipeline's name."""


def audit(pipeline: Pipeline, cluster: Cluster) -> Manifest:
    """A Deployment of one pod: it reads the topics outside of any group, a second one is no help.

    `kubectl exec deployment/PIPELINE-audit -- anabranch status PIPELINE` is how an operator asks:
    the pod has the deployed file, by the pipeline's name, the operator's rights, and the models.
    """
    labelled = labels(pipeline, AUDIT)
    container = {
        "name": "audit",
        "image": cluster.image.name,
        "workingDir": _HOME,
        "command": ["anabranch"],
        "args": [
            "audit", pipeline.name, "--follow", "--metrics-host", EVERYWHERE, "--metrics-port",
            str(METRICS_PORT),
        ],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        **probes(startup_s=120),
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    }  # fmt: skip
    needs = (
        login(pipeline, OPERATOR, cluster)
        + config(pipeline_config(pipeline), at=_BY_NAME, file=f"{pipeline.name}.yaml")
        + registry(pipeline, cluster)
        + scratch("64Mi")
    )
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": selector(pipeline, AUDIT)},
        "template": {
            "metadata": {"labels": labelled}, "spec": pod(pipeline, cluster, container, needs),
        },
    }  # fmt: skip
    name = f"{pipeline.name}-{AUDIT}"
    return manifest("apps/v1", "Deployment", name, {"spec": spec}, labelled=labelled)
