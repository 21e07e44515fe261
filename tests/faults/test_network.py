"""A network that is cut, slow, or loses packets, and a disk that is full."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.simulators import LabelledEvent
from tests.faults.conftest import EVENTS, Judge
from tests.faults.network import losing_packets, proxied
from tests.faults.scene import streaming
from tests.faults.test_workers import EVERYTHING, RATE
from tests.faults.verdict import Reference, check_commits
from tests.integration.harness import Trained
from tests.kafka_nodes import Node, free_ports, one_broker, started
from topics.settings import BrokerSettings


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BrokerSettings, int, int]]:
    """A broker near us, where it is to be found by workers, and where it really is."""
    seen, real = free_ports(2)

    def properties(node: Node) -> str:
        near, ours = f"PLAINTEXT://{node.address}", f"CONTROLLER://127.0.0.1:{node.controller_port}"
        return (
            f"listeners={near},{ours},FAR://127.0.0.1:{real}\n"
            f"advertised.listeners={near},FAR://127.0.0.1:{seen}\n"
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT\n"
        )

    with one_broker(tmp_path_factory.mktemp("far"), properties) as broker:
        yield broker, seen, real


async def test_network_cut_for_10_s(
    pipeline: Trained, far: tuple[BrokerSettings, int, int], events: list[LabelledEvent],
    judge: Judge, reference: Reference,
) -> None:  # fmt: skip
    broker, seen, real = far
    async with (
        proxied(seen, real) as proxy,
        streaming(pipeline, broker, events, rate=RATE) as scene,
    ):
        workers = scene.workers(*EVERYTHING, broker=f"127.0.0.1:{seen}")
        async with workers.supervision():
            await scene.ended(EVENTS // 16)
            proxy.whole.clear()
            await asyncio.sleep(10)
            proxy.whole.set()
            await scene.recovered()
            await scene.ended(EVENTS)
    await judge(scene, reference)


async def test_network_delay_of_200_ms(
    pipeline: Trained, far: tuple[BrokerSettings, int, int], events: list[LabelledEvent],
    judge: Judge, reference: Reference,
) -> None:  # fmt: skip
    broker, seen, real = far
    async with (
        proxied(seen, real) as proxy,
        streaming(pipeline, broker, events, rate=RATE) as scene,
    ):
        scene.workers(*EVERYTHING, broker=f"127.0.0.1:{seen}")
        await scene.ended(EVENTS // 16)
        proxy.delay_s = 0.2
        await scene.recovered()
        await scene.ended(EVENTS)
    await judge(scene, reference)


async def test_network_that_loses_5_percent(
    pipeline: Trained, far: tuple[BrokerSettings, int, int], events: list[LabelledEvent],
    judge: Judge, reference: Reference,
) -> None:  # fmt: skip
    broker, seen, real = far
    with losing_packets(seen, one_in=20):
        async with (
            proxied(seen, real),
            streaming(pipeline, broker, events, rate=RATE) as scene,
        ):
            workers = scene.workers(*EVERYTHING, broker=f"127.0.0.1:{seen}")
            async with workers.supervision():
                await scene.ended(EVENTS // 16)
                await scene.recovered()
                await scene.ended(EVENTS)
    await judge(scene, reference)


@pytest.fixture
def on_small_disk(tmp_path: Path) -> Iterator[Node]:
    """A broker whose log is on a file system of 256 MB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a full disk needs the right to mount a small one")
    try:
        port, controller_port = free_ports(2)
        with started(Node(disk, port, controller_port)) as node:
            yield node
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


async def test_log_directory_full(
    pipeline: Trained, on_small_disk: Node, events: list[LabelledEvent],
    judge: Judge, reference: Reference,
) -> None:  # fmt: skip
    node, disk = on_small_disk, on_small_disk.directory
    broker = BrokerSettings(broker=node.address)
    async with streaming(pipeline, broker, events, rate=1e9) as scene:
        await scene.published(EVENTS)
        filler = disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - 2**20))
        workers = scene.workers(*EVERYTHING, give_up_s="10")
        assert await workers.ended(120) == 1
        node.kill()
        filler.unlink()
        node.start()
        await asyncio.to_thread(node.wait_until_up)
        await check_commits(pipeline, broker, EVERYTHING)
        workers.start()
        await scene.ended(EVENTS)
    await judge(scene, reference)
