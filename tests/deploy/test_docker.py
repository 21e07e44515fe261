"""The Compose stack on a Docker engine: it comes up, decides, loses nothing, and can be scaled.

ANABRANCH_BASE_IMAGE is the image to build on, KAFKA_IMAGE the broker's; their defaults are pulled.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.integration.harness import records_of
from tests.kafka_nodes import free_ports
from topics.settings import BrokerSettings

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

SERVE_LIMIT = 400 * 10**6
"""Bytes of the image that serves."""
FIRST_DECISION_S = 90.0
_SEES = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
)


@dataclass(frozen=True)
class Stack:
    """A Compose project of its own."""

    words: tuple[str, ...]
    environment: dict[str, str]
    up_at: float

    def compose(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self.words, *words], env=self.environment, capture_output=True, text=True,
            check=False, timeout=400,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
        return done.stdout

    def containers(self, service: str) -> list[dict[str, Any]]:
        ids = self.compose("ps", "-q", service).split()
        return [inspected(found) for found in ids]

    def decisions(self) -> float:
        text = self.compose("exec", "-T", "weigh", "python", "-c", _SEES, check=False)
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
            if line.startswith("anabranch_events_total") and 'outcome="decision"' in line
        )  # fmt: skip

    def audit(self) -> dict[str, Any]:
        said = self.compose(
            "run", "--rm", "--no-deps", "-T", "audit", "audit", "card-fraud", "--json", check=False
        )
        return dict(json.loads(said))


async def ends_by_id(stack: Stack) -> dict[str, int]:
    """How the events have ended, counted by event id from what a plain consumer reads."""
    broker = BrokerSettings(broker=f"127.0.0.1:{stack.environment['KAFKA_PORT']}", embedded=False)
    events, decisions, dead = [
        [json.loads(record.value) for record in await records_of(broker, f"card-fraud.{topic}")]
        for topic in ("events", "decisions", "dead-letters")
    ]
    # A simulated producer that is started again publishes the same ids again.
    published = Counter(event["transaction_id"] for event in events)
    ends = Counter(decision["event_id"] for decision in decisions)
    return {
        "published": published.total(), "lost": (published - ends).total(), "dead": len(dead),
        "twice": (ends - published).total(),
        "degraded": sum(decision["degraded"] for decision in decisions),
    }  # fmt: skip


def inspected(name: str) -> dict[str, Any]:
    done = subprocess.run(["docker", "inspect", name], capture_output=True, check=True)
    return dict(json.loads(done.stdout)[0])


def wait_for(true: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def compose_words() -> tuple[str, ...]:
    """Compose v2, or docker-compose 1.29; skips when there is no engine or neither."""
    missing = "a Docker engine that answers"
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        if not subprocess.run(
            ["docker", "compose", "version"], capture_output=True, check=False
        ).returncode:
            return ("docker", "compose")
        if shutil.which("docker-compose"):
            return ("docker-compose",)
        missing = "docker compose or docker-compose"
    if os.environ.get("ANABRANCH_REQUIRE_DOCKER"):
        pytest.fail(f"there is not {missing}", pytrace=False)
    pytest.skip(f"there is not {missing}")


def build(target: str, tag: str) -> None:
    base = os.environ.get("ANABRANCH_BASE_IMAGE") or "python:3.12-slim"
    subprocess.run(
        ["docker", "build", "-q", "-f", "deploy/Dockerfile", "--target", target,
         "--build-arg", f"BASE={base}", "-t", tag, "."],
        check=True, timeout=900,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Built, and up from nothing; gone in the end, with its volumes."""
    words = compose_words()
    name = f"anabranch-test-{uuid4().hex[:8]}"
    images = {target: f"{name}:{target}" for target in ("serve", "train")}
    for target, tag in images.items():
        build(target, tag)
    (port,) = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if value}
    environment |= {
        "COMPOSE_PROJECT_NAME": name, "SERVE_IMAGE": images["serve"],
        "TRAIN_IMAGE": images["train"], "KAFKA_PORT": str(port),
        "TRAINING_ROWS": "60000",  # most of the time would be training, on a busy machine
    }  # fmt: skip
    made = Stack((*words, "--profile", "producer"), environment, time.monotonic())
    try:
        made.compose("up", "-d")
        yield made
    finally:
        made.compose("down", "-v", "-t", "5", check=False)
        subprocess.run(["docker", "rmi", "-f", *images.values()], capture_output=True, check=False)


def test_from_nothing_to_decisions_in_a_minute_and_a_half(stack: Stack) -> None:
    wait_for(lambda: stack.decisions() > 0, 240, "there are no decisions")
    took = time.monotonic() - stack.up_at
    print(f"first decision seen {took:.1f} s after up")
    assert took < FIRST_DECISION_S


def test_the_serving_image_is_small_and_has_no_trainer_compiler_or_pip(stack: Stack) -> None:
    image = inspected(stack.environment["SERVE_IMAGE"])
    print(f"{image['Size'] / 1e6:.0f} MB, trains: "
          f"{inspected(stack.environment['TRAIN_IMAGE'])['Size'] / 1e6:.0f} MB")  # fmt: skip
    assert image["Size"] < SERVE_LIMIT
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    looked = """
import importlib.util, json, shutil, sys
names = ("sklearn", "skl2onnx", "onnx", "pyarrow", "pip")
found = [name for name in names if importlib.util.find_spec(name)]
found += filter(None, map(shutil.which, ("gcc", "cc", "g++", "make")))
parts = json.load(open("/opt/anabranch/sbom.cdx.json"))["components"]
print(json.dumps([found, sorted(part["name"].lower() for part in parts)]))
"""
    content, listed = json.loads(stack.compose("exec", "-T", "weigh", "python", "-c", looked))
    assert content == []
    assert {"aiokafka", "faust-streaming", "numpy", "onnxruntime"} <= set(listed)


def test_what_is_called_agents_in_the_working_directory_or_the_packages_is_not_ours(
    stack: Stack,
) -> None:
    clash = (
        "mkdir /tmp/clash && cd /tmp/clash && mkdir agents models topics && "
        "for each in agents models topics; do echo 'raise SystemExit(9)' > $each/__init__.py; done"
        " && anabranch check card-fraud && python -m agents check card-fraud"
    )
    assert "all well" in stack.compose("exec", "-T", "weigh", "sh", "-c", clash)


def test_containers_cannot_write_to_their_image(stack: Stack) -> None:
    for path in ("/opt/anabranch/code/x", "/var/lib/anabranch/x", "/var/lib/anabranch/registry/x"):
        said = stack.compose("exec", "-T", "weigh", "sh", "-c", f"touch {path} || echo refused")
        assert "refused" in said, path


def test_the_image_runs_as_any_user_as_openshift_has_it(stack: Stack) -> None:
    as_somebody = ("run", "--rm", "--no-deps", "-T", "--user", "1234567:0")
    assert "all well" in stack.compose(*as_somebody, "audit", "check", "card-fraud")


def test_a_component_is_scaled_killed_and_replaced_and_every_event_ends_once(stack: Stack) -> None:
    stack.compose("up", "-d", "--no-recreate", "--scale", "risk-forest=3")

    def ready(service: str, number: int) -> bool:
        found = [c for c in stack.containers(service) if c["State"]["Running"]]
        asks = ["python", "-IS", "/opt/anabranch/healthcheck.py", "9464", "/readyz"]
        return len(found) == number and all(
            subprocess.run(
                ["docker", "exec", c["Id"], *asks], capture_output=True, check=False
            ).returncode == 0
            for c in found
        )  # fmt: skip

    wait_for(lambda: ready("risk-forest", 3), 60, "three replicas are not ready")
    one = stack.containers("risk-forest")[0]
    os.kill(one["State"]["Pid"], signal.SIGKILL)
    wait_for(lambda: inspected(one["Id"])["RestartCount"] == 1, 30, "it is not replaced")
    wait_for(lambda: ready("risk-forest", 3), 60, "its replacement is not ready")
    stack.compose("restart", "features")
    wait_for(lambda: ready("features", 1), 60, "features is not ready again")
    (before,) = stack.containers("risk-linear")
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    wait_for(
        lambda: stack.containers("risk-linear")[0]["RestartCount"] == 1, 30, "it is not replaced"
    )
    wait_for(lambda: ready("risk-linear", 1), 60, "the replacement is not ready")
    stack.compose("up", "-d", "--no-deps", "--force-recreate", "decision")
    wait_for(lambda: ready("decision", 1), 60, "the new container is not ready")
    one_off = ("run", "--rm", "--no-deps", "-T", "train")
    words = ("train", "card-fraud", "--component", "risk-forest", "--rows", "20000", "--seed", "3")
    stack.compose(*one_off, *words)
    operator = ("run", "--rm", "--no-deps", "-T", "audit")
    said = stack.compose(*operator, "models", "promote", "card-fraud/risk-forest@2", "--json")
    promoted = json.loads(said.splitlines()[-1])
    assert promoted["version"] == 2
    assert {each["state"] for each in promoted["workers"].values()} == {"running"}
    decided = stack.decisions()
    wait_for(lambda: stack.decisions() > decided + 500, 90, "no more decisions come")
    stack.compose("stop", "producer")
    wait_for(lambda: stack.audit()["total"]["in_flight"] == 0, 120, "some events do not end")
    total = stack.audit()["total"]
    print(total)
    assert total["inputs"] > 1000
    assert (total["lost"], total["duplicated"]) == (0, 0)
    assert total["decided"] + total["dead"] == total["inputs"]
    ends = asyncio.run(ends_by_id(stack))
    print(ends)
    assert ends == {"published": total["inputs"], "lost": 0, "dead": 0, "twice": 0, "degraded": 0}


def test_what_docker_kill_has_ended_stays_down_until_it_is_started(stack: Stack) -> None:
    """Docker takes it for an order to stop, whatever the restart policy is."""
    (before,) = stack.containers("decision")
    subprocess.run(["docker", "kill", before["Id"]], check=True, capture_output=True)
    wait_for(lambda: not inspected(before["Id"])["State"]["Running"], 30, "it runs")
    stack.compose("up", "-d", "--no-recreate")
    wait_for(lambda: inspected(before["Id"])["State"]["Running"], 60, "it was not started")
    after = inspected(before["Id"])
    assert after["RestartCount"] == before["RestartCount"]
    assert after["Config"]["Hostname"] == before["Config"]["Hostname"]


def test_kafka_says_that_its_volume_is_full_instead_of_starting(stack: Stack) -> None:
    kafka = yaml.safe_load(Path("docker-compose.yml").read_text())["services"]["kafka"]
    words = [word.replace("$$", "$") for word in kafka["command"]]
    done = subprocess.run(
        ["docker", "run", "--rm", "--tmpfs", "/var/lib/kafka/data:size=32m",
         stack.environment.get("KAFKA_IMAGE") or "apache/kafka:4.1.0", *words],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the volume kafka-data is full: 32 MiB left, 64 needed" in done.stderr


def test_kafka_keeps_what_it_has_when_its_container_is_replaced(stack: Stack) -> None:
    before = stack.audit()["total"]["decided"]
    stack.compose("up", "-d", "--no-deps", "--force-recreate", "kafka")
    wait_for(
        lambda: stack.containers("kafka")[0]["State"]["Health"]["Status"] == "healthy", 90,
        "kafka is not healthy",
    )  # fmt: skip
    assert stack.audit()["total"]["decided"] >= before
