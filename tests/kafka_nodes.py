"""Apache Kafka in processes of its own: one broker, or a cluster whose brokers can be killed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.broker.reach import wait_for_broker
from topics.errors import BrokerUnreachable
from topics.settings import BrokerSettings

RUN = Path(__file__).parents[1] / "deploy" / "kafka" / "run"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0


@dataclass
class Node:
    """One broker, which is its own controller or one of several."""

    directory: Path
    port: int
    controller_port: int
    words: tuple[str, ...] = ()
    """Further options of deploy/kafka/run."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it on the log that it has."""
        with (self.directory / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                [RUN, "-p", str(self.port), "-c", str(self.controller_port),
                 "-d", str(self.directory), *self.words],
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send *number* to the broker and to the shell that runs it."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """As if its machine had lost power."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def stop(self) -> None:
        """Let it end in order; whatever is left of its process group is killed."""
        if self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT_S)
        self.kill()

    def wait_until_up(self) -> None:
        """Return when the broker answers; its output is the message when it does not."""
        deadline = time.monotonic() + START_TIMEOUT_S
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # not up yet is no news
        # A loop factory leaves the loop of pytest-asyncio in place.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            while True:
                try:
                    return runner.run(wait_for_broker(BrokerSettings(broker=self.address), 0))
                except BrokerUnreachable:
                    ended = self.process is None or self.process.poll() is not None
                    if ended or time.monotonic() > deadline:
                        text = (self.directory / "output.txt").read_text()[-3000:]
                        pytest.fail(f"Apache Kafka did not start:\n{text}", pytrace=False)
                    time.sleep(0.2)
                finally:
                    logging.getLogger("aiokafka").setLevel(logging.NOTSET)


@dataclass
class Cluster:
    """Three brokers: every topic has three replicas, and two of them have what is written."""

    nodes: list[Node]

    @property
    def settings(self) -> BrokerSettings:
        """How to reach it."""
        return BrokerSettings(broker=",".join(node.address for node in self.nodes))

    def all_up(self) -> None:
        """Start the brokers that are down; return when all answer."""
        for node in self.nodes:
            if node.process is None or node.process.poll() is not None:
                node.start()
        for node in self.nodes:
            node.wait_until_up()


@contextmanager
def one_broker(
    directory: Path, properties: Callable[[Node], str] | None = None
) -> Iterator[BrokerSettings]:
    """A single broker with an empty log; `properties` may change what it is set to."""
    port, controller_port = free_ports(2)
    node = Node(directory, port, controller_port)
    if properties is not None:
        extra = directory / "extra.properties"
        extra.write_text(properties(node))
        node.words = ("-e", str(extra))
    with started(node):
        yield BrokerSettings(broker=node.address)


@contextmanager
def started(node: Node) -> Iterator[Node]:
    """The broker, up, and stopped for sure in the end."""
    need("java", "mvn")
    subprocess.run([RUN, "-l"], check=True)
    node.start()
    try:
        node.wait_until_up()
        yield node
    finally:
        node.stop()


@contextmanager
def cluster_of_three(directory: Path, properties: str = "") -> Iterator[Cluster]:
    """Three brokers with empty logs; `properties` may change what they are set to."""
    need("java", "mvn")
    subprocess.run([RUN, "-l"], check=True)
    ports, controller_ports = (drawn := free_ports(6))[:3], drawn[3:]
    voters = ",".join(f"{i}@127.0.0.1:{port}" for i, port in enumerate(controller_ports, start=1))
    nodes = []
    for number, (port, controller_port) in enumerate(
        zip(ports, controller_ports, strict=True), start=1
    ):
        own = directory / str(number)
        own.mkdir()
        extra = own / "extra.properties"
        extra.write_text(properties)
        words = ("-i", str(number), "-v", voters, "-e", str(extra))
        nodes.append(Node(own, port, controller_port, words))
    cluster = Cluster(nodes)
    try:
        cluster.all_up()
        yield cluster
    finally:
        for node in nodes:
            node.signal(signal.SIGCONT)
        for node in nodes:
            node.kill()


def need(*commands: str) -> None:
    """Skip without *commands*; fail where tests on Kafka are required."""
    missing = [command for command in commands if shutil.which(command) is None]
    if not missing:
        return
    reason = f"Apache Kafka needs {' and '.join(missing)}, which is not installed"
    if os.environ.get("ANABRANCH_REQUIRE_KAFKA"):
        pytest.fail(f"{reason}; ANABRANCH_REQUIRE_KAFKA is set", pytrace=False)
    pytest.skip(reason)


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
