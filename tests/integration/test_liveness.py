"""A component that hangs: its process says so on the health port, and ends for its supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from models.registry.registry import Registry
from tests.integration.harness import PATIENCE_S, Trained, publish, settled, simulated
from tests.integration.velocity import EVENT
from topics.pipeline.file import load_pipeline
from topics.settings import BrokerSettings

PIPELINE = """
pipeline: hanging
{event}components:
  - name: large
    import: tests.integration.velocity:Hanging
    options: {{flag: {flag}}}
    from: [events]
weighting: {{from: [large], weights: {{large: 1.0}}}}
policy: {{thresholds: {{decline: 0.5}}}}
"""


@contextmanager
def worker(path: Path, broker: BrokerSettings) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", "run", str(path), "--metrics-port", "0"],
        env={
            **os.environ, "ANABRANCH_BROKER": broker.broker, "ANABRANCH_EMBEDDED": "true",
            "ANABRANCH_STUCK_AFTER_S": "5", "ANABRANCH_SESSION_TIMEOUT_S": "6",
        },
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def answer(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET."""

    def get() -> tuple[int, bytes]:
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    return await asyncio.to_thread(get)


async def changed(port: int, path: str, status: int) -> bytes:
    """The body of the first answer that has another *status*."""
    async with asyncio.timeout(PATIENCE_S):
        found = await answer(port, path)
        while found[0] == status:
            await asyncio.sleep(0.1)
            found = await answer(port, path)
    return found[1]


@pytest.mark.faults
@pytest.mark.parametrize("events", [50, 4000], ids=["in the event loop", "in a thread"])
async def test_a_component_that_hangs_ends_its_process_and_a_new_one_goes_on(
    events: int, broker: BrokerSettings, tmp_path: Path
) -> None:
    flag = tmp_path / "hang"
    flag.touch()
    path = tmp_path / "hanging.yaml"
    path.write_text(PIPELINE.format(event=EVENT, flag=flag))
    pipeline = Trained(tmp_path, load_pipeline(path), Registry(tmp_path / "registry")).pipeline
    with worker(path, broker) as process:
        assert process.stderr is not None
        text = await asyncio.to_thread(process.stderr.readline)
        found = re.search(r"http://127.0.0.1:(\d+)", text)
        assert found is not None, text
        port = int(found[1])
        assert json.loads(await changed(port, "/readyz", 503)) == {"ready": True}
        assert (await answer(port, "/healthz"))[0] == 200
        await publish(broker, pipeline, simulated(pipeline, events), 100_000)
        assert json.loads(await changed(port, "/healthz", 200))["live"] is False
        assert await asyncio.to_thread(process.wait, PATIENCE_S) != 0
        assert "ANABRANCH_STUCK_AFTER_S" in process.stderr.read()
    flag.unlink()
    with worker(path, broker):
        audit = await settled(broker, pipeline, events)
    assert audit.passed
    assert audit.total.decided == events
