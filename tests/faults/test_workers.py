"""Workers that are killed, told to stop, frozen, hung, or come and go, on Apache Kafka."""

from __future__ import annotations

import asyncio
import signal
from random import Random

import pytest

from models.simulators import LabelledEvent
from tests.faults.conftest import EVENTS, Judge
from tests.faults.scene import streaming
from tests.faults.verdict import Reference, check_commits
from tests.integration.harness import Trained
from topics.settings import BrokerSettings

RATE = 250.0
KINDS = (("features",), ("terminals",), ("risk-linear", "risk-forest"), ("decision",), ("weigh",))
"""A source stage, a keyed one with its repartition, joined ones, and the weighting agent."""
EVERYTHING = tuple(name for kind in KINDS for name in kind)


@pytest.mark.core
async def test_sigkill_of_each_kind_of_component_in_mid_batch(
    pipeline: Trained,
    kafka: BrokerSettings,
    events: list[LabelledEvent],
    judge: Judge,
    reference: Reference,
    seed: int,
) -> None:
    random = Random(seed)
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        workers = [scene.workers(*kind) for kind in KINDS]
        await scene.ended(EVENTS // 16)
        for victim in random.sample(workers, len(workers)):
            await asyncio.sleep(random.uniform(0, 0.5))
            await victim.killed()
            await check_commits(pipeline, kafka, victim.components)
            victim.start()
            await scene.recovered()
    await judge(scene, reference)


async def test_sigterm_under_load(
    pipeline: Trained,
    kafka: BrokerSettings,
    events: list[LabelledEvent],
    judge: Judge,
    reference: Reference,
    seed: int,
) -> None:
    random = Random(seed)
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        for part in (8, 4):
            workers = scene.workers(*EVERYTHING)
            await scene.ended(EVENTS // part + random.randrange(100))
            workers.signal(signal.SIGTERM)
            assert await workers.ended(10) == 0
            await check_commits(pipeline, kafka, EVERYTHING)
        scene.workers(*EVERYTHING)
        await scene.recovered()
    await judge(scene, reference)


@pytest.mark.core
async def test_sigstop_for_longer_than_the_session_and_then_sigcont(
    pipeline: Trained,
    kafka: BrokerSettings,
    events: list[LabelledEvent],
    judge: Judge,
    reference: Reference,
    seed: int,
) -> None:
    random = Random(seed)
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        zombie, heir = scene.workers(*EVERYTHING), scene.workers(*EVERYTHING)
        await scene.ended(EVENTS // 16)
        await asyncio.sleep(random.uniform(0, 0.5))
        zombie.signal(signal.SIGSTOP)
        await scene.recovered()  # its partitions are the other's now
        await asyncio.sleep(2)
        zombie.signal(signal.SIGCONT)
        await scene.ended(EVENTS)
        assert heir.process is not None
        assert heir.process.poll() is None
    await judge(scene, reference)


async def test_workers_that_join_and_leave_every_5_s(
    request: pytest.FixtureRequest,
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference,
) -> None:  # fmt: skip
    times = 12 if request.config.getoption("--long", False) else 3
    async with streaming(pipeline, kafka, events, rate=EVENTS / (times * 10)) as scene:
        scene.workers(*EVERYTHING)
        for _ in range(times):
            guest = scene.workers(*EVERYTHING)
            await asyncio.sleep(5)
            guest.signal(signal.SIGTERM)
            code = await guest.ended(10)
            assert guest.said is not None
            # On a busy machine it may be told before it listens, and has nothing in hand.
            began = "running on" in guest.said.read_text()
            assert code == 0 or (code == -signal.SIGTERM and not began)
            await asyncio.sleep(5)
        await scene.recovered()
    await judge(scene, reference)


async def test_all_workers_down_and_a_backlog(
    pipeline: Trained,
    kafka: BrokerSettings,
    events: list[LabelledEvent],
    judge: Judge,
    reference: Reference,
) -> None:
    async with streaming(pipeline, kafka, events, rate=4 * RATE) as scene:
        workers = scene.workers(*EVERYTHING)
        await scene.ended(1)
        await workers.killed()
        await scene.published(EVENTS * 7 // 8)
        scene.workers(*EVERYTHING)
        await scene.recovered()
    await judge(scene, reference)
