"""A gateway as a process of its own, for tests, and events to ask it about."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

import httpx
import orjson

from tests.integration.harness import PATIENCE_S, Trained, simulated
from topics.settings import BrokerSettings


@dataclass(frozen=True)
class RunningGateway:
    """Where a gateway listens."""

    url: str
    process: subprocess.Popen[str]
    grpc: str = ""
    """HOST:PORT of its gRPC service, if it has one."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def predict(self, content: object, query: str = "", **headers: str) -> httpx.Response:
        """POST /predict, JSON or bytes."""
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        given = {"content-type": "application/json", **headers}
        return httpx.post(
            f"{self.url}/predict{query}", content=body, headers=given, timeout=PATIENCE_S
        )

    def is_ready(self) -> None:
        """Wait until the pipeline's workers have been heard of."""
        deadline = time.monotonic() + PATIENCE_S
        while (answer := httpx.get(f"{self.url}/readyz", verify=False)).status_code != 200:  # noqa: S501  # a test's own certificate
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=PATIENCE_S)


@contextmanager
def gateway_process(
    trained: Trained, broker: BrokerSettings, *words: str, ready: bool = True
) -> Iterator[RunningGateway]:
    """`anabranch gateway` on any free port; killed in the end if it still runs.

    What it said after its first lines is shown with any failure of the test.
    """
    with TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", "gateway", str(trained.file.path), "--port", "0",
             *words],
            env={
                **os.environ,
                "ANABRANCH_HOME": str(trained.home),
                "ANABRANCH_BROKER": broker.broker,
                "ANABRANCH_EMBEDDED": str(broker.embedded).lower(),
            },
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            url = grpc = ""
            for line in process.stderr:
                said.write(line)
                if match := re.search(r"https?://[\d.:\[\]]+", line):
                    url = match[0]
                if line.startswith("gRPC on "):
                    grpc = line.removeprefix("gRPC on ").strip()
                if line.startswith("ready"):
                    break
            assert url, "the gateway has ended"
            gateway = RunningGateway(url, process, grpc)
            if ready:
                gateway.is_ready()
            yield gateway
        finally:
            process.kill()
            rest = process.stderr.read() if process.stderr is not None else ""
            process.wait()
            said.seek(0)
            print(f"gateway {process.pid} ended with {process.returncode}:", said.read(), rest)


def events_of(trained: Trained, count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Simulated events, parsed."""
    return [orjson.loads(value) for _, value in simulated(trained.pipeline, count, seed)]


def sources(records: Sequence[Any]) -> list[str]:
    """The coordinates of decision records."""
    places = (record["source"] for record in records)
    return [f"{place['topic']}/{place['partition']}/{place['offset']}" for place in places]
