"""Brokers that cannot be reached where they are said to be, or where they say themselves.

Every command waits for the broker by `wait_for_broker`; the command line prints what that raises.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.broker.reach import wait_for_broker
from tests.integration.harness import Trained, pipeline_running, publish, settled, simulated
from tests.kafka_nodes import RUN, START_TIMEOUT_S, Node, free_ports, need
from topics.errors import BrokerUnreachable, HostUnknown, ListenerUnreachable
from topics.settings import BrokerSettings

UNKNOWN = "no-such-host.invalid"
"""A name that is never known (RFC 2606)."""
AT_ONCE_S = 15
"""Of a process, its imports and a name server's answer; not the 30 s that a broker is awaited."""


@contextmanager
def _broker(directory: Path, listener: str, advertised: str) -> Iterator[BrokerSettings]:
    """A broker that listens at *listener*, and advertises something else."""
    need("java", "mvn")
    subprocess.run([RUN, "-l"], check=True)
    port, controller_port = free_ports(2)
    extra = directory / "extra.properties"
    extra.write_text(
        f"listeners=PLAINTEXT://{listener}:{port},CONTROLLER://127.0.0.1:{controller_port}\n"
        f"advertised.listeners=PLAINTEXT://{advertised.format(port=port)}\n"
    )
    node = Node(directory, port, controller_port, ("-e", str(extra)))
    node.start()
    try:
        settings = BrokerSettings(broker=f"{listener}:{port}")
        asyncio.run(_answers(settings))
        yield settings
    finally:
        node.stop()


async def _answers(settings: BrokerSettings) -> None:
    """Return when a client can bootstrap there, whatever it is told then."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        client = AIOKafkaProducer(bootstrap_servers=settings.addresses)
        try:
            await client.start()
        except KafkaError:
            assert time.monotonic() < deadline, "Apache Kafka did not start"
            await asyncio.sleep(0.2)
        else:
            return
        finally:
            await client.stop()


def _command(own: Trained, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agents", *words], capture_output=True, text=True, check=False,
        env={**os.environ, "ANABRANCH_HOME": str(own.home), **environment}, timeout=AT_ONCE_S,
    )  # fmt: skip


def _is_one_sentence(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def test_an_advertised_listener_that_nobody_knows_is_one_sentence(
    trained: Trained, tmp_path: Path
) -> None:
    file = str(trained.file.path)
    with _broker(tmp_path, "127.0.0.1", UNKNOWN + ":{port}") as settings:
        told = f"{settings.broker} answers, but tells clients to use broker 1 at {UNKNOWN}:"
        why = "cannot be reached from here (Name or service not known)"
        for words in (["audit", file], ["topics", file, "--create"], ["run", file]):
            done = _command(trained, *words, "--broker", settings.broker)
            _is_one_sentence(done, told, why, "set advertised.listeners")
        done = _command(trained, "watch", file, ANABRANCH_BROKER=settings.broker)
        _is_one_sentence(done, told, why)
        with pytest.raises(ListenerUnreachable, match=UNKNOWN):
            asyncio.run(wait_for_broker(settings, 0))


def test_an_advertised_listener_where_nobody_listens_is_one_sentence(
    trained: Trained, tmp_path: Path
) -> None:
    (other,) = free_ports(1)
    with _broker(tmp_path, "127.0.0.1", f"127.0.0.1:{other}") as settings:
        done = _command(trained, "audit", str(trained.file.path), "--broker", settings.broker)
        _is_one_sentence(done, f"at 127.0.0.1:{other}, which cannot be reached from here (")


def test_a_host_that_nobody_knows_is_one_sentence(trained: Trained) -> None:
    file = str(trained.file.path)
    for words in (["audit", file], ["run", file], ["demo", "card-fraud", "--headless"]):
        done = _command(trained, *words, "--broker", f"{UNKNOWN}:9092")
        _is_one_sentence(done, f"no address is known for the host of broker {UNKNOWN}:9092")
    done = _command(trained, "publish", file, str(trained.file.path),
                    ANABRANCH_BROKER=f"{UNKNOWN}:9092")  # fmt: skip
    _is_one_sentence(done, f"no address is known for the host of broker {UNKNOWN}:9092")


async def test_of_several_brokers_one_that_nobody_knows_is_passed_over(
    kafka: BrokerSettings,
) -> None:
    await wait_for_broker(BrokerSettings(broker=f"{UNKNOWN}:9092,{kafka.broker}"))
    with pytest.raises(HostUnknown):
        await wait_for_broker(BrokerSettings(broker=f"{UNKNOWN}:9092,{UNKNOWN}:9093"))


async def test_a_broker_that_is_not_up_yet_is_waited_for() -> None:
    (port,) = free_ports(1)
    with pytest.raises(BrokerUnreachable, match=rf"answers at 127.0.0.1:{port} after 2 s"):
        await wait_for_broker(BrokerSettings(broker=f"127.0.0.1:{port}"), 2)


def test_a_pipeline_runs_on_a_broker_at_an_ipv6_address(trained: Trained, tmp_path: Path) -> None:
    async def decide(settings: BrokerSettings) -> None:
        async with pipeline_running(trained, settings):
            await publish(settings, trained.pipeline, simulated(trained.pipeline, 100), 1000)
            assert (await settled(settings, trained.pipeline, 100)).passed

    with _broker(tmp_path, "[::1]", "[::1]:{port}") as settings:
        asyncio.run(decide(settings))
