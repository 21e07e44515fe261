"""The Compose files: what they start is what the code takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import files
from pathlib import Path
from typing import Any

import click
import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
import typer
import yaml

from agents.cli import app
from agents.manifests.compose_file import (
    AUDIT_PORT,
    BROKER,
    METRICS_PORT,
    SERVICES,
    ServiceNameTaken,
    workers,
)
from agents.service.open_pipeline import UnknownComponent, open_pipeline
from models.registry.registry import Registry
from tests.integration.harness import Trained
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import EXPLAINER, TRAINER
from topics.records.broker_setup import acls
from topics.settings import BrokerSettings, HomeSettings, SecuritySettings

PLAIN, SECURE = Path("docker-compose.yml"), Path("deploy/compose/secure.yml")
PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
COMPONENTS = workers(PIPELINE)
_VARIABLE = re.compile(r"\$\{\w+(?::-([^}]*))?\}")

Service = dict[str, Any]


def filled(value: Any) -> Any:
    """*value* with every variable as it is when nobody sets it."""
    if isinstance(value, dict):
        return {name: filled(each) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each) for each in value]
    return _VARIABLE.sub(lambda m: m.group(1) or "", value) if isinstance(value, str) else value


def services(path: Path = PLAIN) -> dict[str, Service]:
    return dict(filled(yaml.safe_load(path.read_text()))["services"])


def options(words: list[str]) -> dict[str, Any]:
    """What the command line makes of a command; it refuses what it does not know."""
    found: Any = typer.main.get_command(app)
    name, *rest = words
    command = found.commands[name]
    context = command.make_context(name, [str(word) for word in rest], parent=click.Context(found))
    return dict(context.params)


def written(tmp_path: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "agents", "deploy", "compose", *words],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(("path", "more"), [(PLAIN, []), (SECURE, ["--secure"])])
def test_the_files_are_what_the_command_writes(path: Path, more: list[str]) -> None:
    kept = path.read_text()
    # Written beside itself: the relative paths are those from there.
    try:
        subprocess.run(
            [sys.executable, "-m", "agents", "deploy", "compose", "card-fraud", *more, "-o", path],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        assert path.read_text() == kept, "run anabranch deploy compose (its first lines say how)"
    finally:
        path.write_text(kept)


@pytest.mark.parametrize("path", [PLAIN, SECURE])
def test_the_files_are_valid_by_the_schema_of_compose(path: Path) -> None:
    found = files("check-jsonschema") or []
    schema = next(file for file in found if file.name == "compose-spec.json")
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(schema.read_text()))


def test_each_component_is_a_service_of_its_own_and_nothing_is_left_out() -> None:
    assert set(services()) == {*COMPONENTS, *SERVICES} - {TRAINER}, "it asks for no renewals"
    for name in COMPONENTS:
        given = options(services()[name]["command"])
        assert given["pipeline"] == "card-fraud"
        assert given["component"] == [name]


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_components_name_is_one_that_run_takes(name: str, trained: Trained) -> None:
    # The small forests have the same components; only the file that ships asks for an explainer.
    file = replace(trained.file, pipeline=PIPELINE) if name == EXPLAINER else trained.file
    assert open_pipeline(file, Registry(trained.home / "registry"), [name])
    with pytest.raises(UnknownComponent):
        open_pipeline(file, Registry(trained.home / "registry"), [f"{name}s"])


@pytest.mark.parametrize(
    "name", [name for name, each in services().items() if "build" in each and "command" in each]
)
def test_every_command_is_one_that_the_command_line_takes(name: str) -> None:
    assert options(services()[name]["command"])["pipeline"] == "card-fraud"


def test_a_healthcheck_asks_the_port_that_is_served_and_prometheus_scrapes_it() -> None:
    jobs = yaml.safe_load(Path("deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    scraped = {
        job["dns_sd_configs"][0]["names"][0]: job["dns_sd_configs"][0]["port"]
        for job in jobs if "dns_sd_configs" in job
    }  # fmt: skip
    ports = dict.fromkeys((*COMPONENTS, "gateway"), METRICS_PORT) | {"audit": AUDIT_PORT}
    for name, port in ports.items():
        service = services()[name]
        given = options(service["command"])
        assert (given["metrics_host"], given["metrics_port"]) == ("0.0.0.0", port)  # noqa: S104
        assert service["healthcheck"]["test"][-1] == str(port)
        (alias,) = service["networks"]["default"]["aliases"]
        assert scraped[alias] == port


@pytest.mark.parametrize("path", [PLAIN, SECURE])
def test_every_setting_is_one_that_the_code_reads(path: Path) -> None:
    classes = (BrokerSettings, HomeSettings, SecuritySettings)
    known = {f"ANABRANCH_{field.upper()}" for each in classes for field in each.model_fields}
    for name, service in services(path).items():
        ours = {key for key in service.get("environment", {}) if key.startswith("ANABRANCH_")}
        assert ours <= known, name


def test_components_reach_the_listener_that_kafka_advertises() -> None:
    kafka = services()["kafka"]["environment"]
    assert f"INTERNAL://{BROKER}" in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    for name in (*COMPONENTS, "topics", "producer", "gateway", "audit"):
        assert services()[name]["environment"]["ANABRANCH_BROKER"] == BROKER


def test_nothing_listens_beyond_this_machine_and_any_component_can_be_scaled() -> None:
    for name, service in services().items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert "container_name" not in service
    for name in COMPONENTS:
        assert "ports" not in services()[name]
        # Each replica has a host name, so they are not one name for all.
        assert services()[name]["environment"]["ANABRANCH_INSTANCE_ID"] == "@hostname"


def test_ours_write_nowhere_but_where_they_must_and_every_service_is_limited() -> None:
    for name, service in services().items():
        assert service["mem_limit"], name
        assert service["restart"], name
        if name in ("kafka", "prometheus", "alertmanager", "grafana"):
            continue
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108
    for name in COMPONENTS:
        assert [each for each in services()[name]["volumes"] if not each.endswith(":ro")] == []


def test_what_is_mounted_from_the_source_tree_is_there() -> None:
    for service in services().values():
        for volume in service.get("volumes", []):
            if isinstance(volume, dict):
                of_secrets = volume["source"].startswith("./.secrets/")
                assert of_secrets or Path(volume["source"]).exists(), volume
                assert volume["read_only"]


def test_components_start_after_topics_and_models_and_the_producer_after_them() -> None:
    for name in COMPONENTS:
        assert services()[name]["depends_on"] == {
            job: {"condition": "service_completed_successfully"} for job in ("topics", "train")
        }
    assert services()["producer"]["depends_on"] == {"weigh": {"condition": "service_healthy"}}


def test_an_audit_runs_whatever_images_of_others_can_be_pulled() -> None:
    """Compose starts nothing when one image of what it is to start cannot be pulled."""
    of_others = {name for name, each in services().items() if "build" not in each}
    assert {"prometheus", "grafana"} <= of_others
    for name, each in services().items():
        wanted_at_first = "profiles" not in each
        assert wanted_at_first == (name in {*COMPONENTS, "kafka", "topics", "train", "audit"})
        assert not set(each.get("depends_on", {})) & (of_others - {"kafka", "prometheus"})


@pytest.mark.parametrize(("name", "needed"), [("command", 64), ("healthcheck", 256)])
@pytest.mark.parametrize("free", [0, 63, 64, 255, 256, 10_000_000])
def test_kafka_says_when_its_volume_is_full(
    name: str, needed: int, free: int, tmp_path: Path
) -> None:
    kafka = services()["kafka"]
    words = kafka["command"] if name == "command" else kafka["healthcheck"]["test"][1:]
    (program,) = [word.replace("$$", "$") for word in words if "df -Pk" in word]
    check, semicolon, broker = program.rpartition("; ")
    assert semicolon
    assert broker in ("exec /etc/kafka/docker/run", ": < /dev/tcp/127.0.0.1/9092")
    (df := tmp_path / "df").write_text(
        "#!/bin/sh\necho 'Filesystem 1024-blocks Used Available Capacity Mounted on'\n"
        f"echo '/dev/vda  20480000  1 {free * 1024} 99% /var/lib/kafka/data'\n"
    )
    df.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f"{check}; echo goes on"], capture_output=True, text=True, check=False,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    if free >= needed:
        assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")
        return
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the volume kafka-data is full: {free} MiB left, {needed} needed" in done.stderr


def compose_v2() -> list[str]:
    """Compose v2: docker's own, or the one that tests/deploy/compose_v2/build makes."""
    built = Path(os.environ.get("ANABRANCH_COMPOSE", ".compose/docker-compose")).absolute()
    for words in ([str(built)], ["docker", "compose"]):
        if shutil.which(words[0]) is None:
            continue
        done = subprocess.run([*words, "version"], capture_output=True, check=False, text=True)
        if done.returncode == 0 and "Compose version" in done.stdout:
            return words
    if os.environ.get("ANABRANCH_REQUIRE_COMPOSE"):
        pytest.fail("no Compose v2 (make .compose/docker-compose)", pytrace=False)
    pytest.skip("no Compose v2 (make .compose/docker-compose)")


@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("profiles", [[], ["producer"], ["gateway"], ["monitoring"]])
def test_compose_v2_takes_the_files_without_a_warning(
    profiles: list[str], secured: bool, tmp_path: Path
) -> None:
    files = [PLAIN, SECURE] if secured else [PLAIN]
    done = subprocess.run(
        [*compose_v2(), *(word for path in files for word in ("-f", path)),
         *(word for name in profiles for word in ("--profile", name)), "config", "--format",
         "json"],
        capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads(done.stdout)["services"]
    expected = {
        name for name, each in services().items() if each.get("profiles", profiles) == profiles
    }
    assert set(content) == expected
    for name in COMPONENTS:
        assert content[name]["command"][:2] == ["run", "card-fraud"]
        assert content[name]["environment"]["ANABRANCH_INSTANCE_ID"] == "@hostname"
        assert ("ANABRANCH_SASL_USERNAME" in content[name]["environment"]) == secured
    program = content["kafka"]["command"][-1]
    assert program.endswith("exec /etc/kafka/docker/run")


def test_secured_services_log_in_as_the_users_that_have_the_rights() -> None:
    secured = services(SECURE)
    users = {name: each["environment"].get("ANABRANCH_SASL_USERNAME")
             for name, each in secured.items() if name != "kafka"}  # fmt: skip
    assert options(secured["topics"]["command"])["grant"] is True
    assert users.pop("topics") == "admin"
    granted = {acl.principal for acl in acls(PIPELINE)}
    assert set(users.values()) == granted - {"card-fraud.consumer", "card-fraud.scaler"}
    assert {name for name in users if name in COMPONENTS} == set(COMPONENTS)
    for name, user in users.items():
        assert {"source": user, "target": "kafka-password"} in secured[name]["secrets"]


def test_a_gateway_is_for_this_machine_alone_and_secured_for_who_has_a_key() -> None:
    plain = options(services()["gateway"]["command"])
    assert (plain["without_keys"], plain["keys"]) == (True, None)
    assert services()["gateway"]["ports"] == [f"127.0.0.1:8080:{plain['port']}"]
    secured = services(SECURE)["gateway"]
    given = options(secured["command"])
    assert (given["without_keys"], given["port"]) == (False, plain["port"])
    mounted = {Path("/run/secrets") / each for each in secured["secrets"] if isinstance(each, str)}
    assert {given["keys"], given["tls_certificate"]} <= mounted


def test_passwords_are_in_files_only() -> None:
    for path in (PLAIN, SECURE):
        for line in path.read_text().splitlines():
            if "PASSWORD" in line:
                assert "/run/secrets/" in line, line


def test_a_pipeline_of_ones_own_is_mounted_and_trained_on_ones_own_data(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    text = Path("deploy/pipelines/card-fraud.yaml").read_text()
    mine.write_text(text.replace("pipeline: card-fraud", "pipeline: mine", 1))
    content = yaml.safe_load(written(tmp_path, str(mine)))["services"]
    assert "producer" not in content
    assert "--data" in content["train"]["command"]
    folder = content["weigh"]["volumes"][0]
    assert (folder["type"], folder["target"], folder["read_only"]) == ("bind", "/pipelines", True)
    assert (Path.cwd() / folder["source"]).resolve() == tmp_path.resolve()
    assert options(content["weigh"]["command"])["pipeline"] == "/pipelines/mine.yaml"
    for name in ("topics", "train", "gateway", "audit"):
        assert folder in content[name]["volumes"], name


@pytest.mark.parametrize(
    "folder", ["costs $HOME", "a:b", "${X}", "it's: 'so'", "li\nne: x", "\x1b[2J"]
)
def test_whatever_a_folder_is_called_it_is_what_is_mounted(tmp_path: Path, folder: str) -> None:
    """Compose puts variables in place of $NAME and takes short volumes apart at their colons."""
    mine = tmp_path / folder / "my $PIPELINE.yaml"
    mine.parent.mkdir()
    text = Path("deploy/pipelines/card-fraud.yaml").read_text()
    mine.write_text(text.replace("pipeline: card-fraud", "pipeline: mine", 1))
    for secure in ([], ["--secure"]):
        whole = written(tmp_path, str(mine), *secure)
        assert "\x1b" not in whole
        content = yaml.safe_load(whole)["services"]
        if secure:
            assert content["topics"]["command"][1] == "/pipelines/my $$PIPELINE.yaml"
            continue
        source = content["weigh"]["volumes"][0]["source"]
        assert "$" not in source.replace("$$", "")
        assert (Path.cwd() / source.replace("$$", "$")).resolve() == mine.parent.resolve()
        assert content["weigh"]["command"][1] == "/pipelines/my $$PIPELINE.yaml"


@pytest.mark.parametrize("name", ["machine-maintenance", "road-risk", "tumour-triage"])
def test_every_pipeline_of_ours_has_a_compose_file(name: str, tmp_path: Path) -> None:
    content = yaml.safe_load(written(tmp_path, name))["services"]
    pipeline = load_pipeline(find_pipeline(name)).pipeline
    assert set(content) == {*workers(pipeline), *SERVICES} - {TRAINER}, "none asks for renewals"


def test_components_that_are_fused_are_one_service_and_one_user(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    text = Path("deploy/pipelines/card-fraud.yaml").read_text()
    mine.write_text(text + "\nfuse: [risk-linear, risk-forest, decision]\n")
    name = "risk-linear-risk-forest-decision"
    content = yaml.safe_load(written(tmp_path, str(mine)))["services"]
    assert set(content) - {*SERVICES} == {"features", "terminals", name, "weigh", "explainer"}
    assert options(content[name]["command"])["component"] == [name]
    secure = yaml.safe_load(written(tmp_path, str(mine), "--secure"))["services"]
    assert secure[name]["environment"]["ANABRANCH_SASL_USERNAME"] == f"card-fraud.{name}"


def test_a_component_cannot_be_called_like_another_service() -> None:
    first, *rest = PIPELINE.components
    kafka = PIPELINE.model_copy(
        update={"components": [first.model_copy(update={"name": "kafka"}), *rest]}
    )
    with pytest.raises(ServiceNameTaken, match="component kafka of pipeline card-fraud"):
        workers(kafka)
