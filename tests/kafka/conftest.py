"""Apache Kafka for a test session, and a pipeline of its own for each test."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

import pytest
import yaml

from agents.brokers import wait_for_broker
from models.registry import Registry
from tests.integration.harness import Trained
from topics.errors import BrokerUnreachable
from topics.pipeline_file import load_pipeline
from topics.settings import BrokerSettings

RUN = Path(__file__).parents[2] / "deploy" / "kafka" / "run"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0

_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerSettings]:
    """Apache Kafka in a process of its own, with an empty log."""
    _need("java", "mvn")
    subprocess.run([RUN, "-l"], check=True)
    directory = tmp_path_factory.mktemp("kafka")
    port, controller_port = _free_ports(2)
    settings = BrokerSettings(broker=f"127.0.0.1:{port}")
    output = directory / "output.txt"
    with output.open("wb") as written:
        process = subprocess.Popen(
            [RUN, "-p", str(port), "-c", str(controller_port), "-d", str(directory)],
            stdout=written, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for_start(process, settings, output)
        yield settings
    finally:
        _stop(process)


@pytest.fixture
def broker(kafka: BrokerSettings) -> BrokerSettings:
    """The broker by the name that integration tests know it by."""
    return kafka


@pytest.fixture
def own(kafka: BrokerSettings, trained: Trained, tmp_path: Path) -> Trained:
    """The trained pipeline by a new name: tests share the broker, but no topic and no group.

    It asks for *kafka* first so that nothing is trained where there is none.
    """
    content = yaml.safe_load(trained.file.path.read_text())
    name = f"{trained.pipeline.name}-{next(_numbers)}"
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(content | {"pipeline": name}, sort_keys=False))
    root = tmp_path / "registry"
    shutil.copytree(trained.home / "registry" / trained.pipeline.name, root / name)
    return Trained(tmp_path, load_pipeline(path), Registry(root))


def _need(*commands: str) -> None:
    """Skip without *commands*; fail where tests on Kafka are required."""
    missing = [command for command in commands if shutil.which(command) is None]
    if not missing:
        return
    reason = f"Apache Kafka needs {' and '.join(missing)}, which is not installed"
    if os.environ.get("ANABRANCH_REQUIRE_KAFKA"):
        pytest.fail(f"{reason}; ANABRANCH_REQUIRE_KAFKA is set", pytrace=False)
    pytest.skip(reason)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for_start(
    process: subprocess.Popen[bytes], settings: BrokerSettings, output: Path
) -> None:
    """Return when the broker answers; its output is the message when it does not."""
    deadline = time.monotonic() + START_TIMEOUT_S
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that it is not up yet is no news
    # A loop factory leaves the loop of pytest-asyncio in place.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        while True:
            try:
                return runner.run(wait_for_broker(settings, 0))
            except BrokerUnreachable:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = output.read_text()[-3000:]
                    pytest.fail(f"Apache Kafka did not start:\n{said}", pytrace=False)
                time.sleep(0.2)
            finally:
                logging.getLogger("aiokafka").setLevel(logging.NOTSET)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the broker; whatever is left of its process group is killed."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
