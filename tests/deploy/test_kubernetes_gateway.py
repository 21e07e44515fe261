"""The gateway's manifests: what runs is what the command takes, and who reaches it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
from typer.testing import CliRunner

from agents.cli import app
from agents.gateway.server import END_WITHIN_S
from agents.manifests.kubernetes.gateway import PORT, gateway
from agents.manifests.kubernetes.names import METRICS_PORT, Cluster
from tests.deploy.manifests import Manifest, built, of_kind, pipeline, resources, written
from topics.settings import BrokerSettings, HomeSettings, SecuritySettings

NAME = "card-fraud-gateway"
PLAIN = Cluster(gateway=True)
AT_AN_INGRESS = Cluster(
    gateway=True, gateway_host="fraud.example.org", ingress_class="nginx",
    gateway_from=("ingress-nginx", "shop"),
)  # fmt: skip
OWN_TLS = Cluster(gateway=True, gateway_tls=True, openshift=True, registry="s3://models/fraud")
CLUSTERS = [PLAIN, AT_AN_INGRESS, OWN_TLS]


def made(cluster: Cluster) -> dict[str, Manifest]:
    return {each["kind"]: each for each in gateway(pipeline("card-fraud"), cluster)}


def pod(cluster: Cluster) -> Manifest:
    spec: Manifest = made(cluster)["Deployment"]["spec"]["template"]["spec"]
    return spec


def options(container: Manifest) -> dict[str, Any]:
    """What the command line makes of a container's command; it refuses what it does not know."""
    name, *words = container["args"]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]  # a group
    with command.make_context(name, words) as context:
        return dict(context.params)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_kubernetes_takes_all_of_it(cluster: Cluster) -> None:
    for each in made(cluster).values():
        kubernetes_validate.validate(each, "1.34", strict=True)


def test_there_is_one_only_where_it_is_asked_for_and_an_ingress_only_with_its_name() -> None:
    assert NAME not in of_kind(resources("card-fraud"), "Deployment")
    assert NAME in of_kind(resources("card-fraud", PLAIN), "Deployment")
    assert "Ingress" not in made(PLAIN)
    spec = made(AT_AN_INGRESS)["Ingress"]["spec"]
    assert spec["tls"] == [{"hosts": ["fraud.example.org"], "secretName": f"{NAME}-tls"}]
    assert spec["ingressClassName"] == "nginx"
    (path,) = spec["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": NAME, "port": {"name": "http"}}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_pod_runs_the_gateway_with_keys_as_its_own_user(cluster: Cluster) -> None:
    (container,) = pod(cluster)["containers"]
    given = options(container)
    assert (given["port"], given["metrics_port"]) == (PORT, METRICS_PORT)
    assert not given["without_keys"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["ANABRANCH_SASL_USERNAME"] == "card-fraud.gateway"
    known = {
        f"ANABRANCH_{name.upper()}"
        for settings in (BrokerSettings, SecuritySettings, HomeSettings)
        for name in settings.model_fields
    }
    assert set(environment) <= known
    mounts = {each["name"]: Path(each["mountPath"]) for each in container["volumeMounts"]}
    secrets = {each["name"]: each["secret"] for each in pod(cluster)["volumes"] if "secret" in each}
    files = {
        mounts[name] / item["path"]: secret["secretName"]
        for name, secret in secrets.items() for item in secret["items"]
    }  # fmt: skip
    assert files[given["keys"]] == f"{NAME}-keys"
    assert secrets["password"]["secretName"] == "card-fraud.gateway"
    if cluster.gateway_tls:
        assert files[given["tls_certificate"]] == files[given["tls_key"]] == f"{NAME}-tls"
    else:
        assert given["tls_certificate"] is None


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_pod_is_restricted_as_those_of_components_are(cluster: Cluster) -> None:
    found = pod(cluster)
    workers = of_kind(resources("card-fraud", cluster), "StatefulSet")
    worker = workers["card-fraud-weigh"]["spec"]["template"]["spec"]
    for field in ("securityContext", "serviceAccountName", "automountServiceAccountToken"):
        assert found[field] == worker[field]
    (container,), (of_worker,) = found["containers"], worker["containers"]
    assert container["securityContext"] == of_worker["securityContext"]
    assert {"requests", "limits"} <= set(container["resources"])
    writable = [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")]
    assert writable == ["/tmp"]  # noqa: S108  # the pod's own


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_requests_reach_its_port_from_where_they_may_and_probes_the_metrics_port(
    cluster: Cluster,
) -> None:
    manifests = made(cluster)
    (container,) = pod(cluster)["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": PORT, "metrics": METRICS_PORT}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "metrics"
    labelled = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert manifests["Service"]["spec"]["selector"].items() <= labelled
    (port,) = manifests["Service"]["spec"]["ports"]
    assert (port["targetPort"], port["port"]) == ("http", 443 if cluster.gateway_tls else 80)
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labelled
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": PORT, "protocol": "TCP"}]
    namespaces = [
        each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for each in rule["from"] if "namespaceSelector" in each
    ]  # fmt: skip
    assert namespaces == list(cluster.gateway_from)
    monitor = of_kind(resources("card-fraud", cluster), "PodMonitor")["anabranch-card-fraud"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labelled


def test_a_pod_has_longer_to_end_than_requests_that_are_there() -> None:
    (container,) = pod(PLAIN)["containers"]
    drained = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(PLAIN)["terminationGracePeriodSeconds"] >= drained + 2 * END_WITHIN_S


@pytest.mark.parametrize(("overlay", "least"), [("dev", 1), ("production", 2)])
def test_kustomize_builds_overlays_with_gateways(overlay: str, least: int, tmp_path: Path) -> None:
    found = built(written("card-fraud", tmp_path, AT_AN_INGRESS), overlay)
    scaler = of_kind(found, "HorizontalPodAutoscaler")[NAME]["spec"]
    assert scaler["minReplicas"] == least
    assert scaler["scaleTargetRef"]["name"] == NAME
    deployment = of_kind(found, "Deployment")[NAME]
    assert "replicas" not in deployment["spec"]
    (of_pipeline,) = [each for each in of_kind(found, "ConfigMap") if "-pipeline-" in each]
    maps = [each.get("configMap", {}).get("name") for each in deployment["spec"]["template"]["spec"]
            ["volumes"]]  # fmt: skip
    assert of_pipeline in maps, "the hash of the pipeline file is not in the pods"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gateway-host", "fraud.example.org"], "give --gateway too"),
        (["--gateway-tls"], "give --gateway too"),
        (["--gateway", "--gateway-host", "x.example.org", "--gateway-tls"], "leave it out"),
        (["--gateway", "--gateway-host", "No Name"], "--gateway-host"),
        (["--gateway", "--gateway-from", "No Name"], "--gateway-from"),
        (["--gateway", "--ingress-class", "No Name"], "--ingress-class"),
    ],
)
def test_what_makes_no_sense_is_a_wrong_option(words: list[str], said: str, tmp_path: Path) -> None:
    command = ["deploy", "kubernetes", "card-fraud", "-o", str(tmp_path), *words]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, said in done.output) == (2, True), done.output
    assert not list(tmp_path.iterdir())
