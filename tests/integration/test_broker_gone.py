"""A broker that goes away while a worker runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.harness import PATIENCE_S, Trained

_BROKER = (
    "import sys, time\n"
    "from topics.kafka.embedded import EmbeddedBroker\n"
    "broker = EmbeddedBroker()\n"
    "print(broker.address, flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture
def mortal_broker() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """An embedded broker in a process of its own, and that process."""
    process = subprocess.Popen([sys.executable, "-c", _BROKER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_worker_gives_up_on_a_broker_that_stays_silent(
    trained: Trained, mortal_broker: tuple[str, subprocess.Popen[str]]
) -> None:
    address, process = mortal_broker
    worker = subprocess.Popen(
        [sys.executable, "-m", "agents", "run", str(trained.file.path)],
        env={
            **os.environ,
            "ANABRANCH_HOME": str(trained.home),
            "ANABRANCH_BROKER": address,
            "ANABRANCH_EMBEDDED": "true",
            "ANABRANCH_SESSION_TIMEOUT_S": "6",
            "ANABRANCH_GIVE_UP_S": "30",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    line = worker.stderr.readline()
    assert "running on" in line
    process.kill()
    try:
        _, told = worker.communicate(timeout=PATIENCE_S)
    finally:
        worker.kill()
    assert worker.returncode == 1
    assert "still trying, giving up after 30 s" in told
    assert f"no Kafka broker answers at {address}" in told
    assert "Traceback" not in told
