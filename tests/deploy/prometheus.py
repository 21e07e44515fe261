"""A real Prometheus that scrapes a real pipeline, for tests of dashboards."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.harness import Trained
from tests.kafka_nodes import free_ports
from topics.settings import BrokerSettings

DEPLOYED = Path(__file__).parents[2] / "deploy" / "prometheus"
_PATIENCE_S = 60.0
_PACKAGES = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}
"""Debian's packages that are not called as their commands are."""


def need(*commands: str) -> None:
    """Skip without *commands*; fail where they are required."""
    missing = [command for command in commands if shutil.which(command) is None]
    if not missing:
        return
    packages = " ".join(sorted({_PACKAGES.get(command, command) for command in missing}))
    reason = f"{' and '.join(missing)} not installed (Debian: apt-get install {packages})"
    if os.environ.get("ANABRANCH_REQUIRE_PROMETHEUS"):
        pytest.fail(f"{reason}; ANABRANCH_REQUIRE_PROMETHEUS is set", pytrace=False)
    pytest.skip(reason)


@contextmanager
def prometheus(directory: Path, jobs: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Prometheus as it is deployed, but for its targets and in a hurry; yields its address.

    *jobs* are ports of this machine by the name of their job.
    """
    need("prometheus")
    config = _config(jobs)
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus", f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (directory / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(f"{url}/-/ready", process)
            yield url
        finally:
            process.kill()
            process.wait()


@contextmanager
def node_exporter(said: Path) -> Iterator[int]:
    """What tells of this machine; yields its port."""
    need("prometheus-node-exporter")
    (port,) = free_ports(1)
    command = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"]
    with said.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/metrics", process)
            yield port
        finally:
            process.kill()
            process.wait()


def rule_errors(url: str) -> Iterator[str]:
    """What Prometheus at *url* could not evaluate, and why."""
    with urllib.request.urlopen(f"{url}/api/v1/rules", timeout=30) as answer:  # noqa: S310  # ours
        groups = json.load(answer)["data"]["groups"]
    assert groups
    for rule in (rule for group in groups for rule in group["rules"]):
        if rule["health"] != "ok":
            yield f"{rule['name']}: {rule['health']}: {rule.get('lastError')}"


def _config(jobs: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    assert {*jobs} <= {job["job_name"] for job in config["scrape_configs"]}
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    del config["alerting"]
    config["rule_files"] = [str(DEPLOYED / name) for name in config["rule_files"]]
    config["scrape_configs"] = [
        {
            "job_name": job,
            "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
        }
        for job, ports in jobs.items()
    ]
    return config


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return when something answers there; fail when the process has ended."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        assert process.poll() is None, f"{process.args!r} has ended"
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  # a server of ours
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.1)


@contextmanager
def monitored(trained: Trained, broker: BrokerSettings, said: Path, *words: str) -> Iterator[int]:
    """`anabranch WORDS --metrics-port 0` as a process, once it is ready; yields its port."""
    command = [sys.executable, "-m", "agents", *words, "--metrics-port", "0"]
    environment = {
        **os.environ,
        "ANABRANCH_HOME": str(trained.home),
        "ANABRANCH_BROKER": broker.broker,
        "ANABRANCH_EMBEDDED": "true",
        "ANABRANCH_SESSION_TIMEOUT_S": "6",
    }
    with said.open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            port = _port(said, process)
            wait_for(f"http://127.0.0.1:{port}/readyz", process)
            yield port
            assert process.poll() is None, said.read_text()
        finally:
            process.kill()
            process.wait()


def _port(said: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        if address := re.search(r"http://127\.0\.0\.1:(\d+)/metrics", said.read_text()):
            return int(address[1])
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.1)
