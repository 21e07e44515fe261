"""Who is told: the receiver that is to be filled in, and what one cause comes to."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.prometheus import DEPLOYED, need, wait_for
from tests.kafka_nodes import free_ports

COMMITTED = (DEPLOYED / "alertmanager.yml").read_text()
SAMPLES = re.findall(r"^    # (\w+_configs):$", COMMITTED, re.MULTILINE)
_PATIENCE_S = 60.0


def filled_in(sample: str) -> str:
    """The configuration with the lines of one sample as the file says they are filled in."""
    head, tail = COMMITTED.split(f"    # {sample}:\n")
    lines = tail.splitlines()
    own = lines[: _length(lines)]
    return f"{head}    {sample}:\n" + "".join(f"    {line[6:]}\n" for line in own)


def _length(lines: list[str]) -> int:
    """How many lines belong to a sample: all until the next one begins."""
    ends = (n for n, line in enumerate(lines) if re.match(r"    # \w", line))
    return next(ends, len(lines))


def check(path: Path) -> None:
    need("amtool")
    done = subprocess.run(
        ["amtool", "check-config", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alertmanager_takes_its_configuration_as_it_is() -> None:
    check(DEPLOYED / "alertmanager.yml")


@pytest.mark.parametrize("sample", SAMPLES)
def test_it_takes_each_sample_filled_in_as_the_file_says(sample: str, tmp_path: Path) -> None:
    (tmp_path / "alertmanager.yml").write_text(filled_in(sample))
    (receiver,) = yaml.safe_load(filled_in(sample))["receivers"]
    assert receiver["name"] == "on-call"
    assert receiver[sample]
    check(tmp_path / "alertmanager.yml")


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver's address, and the alerts that it was told of."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/alerts", told
        server.shutdown()


@contextmanager
def alertmanager(folder: Path, config: str) -> Iterator[str]:
    need("prometheus-alertmanager", "amtool")
    (folder / "alertmanager.yml").write_text(config)
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]  # fmt: skip
    with (folder / "alertmanager.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(f"{url}/-/ready", process)
            yield url
        finally:
            process.kill()
            process.wait()


def raise_alert(url: str, name: str, severity: str) -> None:
    subprocess.run(
        ["amtool", f"--alertmanager.url={url}", "alert", "add", f"alertname={name}",
         f"severity={severity}", "pipeline=card-fraud"], check=True,
    )  # fmt: skip


def test_a_stage_that_is_down_is_one_call_and_not_one_for_each_of_its_consequences(
    tmp_path: Path,
) -> None:
    with webhook() as (address, told):
        config = filled_in("webhook_configs").replace("https://on-call.example.org/alerts", address)
        config = config.replace("group_wait: 15s", "group_wait: 2s")
        with alertmanager(tmp_path, config) as url:
            raise_alert(url, "AnabranchStageDown", "critical")
            for name in ("AnabranchRowsWait", "AnabranchDegradedDecisions", "AnabranchLagGrows"):
                raise_alert(url, name, "warning")
            raise_alert(url, "AnabranchClocksOff", "warning")
            deadline = time.monotonic() + _PATIENCE_S
            while len(told) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(3)  # for what should not come
    names = sorted(alert["labels"]["alertname"] for alert in told)
    assert names == ["AnabranchClocksOff", "AnabranchStageDown"]
