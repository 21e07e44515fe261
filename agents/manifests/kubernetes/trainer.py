"""The trainer on Kubernetes: a Deployment of one pod, where the pipeline file asks for renewals.

A pod that dies is replaced, and the next goes on where it was; a second one would stand by. Its
data sets are scratch: where they are gone they are built again.
"""

from __future__ import annotations

from agents.manifests.kubernetes.names import (
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
    config,
    login,
    pod,
    probes,
    registry,
    scratch,
)
from topics.pipeline import TRAINER, Pipeline


def trainer(pipeline: Pipeline, cluster: Cluster) -> Manifest:
    """What renews the models of *pipeline*."""
    labelled = labels(pipeline, TRAINER)
    container = {
        "name": TRAINER,
        "image": cluster.train_image.name,
        "command": ["anabranch"],
        "args": [
            "renew", f"{CONFIG}/pipeline.yaml", "--metrics-host", EVERYWHERE, "--metrics-port",
            str(METRICS_PORT),
        ],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        **probes(startup_s=120),
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    }  # fmt: skip
    needs = (
        login(pipeline, TRAINER, cluster)
        + config(pipeline_config(pipeline))
        + registry(pipeline, cluster, read_only=False)
        + scratch("4Gi")
    )
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": selector(pipeline, TRAINER)},
        "template": {
            "metadata": {"labels": labelled}, "spec": pod(pipeline, cluster, container, needs),
        },
    }  # fmt: skip
    name = f"{pipeline.name}-{TRAINER}"
    return manifest("apps/v1", "Deployment", name, {"spec": spec}, labelled=labelled)
