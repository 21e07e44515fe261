"""The gateway against its own OpenAPI document, by schemathesis, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agents.gateway.access.api_keys import add_key
from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import PATIENCE_S, worker_process
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_refusals import event
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def key(tmp_path: Path) -> str:
    return add_key(tmp_path / "keys.txt", "all", ["admin"])


@pytest.fixture
def gateway(key: str, tmp_path: Path) -> Iterator[RunningGateway]:
    own = own_components(tmp_path, "fail")
    (own.home / "broken").unlink()
    words = ("--keys", str(tmp_path / "keys.txt"))
    with EmbeddedBroker() as embedded:
        broker = BrokerSettings(broker=embedded.address, embedded=True)
        with worker_process(own, broker), gateway_process(own, broker, *words) as gateway:
            yield gateway


def test_schemathesis_finds_nothing(gateway: RunningGateway, key: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG, "run",
         f"{gateway.url}/openapi.json", "--no-color", "--header", f"X-API-Key: {key}"],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks",
             "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fuzzing" in done.stdout
    check_keys_are_asked_for(gateway, key)
    answer = gateway.predict(event("last"), "?deadline_ms=60000", **{"x-api-key": key})
    assert answer.status_code == 200, answer.text


def check_keys_are_asked_for(gateway: RunningGateway, key: str) -> None:
    """By every operation of which the document says so, and it says so of all but a few."""
    document = gateway.get("/openapi.json", **{"x-api-key": key}).json()
    open_ones = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "security" not in operation:
                open_ones.add(path)
                continue
            assert {} not in operation["security"], path
            for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
                address = gateway.url + re.sub(r"\{\w+\}", "own", path)
                answer = httpx.request(method, address, headers=headers, timeout=PATIENCE_S)
                assert answer.status_code == 401, (path, answer.text)
    assert open_ones == {
        "/healthz", "/readyz", "/ping", "/execution-parameters", "/v2/health/live",
        "/v2/health/ready",
    }  # fmt: skip
