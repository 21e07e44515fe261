"""How many workers a component has: KEDA looks at what its consumer groups have not committed.

Offsets are committed once a second, so a group at a steady rate is always behind by about what a
second brings. For events that is the rate itself: a threshold of what one worker does in a second,
with room to spare, asks for one worker per so many events a second, and for more with a backlog.
Stage topics carry micro-batches, whose number hardly follows the rate (a batch is whatever has
come): there the threshold lies above what a second may bring at any rate, and backlog alone counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from agents.manifests.kubernetes.names import (
    Cluster,
    Manifest,
    labels,
    manifest,
    user,
    workload_name,
)
from topics.pipeline import EXPLAINER, Pipeline, Topology, inputs_of, workers
from topics.records import SCALER

EVENTS_PER_WORKER = 20_000
"""Uncommitted events a worker may have: a third of what one did in a second in `make bench`. Of the
explainer they are decisions, of which most need no explanation."""
BATCHES_PER_PARTITION = 200
"""Uncommitted micro-batches of a partition that are no backlog yet: one every 5 ms for a second."""
_SCALE_DOWN_S = 600
"""Every change of the number of workers is a rebalance; and a worker of a StatefulSet that is
scaled away is missed only when its session has timed out, because its name could come back."""


def lag_sources(pipeline: Pipeline, component: str) -> Iterator[tuple[str, str]]:
    """Consumer group and topic of everything that *component* reads, but for redriven letters."""
    topology = Topology.of(pipeline)
    if component == EXPLAINER:
        yield topology.group(component), topology.decisions
        return
    if component in topology.repartitioned:
        for source in topology.sources_of(component):
            yield topology.group(f"{component}.keyed"), source
        yield topology.group(component), topology.keyed(component)
        return
    members = workers(pipeline).get(component, ())
    for name in inputs_of(pipeline, members) if members else pipeline.weighting.inputs:
        yield topology.group(component), topology.stage(name)


def autoscaling(
    pipeline: Pipeline, component: str, cluster: Cluster, *, least: int = 1
) -> Manifest:
    """The ScaledObject of *component*: no more workers than partitions."""
    name = workload_name(pipeline, component)
    down = {
        "stabilizationWindowSeconds": _SCALE_DOWN_S,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name},
        "minReplicaCount": least,
        "maxReplicaCount": pipeline.partitions,
        "pollingInterval": 15,
        "fallback": {"failureThreshold": 4, "replicas": min(max(least, 2), pipeline.partitions)},
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": down}}},
        "triggers": [
            _trigger(pipeline, group, topic, cluster)
            for group, topic in lag_sources(pipeline, component)
        ],
    }
    labelled = labels(pipeline, component)
    return manifest("keda.sh/v1alpha1", "ScaledObject", name, {"spec": spec}, labelled=labelled)


def _trigger(pipeline: Pipeline, group: str, topic: str, cluster: Cluster) -> Manifest:
    topology = Topology.of(pipeline)
    raw = topic in (*topology.sources, topology.decisions)
    threshold = EVENTS_PER_WORKER if raw else BATCHES_PER_PARTITION * pipeline.partitions
    return {
        "type": "kafka",
        "metadata": {
            "bootstrapServers": cluster.bootstrap, "consumerGroup": group, "topic": topic,
            "lagThreshold": str(threshold), "offsetResetPolicy": "earliest",
            "allowIdleConsumers": "false",
        },
        "authenticationRef": {"name": f"{pipeline.name}-scaler"},
    }  # fmt: skip


def authentication(pipeline: Pipeline, cluster: Cluster) -> Manifest:
    """How KEDA logs in: as a user that sees lag and no record."""
    who, settings = user(pipeline, SCALER), f"{pipeline.name}-scaler"
    plain = [
        {"parameter": name, "name": settings, "key": name} for name in ("username", "sasl", "tls")
    ]
    secret = [
        {"parameter": "password", "name": who, "key": "password"},
        {"parameter": "ca", "name": cluster.ca_secret, "key": "ca.crt"},
    ]
    return manifest(
        "keda.sh/v1alpha1", "TriggerAuthentication", settings,
        {"spec": {"configMapTargetRef": plain, "secretTargetRef": secret}},
        labelled=labels(pipeline),
    )  # fmt: skip


def login(pipeline: Pipeline) -> list[str]:
    """What is no secret of KEDA's login, as literals of a ConfigMap."""
    return [f"username={user(pipeline, SCALER)}", "sasl=scram_sha512", "tls=enable"]
