"""What the manifests of every pipeline say, held against the code that they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from agents.cli import app
from agents.commands.event_loop import LEFTOVERS_S
from agents.manifests.kubernetes.files import write
from agents.manifests.kubernetes.names import (
    METRICS_PORT,
    Cluster,
    NameUnusable,
    components,
    workload_name,
)
from agents.manifests.kubernetes.scaling import lag_sources
from agents.manifests.kubernetes.workload import GRACE_S
from agents.process import child_process as worker_process
from agents.process import runner, tasks
from tests.deploy.manifests import (
    COMMITTED,
    FUSED,
    NAMES,
    Manifest,
    built,
    generated,
    of_kind,
    pipeline,
    resources,
    strings,
    written,
)
from topics.pipeline.topology import Topology
from topics.records.broker_setup import acls, topic_configs
from topics.settings import BrokerSettings, HomeSettings, SecuritySettings


def pods(name: str) -> dict[str, Manifest]:
    sets = of_kind(resources(name), "StatefulSet")
    return {name: each["spec"]["template"]["spec"] for name, each in sets.items()}


def test_the_committed_base_is_what_the_command_makes_of_the_pipeline_file() -> None:
    made = {path: text for path, text in generated("card-fraud").items() if path.startswith("base")}
    found = [path for path in (COMMITTED / "base").rglob("*") if path.is_file()]
    committed = {path.relative_to(COMMITTED).as_posix(): path.read_text() for path in found}
    assert committed == made, "stale: anabranch deploy kubernetes card-fraud"


@pytest.mark.parametrize("name", NAMES)
def test_every_component_and_the_weighting_agent_has_what_it_needs(name: str) -> None:
    found, made = resources(name), pipeline(name)
    expected = {workload_name(made, each) for each in components(made)}
    for kind in ("StatefulSet", "Service", "PodDisruptionBudget", "ScaledObject"):
        assert set(of_kind(found, kind)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_topic_is_made_as_the_code_makes_it(name: str) -> None:
    topology = Topology.of(pipeline(name))
    topics, configs = of_kind(resources(name), "KafkaTopic"), topic_configs(topology)
    assert set(topics) == set(topology.all)
    for topic, each in topics.items():
        assert each["spec"]["partitions"] == topology.partitions
        given = {key: str(value) for key, value in each["spec"]["config"].items()}
        assert given.pop("min.insync.replicas") == "2"
        assert given == configs.get(topic, {})


@pytest.mark.parametrize("name", NAMES)
def test_users_may_do_what_the_list_of_rights_says_and_no_more(name: str) -> None:
    users = of_kind(resources(name), "KafkaUser")
    ours = {"transactionalId": "transactional-id"}
    given = {
        (
            who,
            operation.lower(),
            ours.get(kind := rule["resource"]["type"], kind),
            rule["resource"]["name"],
        )
        for who, each in users.items()
        for rule in each["spec"]["authorization"]["acls"]
        for operation in rule["operations"]
    }
    assert given == {tuple(acl) for acl in acls(pipeline(name))}


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_runs_its_component_as_its_own_user(name: str) -> None:
    made = pipeline(name)
    users = of_kind(resources(name), "KafkaUser")
    for component in components(made):
        pod = pods(name)[workload_name(made, component)]
        (container,) = pod["containers"]
        assert container["args"][2:4] == ["--component", component]
        environment = {each["name"]: each.get("value") for each in container["env"]}
        who = environment["ANABRANCH_SASL_USERNAME"]
        assert who in users
        secrets = {each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
        assert secrets == {who, "kafka-cluster-ca-cert"}


def test_a_pods_command_is_one_that_the_command_line_takes() -> None:
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]  # a group
    for pod in pods("card-fraud").values():
        (container,) = pod["containers"]
        assert (container["command"], container["args"][0]) == (["anabranch"], "run")
        with run.make_context("run", container["args"][1:]) as context:
            assert context.params["metrics_port"] == METRICS_PORT
            assert context.params["component"]


def test_every_variable_of_a_pod_is_a_setting() -> None:
    known = {
        f"ANABRANCH_{name.upper()}"
        for settings in (BrokerSettings, SecuritySettings, HomeSettings)
        for name in settings.model_fields
    }
    for pod in pods("card-fraud").values():
        assert {each["name"] for each in pod["containers"][0]["env"]} <= known


def test_a_pods_name_is_its_name_in_the_consumer_group() -> None:
    for pod in pods("card-fraud").values():
        (own,) = [each for each in pod["containers"][0]["env"] if "valueFrom" in each]
        assert own["name"] == "ANABRANCH_INSTANCE_ID"
        assert own["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_a_pod_has_longer_to_stop_than_a_worker_takes() -> None:
    slowest = runner.STOP_TIMEOUT_S + tasks.CANCEL_TIMEOUT_S + LEFTOVERS_S
    assert GRACE_S >= 2 * worker_process._STOP_S
    assert 2 * slowest <= GRACE_S


@pytest.mark.parametrize("name", NAMES)
def test_pods_are_restricted(name: str) -> None:
    for pod in pods(name).values():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not pod["automountServiceAccountToken"]
        assert {"requests", "limits"} <= set(container["resources"])
        writable = [each for each in container["volumeMounts"] if not each.get("readOnly")]
        assert [each["mountPath"] for each in writable] == ["/tmp"]  # noqa: S108  # the pod's own


def test_probes_ask_what_the_metrics_port_answers() -> None:
    for pod in pods("card-fraud").values():
        (container,) = pod["containers"]
        paths = {each: container[each]["httpGet"]["path"] for each in
                 ("startupProbe", "livenessProbe", "readinessProbe")}  # fmt: skip
        assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz",
                         "readinessProbe": "/readyz"}  # fmt: skip
        # It listens after the broker has answered, or ends after half a minute of asking.
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 90


@pytest.mark.parametrize("name", NAMES)
def test_components_scale_on_the_lag_of_groups_and_topics_that_are_theirs(name: str) -> None:
    made = pipeline(name)
    rights = {(acl.principal, acl.name) for acl in acls(made) if acl.operation == "read"}
    seen = {acl.name for acl in acls(made) if acl.principal.endswith(".scaler")}
    for component in components(made):
        who = Topology.of(made).group(component)
        for group, topic in lag_sources(made, component):
            assert {(who, group), (who, topic)} <= rights
            assert {group, topic} <= seen


def test_components_that_are_fused_run_in_one_pod_that_scales_on_what_they_read_from_outside() -> (
    None
):
    name = "risk-linear-risk-forest-decision"
    pod = pods(FUSED)[f"card-fraud-{name}"]
    words = pod["containers"][0]["args"]
    assert words[words.index("--component") + 1] == name
    assert list(lag_sources(pipeline(FUSED), name)) == [
        (f"card-fraud.{name}", "card-fraud.features"),
        (f"card-fraud.{name}", "card-fraud.terminals"),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_no_component_has_more_workers_than_there_are_partitions(name: str) -> None:
    for each in of_kind(resources(name), "ScaledObject").values():
        least, most = each["spec"]["minReplicaCount"], each["spec"]["maxReplicaCount"]
        assert 1 <= least <= most == pipeline(name).partitions
        assert each["spec"]["fallback"]["replicas"] <= most


def test_no_secret_is_written_down() -> None:
    assert not of_kind(resources("card-fraud"), "Secret")
    assert not [each for each in strings(resources("card-fraud")) if "PRIVATE KEY" in each]


@pytest.mark.parametrize("name", NAMES)
def test_a_kustomization_names_files_that_are_there_and_patches_what_is_there(name: str) -> None:
    files, found = generated(name), resources(name)
    base: Any = yaml.safe_load(files["base/kustomization.yaml"])
    assert {f"base/{each}" for each in base["resources"]} | {
        "base/kustomization.yaml", "base/pipeline.yaml"
    } == {path for path in files if path.startswith("base/")}  # fmt: skip
    kinds = {(each["apiVersion"], each["kind"]) for each in found}
    for overlay in ("dev", "production"):
        content: Any = yaml.safe_load(files[f"overlays/{overlay}/kustomization.yaml"])
        assert content["resources"] == ["../../base"]
        for patch in content["patches"]:
            body = yaml.safe_load(patch["patch"])
            assert (body["apiVersion"], body["kind"]) in kinds
            assert patch["target"]["kind"] == body["kind"]


@pytest.mark.parametrize("name", NAMES)
def test_what_pods_refer_to_is_made_here_or_by_strimzi(name: str) -> None:
    files, found, prefix = generated(name), resources(name), pipeline(name).name
    base: Any = yaml.safe_load(files["base/kustomization.yaml"])
    maps = {each["name"] for each in base["configMapGenerator"]}
    claims, users = of_kind(found, "PersistentVolumeClaim"), of_kind(found, "KafkaUser")
    for pod in pods(name).values():
        for volume in pod["volumes"]:
            assert volume.get("configMap", {"name": f"{prefix}-pipeline"})["name"] in maps
            claim = volume.get("persistentVolumeClaim", {"claimName": f"{prefix}-registry"})
            assert claim["claimName"] in claims
            secret = volume.get("secret", {"secretName": "kafka-cluster-ca-cert"})["secretName"]
            assert secret in {*users, "kafka-cluster-ca-cert"}


@pytest.mark.parametrize(("overlay", "least", "replicas"), [("dev", 1, 1), ("production", 2, 3)])
def test_kustomize_builds_the_committed_overlays(overlay: str, least: int, replicas: int) -> None:
    found = built(COMMITTED, overlay)
    assert {each["metadata"]["namespace"] for each in found} == {"kafka"}
    assert {each["spec"]["replicas"] for each in of_kind(found, "KafkaTopic").values()} == {
        replicas
    }
    scaled = of_kind(found, "ScaledObject").values()
    assert {each["spec"]["minReplicaCount"] for each in scaled} == {least}
    sets = of_kind(found, "StatefulSet").values()
    images = {each["spec"]["template"]["spec"]["containers"][0]["image"] for each in sets}
    assert images == {"anabranch:dev" if overlay == "dev" else "anabranch:0.1.0"}
    (of_pipeline,) = [each for each in of_kind(found, "ConfigMap") if "-pipeline-" in each]
    for each in sets:
        assert of_pipeline in list(strings(each)), (
            "the hash of the pipeline file is not in the pods"
        )


def test_a_second_run_keeps_overlays_and_drops_what_is_no_component_any_more(
    tmp_path: Path,
) -> None:
    folder = written("card-fraud", tmp_path)
    mine = folder / "overlays" / "dev" / "kustomization.yaml"
    mine.write_text("mine\n")
    without = pipeline("card-fraud").model_copy(
        update={"components": pipeline("card-fraud").components[:-1]}
    )
    (folder / "base" / "own.yaml").write_text("# somebody's own\n")
    write(folder, without, "source\n", Cluster())
    assert mine.read_text() == "mine\n"
    assert not (folder / "base" / "components" / "decision.yaml").exists()
    assert (folder / "base" / "own.yaml").exists()


def test_the_command_says_what_it_has_written(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["deploy", "kubernetes", "tumour-triage", "-o", str(tmp_path), "--kafka", "central"]
    )
    assert done.exit_code == 0, done.output
    topics = (tmp_path / "base" / "topics.yaml").read_text()
    assert "strimzi.io/cluster: central" in topics


@pytest.mark.parametrize("option", ["--kafka", "--image", "--monitoring"])
def test_a_name_that_kubernetes_would_refuse_is_a_wrong_option(option: str, tmp_path: Path) -> None:
    words = ["deploy", "kubernetes", "card-fraud", "-o", str(tmp_path), option, "No Name"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert option in done.output


@pytest.mark.parametrize("name", ["x" * 60, "ends-with-"])
def test_a_component_whose_name_is_none_on_kubernetes_is_refused(name: str) -> None:
    with pytest.raises(NameUnusable, match="52 characters"):
        workload_name(pipeline("card-fraud"), name)
