"""Brokers that die, or are away, under a pipeline on a cluster of three."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from models.simulators import LabelledEvent
from tests.faults.conftest import Judge
from tests.faults.scene import streaming
from tests.faults.test_workers import EVERYTHING, RATE
from tests.faults.verdict import Reference
from tests.integration.harness import Trained
from tests.kafka_nodes import Cluster


async def test_leader_killed_and_started_again(
    pipeline: Trained,
    cluster: Cluster,
    events: list[LabelledEvent],
    judge: Judge,
    reference: Reference,
    seed: int,
) -> None:
    random = Random(seed)
    async with streaming(pipeline, cluster.settings, events, rate=RATE, replication=3) as scene:
        workers = scene.workers(*EVERYTHING)
        async with workers.supervision():
            await scene.ended(len(events) // 16)
            node = random.choice(cluster.nodes)  # each leads some of the partitions
            node.kill()
            await asyncio.sleep(random.uniform(2, 6))
            await asyncio.to_thread(cluster.all_up)
            await scene.recovered()
            await scene.ended(len(events))
    await judge(scene, reference)


async def test_all_brokers_down(
    request: pytest.FixtureRequest,
    pipeline: Trained, cluster: Cluster, events: list[LabelledEvent], judge: Judge,
    reference: Reference,
) -> None:  # fmt: skip
    async with streaming(pipeline, cluster.settings, events, rate=RATE, replication=3) as scene:
        workers = scene.workers(*EVERYTHING)
        async with workers.supervision():
            await scene.ended(len(events) // 16)
            for node in cluster.nodes:
                node.kill()
            await asyncio.sleep(30 if request.config.getoption("--long", False) else 5)
            await asyncio.to_thread(cluster.all_up)
            await scene.recovered()
            await scene.ended(len(events))
    await judge(scene, reference)


async def test_brokers_down_at_start(
    pipeline: Trained,
    cluster: Cluster,
    events: list[LabelledEvent],
    judge: Judge,
    reference: Reference,
) -> None:
    async with streaming(pipeline, cluster.settings, events, rate=4 * RATE, replication=3) as scene:
        await scene.published(len(events) // 4)
        for node in cluster.nodes:
            node.kill()
        scene.workers(*EVERYTHING, words=("--wait", "120"))
        await asyncio.sleep(5)
        await asyncio.to_thread(cluster.all_up)
        await scene.recovered()
    await judge(scene, reference)
