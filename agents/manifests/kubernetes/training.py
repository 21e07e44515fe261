"""How models come into the registry: a training that is asked for, or that a schedule brings.

A CronJob that is suspended, not a Job: a Job cannot be changed once it is there, so the next image
or pipeline file would make `kubectl apply` fail. `kubectl create job --from=cronjob/PIPELINE-train
NAME` trains now; whoever takes `suspend` away has it done by the clock.
"""

from __future__ import annotations

from agents.manifests.kubernetes.names import (
    TRAIN,
    Cluster,
    Manifest,
    claim,
    labels,
    manifest,
    pipeline_config,
)
from agents.manifests.kubernetes.pod import CONFIG, Needs, config, pod, registry, scratch
from topics.pipeline import Pipeline

_DATA = "/data"
_WEEKLY = "0 3 * * 0"
_KEPT_S = 7 * 24 * 3600
"""For how long a training that is over can be looked at."""


def claim_of_models(pipeline: Pipeline) -> Manifest:
    """The claim of the volume with the models, which workers read and training writes."""
    spec = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return manifest(
        "v1", "PersistentVolumeClaim", claim(pipeline), {"spec": spec}, labelled=labels(pipeline)
    )


def training(pipeline: Pipeline, cluster: Cluster, *, rows: int | None) -> Manifest | None:
    """The CronJob that trains on *cluster*'s file, else on *rows* simulated ones; None without."""
    if cluster.training_data is not None:
        on = ["--data", f"{_DATA}/{cluster.training_data.file}"]
    elif rows is not None:
        on = ["--rows", str(rows)]
    else:
        return None
    labelled = labels(pipeline, TRAIN)
    container = {
        "name": "train",
        "image": cluster.train_image.name,
        "command": ["anabranch"],
        "args": ["train", f"{CONFIG}/pipeline.yaml", *on],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    }
    needs = (
        config(pipeline_config(pipeline))
        + registry(pipeline, cluster, read_only=False)
        + _data(cluster)
        + scratch("1Gi")
    )
    job = {
        "backoffLimit": 1,
        "ttlSecondsAfterFinished": _KEPT_S,
        "template": {
            "metadata": {"labels": labelled},
            "spec": pod(pipeline, cluster, container, needs, restartPolicy="Never"),
        },
    }
    spec = {
        "schedule": _WEEKLY,
        "suspend": True,
        "concurrencyPolicy": "Forbid",
        "jobTemplate": {"metadata": {"labels": labelled}, "spec": job},
    }
    name = f"{pipeline.name}-{TRAIN}"
    return manifest("batch/v1", "CronJob", name, {"spec": spec}, labelled=labelled)


def _data(cluster: Cluster) -> Needs:
    if cluster.training_data is None:
        return Needs()
    volume = {"claimName": cluster.training_data.claim, "readOnly": True}
    return Needs(
        volumes=[{"name": "data", "persistentVolumeClaim": volume}],
        mounts=[{"name": "data", "mountPath": _DATA, "readOnly": True}],
    )
