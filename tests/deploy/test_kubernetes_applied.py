"""Manifests as an API server takes them: checked, admitted and kept, with everybody's rules."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from agents.manifests.kubernetes.files import write
from agents.manifests.kubernetes.names import Cluster, Image, TrainingData
from tests.deploy.api_server import ApiServer, Refused, api_server
from tests.deploy.manifests import (
    COMMITTED,
    NAMES,
    ROOT,
    Manifest,
    built,
    of_kind,
    source,
    strings,
    whole,
    written,
)
from topics.pipeline.schema import Pipeline

pytestmark = pytest.mark.kubernetes

ELSEWHERE = Cluster(
    kafka="central", kafka_namespace="streams", namespace="fraud",
    image=Image.model_validate("registry.example/anabranch@sha256:" + 64 * "0"), registry="s3://models/fraud",
    training_data=TrainingData(claim="history", file="may.parquet"),
    monitor_labels={"release": "prometheus"}, openshift=True, gateway=True,
    gateway_host="fraud.example.org", gateway_from=("ingress-nginx",),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api-server")) as running:
        running.namespaced("kafka", "streams", "fraud")
        yield running


@pytest.fixture
def cluster(server: ApiServer) -> Cluster:
    """Kafka and all else in a namespace of the test's own."""
    name = f"test-{uuid4().hex}"
    server.namespaced(name)
    return Cluster(kafka_namespace=name, namespace=name)


@pytest.mark.parametrize("overlay", ["dev", "production"])
@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_is_taken_whole(
    name: str, overlay: str, server: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    manifests = built(written(name, tmp_path, cluster), overlay)
    assert len(server.apply(manifests)) == len(manifests)
    kinds = Counter(each["kind"] for each in manifests)
    assert kinds["PrometheusRule"] == kinds["CronJob"] == kinds["Deployment"] == 1
    assert kinds["KafkaTopic"] > kinds["StatefulSet"] == kinds["ScaledObject"] > 1


@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_the_committed_overlays_are_taken(overlay: str, server: ApiServer) -> None:
    manifests = built(COMMITTED, overlay)
    assert len(server.apply(manifests, "--dry-run=server")) == len(manifests)


def test_workers_elsewhere_are_taken_with_every_option(server: ApiServer, tmp_path: Path) -> None:
    manifests = built(written("card-fraud", tmp_path, ELSEWHERE), "production")
    assert len(server.apply(manifests)) == len(manifests)
    assert len(server.get("kafkausers", "streams")) > 5
    assert not server.get("kafkausers", "fraud")
    assert set(server.get("statefulsets", "fraud")) == set(of_kind(manifests, "StatefulSet"))


def pods_of(manifests: list[Manifest], namespace: str) -> list[Manifest]:
    """The pods that controllers would make of *manifests*."""
    templates = [
        each["spec"].get("template") or each["spec"]["jobTemplate"]["spec"]["template"]
        for each in manifests
        if each["kind"] in ("StatefulSet", "Deployment", "CronJob")
    ]
    return [
        {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
         "metadata": {"name": f"pod-{number}", "namespace": namespace, **template["metadata"]}}
        for number, template in enumerate(templates)
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_its_pods_are_admitted_where_pods_must_be_restricted(
    name: str, server: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    manifests = built(written(name, tmp_path, cluster), "production")
    server.apply(manifests)
    pods = pods_of(manifests, cluster.namespace)
    assert len(server.apply(pods, "--dry-run=server")) == len(pods)
    pods[0]["spec"]["containers"][0]["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"]}
    with pytest.raises(Refused, match="violates PodSecurity"):
        server.apply(pods, "--dry-run=server")


def generations(server: ApiServer, namespace: str) -> dict[str, int]:
    """How often each StatefulSet was changed: its pods are replaced with each change of them."""
    sets = server.get("statefulsets", namespace)
    return {name: each["metadata"]["generation"] for name, each in sets.items()}


def test_a_changed_component_is_rolled_and_no_other(
    server: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    namespace = cluster.namespace
    server.apply(built(written("card-fraud", tmp_path, cluster), "production"))
    before = generations(server, namespace)
    text = source("card-fraud").replace("n_estimators: 30", "n_estimators: 31")
    changed = Pipeline.model_validate(yaml.safe_load(text))
    write(tmp_path, whole("card-fraud")._replace(pipeline=changed, text=text), cluster)
    server.apply(built(tmp_path, "production"))
    after = generations(server, namespace)
    assert len(before) == 6
    assert {name for name in after if after[name] != before[name]} == {"card-fraud-risk-forest"}
    (mounted,) = [
        volume["configMap"]["name"]
        for volume in server.get("statefulsets", namespace)["card-fraud-risk-forest"]["spec"][
            "template"
        ]["spec"]["volumes"]
        if volume["name"] == "pipeline"
    ]
    kept = server.get("configmaps", namespace)
    assert "n_estimators: 31" in kept[mounted]["data"]["pipeline.yaml"]
    of_weigh = [name for name in kept if name.startswith("card-fraud-weigh-")]
    assert any("n_estimators: 31" in kept[name]["data"]["pipeline.yaml"] for name in of_weigh)


def test_a_training_is_made_when_it_is_asked_for_and_applying_goes_on(
    server: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    namespace = cluster.namespace
    folder = written("card-fraud", tmp_path, cluster)
    server.apply(built(folder, "production"))
    server.kubectl(
        "create", "job", "-n", namespace, "--from=cronjob/card-fraud-train", "card-fraud-train-1"
    )
    job = server.get("jobs", namespace)["card-fraud-train-1"]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"][0] == "train"
    overlay = folder / "overlays/production/kustomization.yaml"
    overlay.write_text(overlay.read_text().replace("0.1.0", "0.2.0"))
    server.apply(built(folder, "production"))
    (container,) = server.get("cronjobs", namespace)["card-fraud-train"]["spec"]["jobTemplate"][
        "spec"
    ]["template"]["spec"]["containers"]
    assert container["image"] == "anabranch-train:0.2.0"


def page_commands(beginning: str) -> list[str]:
    """The commands of the page that begin so, each on one line."""
    text = (ROOT / "deploy/kubernetes/README.md").read_text().replace("\\\n", "")
    lines = re.findall(r"^    (\S.*)$", text, flags=re.MULTILINE)
    commands = [line for line in lines if line.startswith(beginning)]
    assert commands
    return commands


def test_the_pages_way_to_a_pod_that_takes_models_is_taken(
    server: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    namespace = cluster.namespace
    server.apply(built(written("card-fraud", tmp_path, cluster), "production"))
    for command in page_commands("kubectl -n kafka create job"):
        server.shell(command.replace("-n kafka", f"-n {namespace}"))
    jobs = server.get("jobs", namespace)
    assert set(jobs) == {"card-fraud-train-1", "upload"}
    pod = jobs["upload"]["spec"]["template"]["spec"]
    assert (pod["containers"][0]["command"], pod["containers"][0]["args"]) == (["sleep"], ["600"])
    assert "/var/lib/anabranch/registry" in list(strings(pod["containers"][0]["volumeMounts"]))


def test_the_pages_copies_of_secrets_are_those_that_pods_elsewhere_mount(
    server: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    streams, fraud = cluster.namespace, f"{cluster.namespace}-fraud"
    server.namespaced(fraud)
    apart = cluster.model_copy(update={"namespace": fraud})
    manifests = built(written("card-fraud", tmp_path, apart), "production")
    server.apply(manifests)
    # As Strimzi makes them: of a user with the user's labels.
    labels = {"app.kubernetes.io/part-of": "card-fraud", "strimzi.io/kind": "KafkaUser"}
    made = dict.fromkeys(server.get("kafkausers", streams), labels)
    server.apply([
        {"apiVersion": "v1", "kind": "Secret", "stringData": {"password": "p", "ca.crt": "c"},
         "metadata": {"name": name, "namespace": streams, "labels": labelled}}
        for name, labelled in {**made, "kafka-cluster-ca-cert": {}, "another": {}}.items()
    ])  # fmt: skip
    for command in page_commands("kubectl -n kafka get secret"):
        server.shell(
            command.replace("-n kafka", f"-n {streams}").replace("-n fraud", f"-n {fraud}")
        )
    copied = set(server.get("secrets", fraud))
    assert copied == {*made, "kafka-cluster-ca-cert"}
    for pod in pods_of(manifests, fraud):
        mounted = {
            each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each
        }
        assert mounted <= copied


def first(manifests: list[Manifest], kind: str) -> Manifest:
    """A copy of one of *kind*, to be spoilt."""
    copy: Any = json.loads(json.dumps(next(iter(of_kind(manifests, kind).values()))))
    return dict(copy)


@pytest.mark.parametrize(("kind", "spoil", "reason"), [
    ("StatefulSet", {"replica": 3}, "field not declared"),
    ("KafkaTopic", {"partition": 3}, "field not declared"),
    ("KafkaTopic", {"partitions": 0}, "greater than or equal to 1"),
    ("KafkaUser", {"authentication": {"type": "kerberos"}}, "kerberos"),
    ("ScaledObject", {"triggers": "kafka"}, "triggers"),
    ("ScaledObject", {"maxReplicas": 3}, "field not declared"),
    ("PodMonitor", {"podMetricsEndpoints": [{"interval": "often"}]}, "interval"),
    ("PrometheusRule", {"groups": [{"name": "", "rules": []}]}, "name"),
    ("NetworkPolicy", {"egress": [{"to": [{"ipBlock": {"cidr": "here"}}]}]}, "cidr"),
    ("CronJob", {"schedule": "sometimes"}, "schedule"),
])  # fmt: skip
def test_what_is_wrong_is_refused(
    kind: str, spoil: dict[str, Any], reason: str, server: ApiServer, tmp_path: Path
) -> None:
    """So that being taken means something."""
    manifest = first(built(written("card-fraud", tmp_path), "dev"), kind)
    manifest["spec"].update(spoil)
    manifest["metadata"]["name"] += "-spoilt"
    with pytest.raises(Refused, match=reason):
        server.apply([manifest])
