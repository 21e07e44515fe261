"""What the manifests of every pipeline say, held against the code that they run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from agents.cli import app
from agents.commands.event_loop import LEFTOVERS_S
from agents.manifests.kubernetes.configuration import config_name
from agents.manifests.kubernetes.files import Source, base, write
from agents.manifests.kubernetes.monitoring import NotToBeEmbedded
from agents.manifests.kubernetes.names import (
    METRICS_PORT,
    Cluster,
    Image,
    NameUnusable,
    TrainingData,
    components,
    workload_name,
)
from agents.manifests.kubernetes.scaling import lag_sources
from agents.manifests.kubernetes.workload import GRACE_S
from agents.process import child_process as worker_process
from agents.process import runner, tasks
from tests.deploy.manifests import (
    COMMITTED,
    DEFAULT,
    FUSED,
    NAMES,
    ROOT,
    Manifest,
    built,
    config_maps,
    generated,
    of_kind,
    pipeline,
    resources,
    source,
    strings,
    whole,
    written,
)
from topics.pipeline.file import PIPELINES
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.records.broker_setup import acls, topic_configs
from topics.settings import BrokerSettings, HomeSettings, SecuritySettings

REGISTRY_AT_A_URL = Cluster(registry="s3://models/fraud")
ELSEWHERE = Cluster(namespace="fraud", kafka_namespace="streams", kafka="central")
DIGEST = "sha256:" + "0123456789abcdef" * 4


def pods(name: str, cluster: Cluster = DEFAULT) -> dict[str, Manifest]:
    """What runs components, by the name of the StatefulSet."""
    sets = of_kind(resources(name, cluster), "StatefulSet")
    return {name: each["spec"]["template"]["spec"] for name, each in sets.items()}


def all_pods(name: str, cluster: Cluster = DEFAULT) -> dict[str, Manifest]:
    """These, and what runs beside them: the audit and, where there is one, the training."""
    found = resources(name, cluster)
    beside = {
        name: each["spec"]["template"]["spec"]
        for name, each in of_kind(found, "Deployment").items()
    }
    jobs = {
        name: each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        for name, each in of_kind(found, "CronJob").items()
    }
    return {**pods(name, cluster), **beside, **jobs}


def test_the_committed_base_is_what_the_command_makes_of_the_pipeline_file() -> None:
    plain = whole("card-fraud")._replace(rules=None, dashboards={})
    made = base(plain, DEFAULT)
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
    assert set(topics) == {*topology.all, topology.requests}
    for topic, each in topics.items():
        assert each["spec"]["partitions"] == topology.partitions
        given = {key: str(value) for key, value in each["spec"]["config"].items()}
        assert given.pop("min.insync.replicas") == "2"
        assert given == configs.get(topic, {})


@pytest.mark.parametrize("name", NAMES)
def test_users_may_do_what_the_list_of_rights_says_and_no_more(name: str) -> None:
    users = of_kind(resources(name), "KafkaUser")
    ours = {"transactionalId": "transactional-id", "prefix": "prefixed"}
    given = {
        (
            who,
            operation.lower(),
            ours.get(kind := rule["resource"]["type"], kind),
            rule["resource"]["name"],
            ours.get(pattern := rule["resource"]["patternType"], pattern),
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


def options(container: Manifest) -> dict[str, Any]:
    """What the command line makes of a container's command; it refuses what it does not know."""
    assert container["command"] == ["anabranch"]
    name, *words = container["args"]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]  # a group
    with command.make_context(name, words) as context:
        return dict(context.params)


def test_a_pods_command_is_one_that_the_command_line_takes() -> None:
    for pod in pods("card-fraud").values():
        (container,) = pod["containers"]
        given = options(container)
        assert container["args"][0] == "run"
        assert given["metrics_port"] == METRICS_PORT
        assert given["component"]


def test_an_audit_runs_as_the_operator_and_finds_the_deployed_file_by_the_pipelines_name() -> None:
    pod = all_pods("card-fraud")["card-fraud-audit"]
    (container,) = pod["containers"]
    given = options(container)
    assert (given["pipeline"], given["follow"]) == ("card-fraud", True)
    assert given["metrics_port"] == METRICS_PORT
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["ANABRANCH_SASL_USERNAME"] == "card-fraud.operator"
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "pipeline"]
    # `find_pipeline` looks there first, from the working directory.
    assert mount["mountPath"] == f"{container['workingDir']}/{PIPELINES}"
    (volume,) = [each for each in pod["volumes"] if each["name"] == "pipeline"]
    assert volume["configMap"]["items"] == [{"key": "pipeline.yaml", "path": "card-fraud.yaml"}]


def test_there_is_no_audit_where_none_is_wanted() -> None:
    assert not of_kind(resources("card-fraud", Cluster(audit=False)), "Deployment")


def test_a_training_waits_to_be_asked_for_and_writes_the_models_that_workers_read() -> None:
    (job,) = of_kind(resources("card-fraud"), "CronJob").values()
    assert job["spec"]["suspend"] is True
    pod = all_pods("card-fraud")["card-fraud-train"]
    (container,) = pod["containers"]
    assert options(container)["rows"] == 150_000
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "registry"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "registry"]
    assert not mount.get("readOnly")
    assert not volume["persistentVolumeClaim"].get("readOnly")
    (worker,) = pods("card-fraud")["card-fraud-weigh"]["containers"]
    assert {"name": "registry", "mountPath": mount["mountPath"], "readOnly": True} in worker[
        "volumeMounts"
    ]


def test_a_training_reads_the_file_that_is_named() -> None:
    cluster = Cluster(training_data=TrainingData(claim="history", file="2026/may.parquet"))
    pod = all_pods("card-fraud", cluster)["card-fraud-train"]
    assert options(pod["containers"][0])["data"] == "/data/2026/may.parquet"
    claims = {each["name"]: each.get("persistentVolumeClaim") for each in pod["volumes"]}
    assert claims["data"] == {"claimName": "history", "readOnly": True}


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://collector.tracing:4318", 4318), ("https://otlp.example/v1", 443), ("http://c", 80)],
)
def test_components_send_spans_where_that_is_asked_for_and_may_reach_it(
    url: str, port: int
) -> None:
    manifests = resources("card-fraud", Cluster(otlp=url))
    (network,) = [each for each in manifests if each["kind"] == "NetworkPolicy"]
    assert {"ports": [{"port": port, "protocol": "TCP"}]} in network["spec"]["egress"]
    pods = [each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "StatefulSet"]
    assert pods
    for pod in pods:
        (container,) = pod["containers"]
        assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": url} in container["env"]


def test_a_registry_at_a_url_needs_no_claim_and_reaches_its_store() -> None:
    found = resources("card-fraud", REGISTRY_AT_A_URL)
    assert not of_kind(found, "PersistentVolumeClaim")
    (network,) = of_kind(found, "NetworkPolicy").values()
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} in network["spec"]["egress"]
    for pod in all_pods("card-fraud", REGISTRY_AT_A_URL).values():
        (container,) = pod["containers"]
        environment = {each["name"]: each.get("value") for each in container["env"]}
        assert environment["ANABRANCH_REGISTRY"] == "s3://models/fraud"
        assert container["envFrom"] == [
            {"secretRef": {"name": "card-fraud-registry", "optional": True}}
        ]
        assert "registry" not in {each["name"] for each in pod["volumes"]}


def test_every_variable_of_a_pod_is_a_setting() -> None:
    known = {
        f"ANABRANCH_{name.upper()}"
        for settings in (BrokerSettings, SecuritySettings, HomeSettings)
        for name in settings.model_fields
    }
    for pod in all_pods("card-fraud").values():
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
    for who, pod in all_pods(name).items():
        (container,) = pod["containers"]
        assert pod["serviceAccountName"] in of_kind(resources(name), "ServiceAccount")
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not pod["automountServiceAccountToken"]
        assert {"requests", "limits"} <= set(container["resources"])
        writable = [each for each in container["volumeMounts"] if not each.get("readOnly")]
        of_training = ["/var/lib/anabranch/registry"] if who.endswith("-train") else []
        assert [each["mountPath"] for each in writable] == [*of_training, "/tmp"]  # noqa: S108  # the pod's own


def test_probes_ask_what_the_metrics_port_answers() -> None:
    for pod in [*pods("card-fraud").values(), all_pods("card-fraud")["card-fraud-audit"]]:
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
    named = {"base/kustomization.yaml"}
    for part in ("base/broker", "base/workloads"):
        content: Any = yaml.safe_load(files[f"{part}/kustomization.yaml"])
        maps = content.get("configMapGenerator", [])
        used = [*content["resources"], *(file for each in maps for file in each.get("files", ()))]
        named |= {f"{part}/{path}" for path in ("kustomization.yaml", *used)}
    assert named == {path for path in files if path.startswith("base/")}
    kinds = {(each["apiVersion"], each["kind"]) for each in found}
    for overlay in ("dev", "production"):
        content = yaml.safe_load(files[f"overlays/{overlay}/kustomization.yaml"])
        assert content["resources"] == ["../../base"]
        for patch in content["patches"]:
            body = yaml.safe_load(patch["patch"])
            assert (body["apiVersion"], body["kind"]) in kinds
            assert patch["target"]["kind"] == body["kind"]


@pytest.mark.parametrize("name", NAMES)
def test_what_pods_refer_to_is_made_here_or_by_strimzi(name: str) -> None:
    files, found, prefix = generated(name), resources(name), pipeline(name).name
    maps = config_maps(files)
    claims, users = of_kind(found, "PersistentVolumeClaim"), of_kind(found, "KafkaUser")
    for pod in all_pods(name).values():
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
    (job,) = of_kind(found, "CronJob").values()
    trains = f"anabranch-train:{'dev' if overlay == 'dev' else '0.1.0'}"
    assert trains in list(strings(job))
    (of_pipeline,) = [each for each in of_kind(found, "ConfigMap") if "-pipeline-" in each]
    for each in (job, *of_kind(found, "Deployment").values()):
        assert of_pipeline in list(strings(each)), (
            "the hash of the pipeline file is not in the pods"
        )


def test_an_image_by_digest_is_that_very_image_in_production(tmp_path: Path) -> None:
    cluster = Cluster(
        image=Image.model_validate(f"registry.example:5000/anabranch@{DIGEST}"),
        train_image=Image.model_validate(f"registry.example:5000/anabranch-train@{DIGEST}"),
    )
    found = built(written("card-fraud", tmp_path, cluster), "production")
    images = {text for text in strings(found) if text.startswith("registry.example")}
    assert images == {
        f"registry.example:5000/anabranch@{DIGEST}",
        f"registry.example:5000/anabranch-train@{DIGEST}",
    }


def test_keda_and_workers_name_the_broker_so_that_every_namespace_resolves_it() -> None:
    broker = "central-kafka-bootstrap.streams.svc:9093"
    triggers = [
        trigger["metadata"]["bootstrapServers"]
        for each in of_kind(resources("card-fraud", ELSEWHERE), "ScaledObject").values()
        for trigger in each["spec"]["triggers"]
    ]
    assert len(triggers) == 17
    assert set(triggers) == {broker}
    for pod in pods("card-fraud", ELSEWHERE).values():
        environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
        assert environment["ANABRANCH_BROKER"] == broker


def test_workers_may_be_in_another_namespace_than_kafka(tmp_path: Path) -> None:
    found = built(written("card-fraud", tmp_path, ELSEWHERE), "production")
    of_kafka = {"KafkaTopic", "KafkaUser"}
    for each in found:
        expected = "streams" if each["kind"] in of_kafka else "fraud"
        assert each["metadata"]["namespace"] == expected, each["kind"]
    for each in of_kind(found, "KafkaUser").values():
        copied = each["spec"]["template"]["secret"]["metadata"]["annotations"]
        assert "fraud" in copied.values()
    (network,) = of_kind(found, "NetworkPolicy").values()
    to_brokers = network["spec"]["egress"][0]["to"][0]
    assert "streams" in list(strings(to_brokers["namespaceSelector"]))
    assert (
        "template" not in next(iter(of_kind(resources("card-fraud"), "KafkaUser").values()))["spec"]
    )


def test_pods_may_ask_the_resolvers_of_nodes_and_of_openshift_and_those_that_are_named() -> None:
    named = Cluster.model_validate({"dns": ["10.96.0.10"]})
    (network,) = of_kind(resources("card-fraud", named), "NetworkPolicy").values()
    allowed = {
        (word, port["port"], port["protocol"])
        for rule in network["spec"]["egress"]
        for to in rule["to"]
        for word in strings(to)
        for port in rule["ports"]
    }
    for protocol in ("UDP", "TCP"):
        assert ("kube-system", 53, protocol) in allowed
        assert ("169.254.20.10/32", 53, protocol) in allowed
        assert ("10.96.0.10/32", 53, protocol) in allowed
        assert ("openshift-dns", 5353, protocol) in allowed


def test_on_openshift_pods_name_no_user_and_no_group() -> None:
    for pod in all_pods("card-fraud", Cluster(openshift=True)).values():
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(pod["securityContext"])
        assert pod["securityContext"]["runAsNonRoot"]


def test_monitors_and_rules_have_the_labels_by_which_they_are_looked_for() -> None:
    found = resources("card-fraud", Cluster(monitor_labels={"release": "prometheus"}))
    for kind in ("PodMonitor", "PrometheusRule"):
        (each,) = of_kind(found, kind).values()
        assert each["metadata"]["labels"]["release"] == "prometheus"


def test_the_rules_are_those_of_the_file_and_each_dashboard_is_a_config_map() -> None:
    (rule,) = of_kind(resources("card-fraud"), "PrometheusRule").values()
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    assert rule["spec"]["groups"] == rules["groups"]
    maps = config_maps(generated("card-fraud"))
    for path in (ROOT / "deploy/grafana/dashboards").glob("*.json"):
        made = maps[f"card-fraud-dashboard-{path.stem}"]
        assert made["files"] == [f"dashboards/{path.name}"]
        assert made["options"]["labels"]["grafana_dashboard"] == "1"
        written = generated("card-fraud")[f"base/workloads/dashboards/{path.name}"]
        assert json.loads(written) == json.loads(path.read_text())


def test_what_is_applied_fits_into_the_annotation_that_kubectl_keeps_of_it() -> None:
    for path, text in generated("card-fraud").items():
        if path.startswith("base/workloads/dashboards/") or path.endswith("/rules.yaml"):
            assert len(text) < 256 * 1024, f"{path}: kubectl apply would refuse it"


def changed(name: str, change: Callable[[dict[str, Any]], None]) -> set[str]:
    """Whose pods are replaced when the pipeline file is changed: components by name."""
    content = yaml.safe_load(source(name))
    change(content)
    before, after = pipeline(name), Pipeline.model_validate(content)
    return {
        component
        for component in components(before)
        if config_name(before, component) != config_name(after, component)
    }


def component(content: dict[str, Any], name: str) -> dict[str, Any]:
    (spec,) = [each for each in content["components"] if each["name"] == name]
    found: dict[str, Any] = spec
    return found


def test_a_component_that_is_changed_is_the_only_one_whose_pods_are_replaced() -> None:
    def another_model(content: dict[str, Any]) -> None:
        component(content, "risk-forest")["model"]["parameters"]["n_estimators"] = 31

    def another_version(content: dict[str, Any]) -> None:
        component(content, "decision")["model"]["version"] = 2

    assert changed("card-fraud", another_model) == {"risk-forest"}
    assert changed("card-fraud", another_version) == {"decision"}


def test_another_column_replaces_the_component_and_those_that_read_it() -> None:
    def one_more(content: dict[str, Any]) -> None:
        component(content, "terminals")["features"][0]["over"].append("60d")

    def of_another_field(content: dict[str, Any]) -> None:
        component(content, "features")["features"][0]["apply"] = "log1p"

    assert changed("card-fraud", one_more) == {
        "terminals",
        "risk-linear",
        "risk-forest",
        "decision",
        "explainer",
    }
    assert changed("card-fraud", of_another_field) == {"features", "explainer"}


def test_what_is_explained_and_what_may_not_be_said_replaces_the_explainer_alone() -> None:
    def of_fewer(content: dict[str, Any]) -> None:
        content["explain"]["when"] = ["decline"]

    def in_other_words(content: dict[str, Any]) -> None:
        content["explain"]["reasons"]["en"] = {"groups": {"amount": "amount {amount:.0f}"}}

    def sensitive(content: dict[str, Any]) -> None:
        content["event"]["fields"]["terminal_id"]["sensitive"] = True

    for change in (of_fewer, in_other_words, sensitive):
        assert changed("card-fraud", change) == {"explainer"}


def test_a_pipeline_file_that_asks_for_no_explanations_has_no_explainer() -> None:
    content = yaml.safe_load(source("card-fraud"))
    del content["explain"]["when"], content["explain"]["share_of_others"]
    without = Pipeline.model_validate(content)
    assert {*components(pipeline("card-fraud"))} - {*components(without)} == {"explainer"}
    names = components(without)
    assert [config_name(without, name) for name in names] == [
        config_name(pipeline("card-fraud"), name) for name in names
    ]


def test_weights_and_thresholds_replace_the_weighting_agent_alone() -> None:
    def stricter(content: dict[str, Any]) -> None:
        content["policy"]["thresholds"]["review"] = 0.2

    def quorum(content: dict[str, Any]) -> None:
        content["weighting"]["quorum"] = 0.5

    assert changed("card-fraud", stricter) == {"weigh"}
    assert changed("card-fraud", quorum) == {"weigh"}


def test_what_is_said_to_people_and_trainers_replaces_nobody() -> None:
    def said(content: dict[str, Any]) -> None:
        content["description"] = "another"
        content["data"]["label"] = "another"
        content["retention"] = {"replay": "1d"}

    assert changed("card-fraud", said) == set()


@pytest.mark.parametrize("change", [
    {"codec": "json"},
    {"outcomes": {"delay": "8d"}},
    {"partitions": 8},
])  # fmt: skip
def test_what_concerns_all_replaces_all(change: dict[str, Any]) -> None:
    everybody = set(components(pipeline("card-fraud")))
    assert changed("card-fraud", lambda content: content.update(change)) == everybody


def test_a_further_component_that_is_fused_with_others_is_a_worker_of_its_own_name() -> None:
    fused = "risk-linear-risk-forest-decision"

    def another_model(content: dict[str, Any]) -> None:
        component(content, "risk-forest")["model"]["parameters"]["n_estimators"] = 31

    assert changed(FUSED, another_model) == {fused}


def test_a_pod_mounts_the_config_map_whose_name_tells_what_concerns_it() -> None:
    maps = config_maps(generated("card-fraud"))
    for name, pod in pods("card-fraud").items():
        (volume,) = [each for each in pod["volumes"] if each["name"] == "pipeline"]
        mounted = volume["configMap"]["name"]
        assert mounted.startswith(f"{name}-")
        assert maps[mounted]["options"]["disableNameSuffixHash"]


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
    write(folder, Source(without, "source\n"), DEFAULT)
    assert mine.read_text() == "mine\n"
    workloads = folder / "base" / "workloads"
    assert (workloads / "components" / "features.yaml").exists()
    assert not (workloads / "components" / "decision.yaml").exists()
    assert not list(workloads.glob("dashboards/*"))
    assert (folder / "base" / "own.yaml").exists()


def test_the_command_says_what_it_has_written(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["deploy", "kubernetes", "tumour-triage", "-o", str(tmp_path), "--kafka", "central"]
    )
    assert done.exit_code == 0, done.output
    topics = (tmp_path / "base" / "broker" / "topics.yaml").read_text()
    assert "strimzi.io/cluster: central" in topics


def test_the_command_embeds_rules_and_dashboards_that_it_is_given(tmp_path: Path) -> None:
    words = ["deploy", "kubernetes", "road-risk", "-o", str(tmp_path)]
    words += ["--rules", str(ROOT / "deploy/prometheus/rules.yml")]
    words += ["--dashboards", str(ROOT / "deploy/grafana/dashboards")]
    done = CliRunner().invoke(app, [*words, "--monitor-label", "release=prometheus"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "base/workloads/dashboards/overview.json").exists()
    assert "release: prometheus" in (tmp_path / "base/workloads/rules.yaml").read_text()


def test_what_has_to_change_in_overlays_of_before_is_said(tmp_path: Path) -> None:
    words = ["deploy", "kubernetes", "road-risk", "-o", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert "warning" not in done.output
    overlay = tmp_path / "overlays/production/kustomization.yaml"
    overlay.write_text(overlay.read_text() + "namespace: kafka\n")
    options = ["--namespace", "roads", "--image", f"anabranch@{DIGEST}"]
    done = CliRunner().invoke(app, [*words, *options])
    assert f"{overlay} puts everything into namespace kafka: take that out" in done.output
    assert f"put `{{name: anabranch, digest: {DIGEST}}}` into its images" in done.output
    assert done.output.count("warning") == 2


@pytest.mark.parametrize(("option", "content"), [
    ("--rules", "groups: 3"), ("--rules", "a: {"), ("--dashboards", "no dashboard"),
])  # fmt: skip
def test_what_cannot_be_embedded_is_named(option: str, content: str, tmp_path: Path) -> None:
    (file := tmp_path / "some.json").write_text(content)
    path = tmp_path if option == "--dashboards" else file
    words = ["deploy", "kubernetes", "road-risk", "-o", str(tmp_path / "out"), option, str(path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert isinstance(done.exception, NotToBeEmbedded)
    assert str(file) in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_command_says_when_nothing_trains_the_pipeline(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(source("card-fraud").replace("pipeline: card-fraud", "pipeline: mine", 1))
    words = ["deploy", "kubernetes", str(mine), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert "nothing trains mine: give --training-data CLAIM/FILE" in done.output
    done = CliRunner().invoke(app, [*words, "--training-data", "history/may.csv"])
    assert "nothing trains" not in done.output
    assert (tmp_path / "out/base/workloads/training.yaml").exists()


@pytest.mark.parametrize(("option", "wrong"), [
    ("--kafka", "No Name"), ("--monitoring", "No Name"), ("--namespace", "No Name"),
    ("--kafka-namespace", "No Name"), ("--image", "No Name"), ("--image", "anabranch:tag"),
    ("--image", "anabranch@sha256:12"), ("--image", "anabranch@"),
    ("--train-image", "anabranch@md5:" + 64 * "0"), ("--registry", "bucket/models"),
    ("--training-data", "history"), ("--training-data", "history/../../etc"),
    ("--monitor-label", "release"), ("--monitor-label", "a b=c"), ("--dns", "resolver"),
])  # fmt: skip
def test_what_kubernetes_would_refuse_is_a_wrong_option(
    option: str, wrong: str, tmp_path: Path
) -> None:
    words = ["deploy", "kubernetes", "card-fraud", "-o", str(tmp_path), option, wrong]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    assert option in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x" * 60, "ends-with-", "audit", "train", "gateway"])
def test_a_component_whose_name_is_none_on_kubernetes_is_refused(name: str) -> None:
    with pytest.raises(NameUnusable, match="52 characters"):
        workload_name(pipeline("card-fraud"), name)
