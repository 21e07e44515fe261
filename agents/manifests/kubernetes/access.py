"""Topics and users on the broker, as Strimzi's operators make them."""

from __future__ import annotations

from itertools import groupby

from agents.manifests.kubernetes.names import Cluster, Manifest, labels, manifest
from topics.pipeline import Pipeline, Topology
from topics.records import Acl, acls, topic_configs

_TYPES = {"transactional-id": "transactionalId"}
_PATTERNS = {"literal": "literal", "prefixed": "prefix"}
"""Strimzi's own words."""

_REFLECTOR = "reflector.v1.k8s.emberstack.com"
"""https://github.com/emberstack/kubernetes-reflector"""

API = "kafka.strimzi.io/v1"


def topics(pipeline: Pipeline, cluster: Cluster) -> list[Manifest]:
    """A KafkaTopic for every topic, as `anabranch topics --create` makes them."""
    topology = Topology.of(pipeline)
    configs = topic_configs(topology)
    return [
        _resource("KafkaTopic", topic, pipeline, cluster, {
            "partitions": topology.partitions, "replicas": 3,
            "config": _numbers({"min.insync.replicas": "2", **configs.get(topic, {})}),
        })
        for topic in (*topology.all, topology.requests, *_of_monitor(topology, cluster))
    ]  # fmt: skip


def _of_monitor(topology: Topology, cluster: Cluster) -> list[str]:
    """What a monitor needs besides, without those that are there anyway."""
    if not cluster.monitor:
        return []
    needed = (topology.outcomes, *topology.of_monitor)
    return [topic for topic in needed if topic not in topology.all]


def users(pipeline: Pipeline, cluster: Cluster) -> list[Manifest]:
    """A KafkaUser for everybody who has rights, with these and no more."""
    by_user = groupby(sorted(acls(pipeline), key=lambda acl: acl.principal), _principal)
    return [
        _resource("KafkaUser", who, pipeline, cluster, {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": _rules(list(of))},
            **_reflected(cluster),
        })
        for who, of in by_user
    ]  # fmt: skip


def _reflected(cluster: Cluster) -> Manifest:
    """Lets Reflector copy the password into the pods' namespace, where that is not Kafka's."""
    if cluster.namespace == cluster.kafka_namespace:
        return {}
    annotations = {
        f"{_REFLECTOR}/reflection-allowed": "true",
        f"{_REFLECTOR}/reflection-allowed-namespaces": cluster.namespace,
        f"{_REFLECTOR}/reflection-auto-enabled": "true",
        f"{_REFLECTOR}/reflection-auto-namespaces": cluster.namespace,
    }
    return {"template": {"secret": {"metadata": {"annotations": annotations}}}}


def _principal(acl: Acl) -> str:
    return acl.principal


def _rules(of: list[Acl]) -> list[Manifest]:
    rules: dict[tuple[str, str, str], list[str]] = {}
    for acl in of:
        operations = rules.setdefault((acl.resource, acl.name, acl.pattern), [])
        if acl.operation.capitalize() not in operations:
            operations.append(acl.operation.capitalize())
    return [
        {
            "resource": {
                "type": _TYPES.get(kind, kind),
                "name": name,
                "patternType": _PATTERNS[pattern],
            },
            "operations": may,
        }
        for (kind, name, pattern), may in rules.items()
    ]


def _numbers(config: dict[str, str]) -> dict[str, str | int]:
    return {name: int(value) if value.isdigit() else value for name, value in config.items()}


def _resource(
    kind: str, name: str, pipeline: Pipeline, cluster: Cluster, spec: Manifest
) -> Manifest:
    labelled = {**labels(pipeline), "strimzi.io/cluster": cluster.kafka}
    return manifest(API, kind, name, {"spec": spec}, labelled=labelled)
