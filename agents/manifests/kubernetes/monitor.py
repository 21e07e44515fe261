"""The monitor on Kubernetes: a Deployment of one pod, which holds decisions against outcomes.

A pod that dies is replaced, and the next goes on where it was; a second one would stand by. What
waits for outcomes is scratch: it is made again from the topics.
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
from topics.pipeline import MONITOR, Pipeline


def monitor(pipeline: Pipeline, cluster: Cluster) -> Manifest:
    """What says how good decisions of *pipeline* are."""
    labelled = labels(pipeline, MONITOR)
    container = {
        "name": MONITOR,
        "image": cluster.train_image.name,  # what watches for drift is not in the one that serves
        "command": ["anabranch"],
        "args": [
            "monitor", f"{CONFIG}/pipeline.yaml", "--metrics-host", EVERYWHERE, "--metrics-port",
            str(METRICS_PORT),
        ],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        **probes(startup_s=120),
        "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
    }  # fmt: skip
    needs = (
        login(pipeline, MONITOR, cluster)
        + config(pipeline_config(pipeline))
        + registry(pipeline, cluster, read_only=not pipeline.weighting.is_moved)
        + scratch("4Gi")
    )
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": selector(pipeline, MONITOR)},
        "template": {
            "metadata": {"labels": labelled}, "spec": pod(pipeline, cluster, container, needs),
        },
    }  # fmt: skip
    name = f"{pipeline.name}-{MONITOR}"
    return manifest("apps/v1", "Deployment", name, {"spec": spec}, labelled=labelled)
