"""A replay on Apache Kafka, of a run with swaps, a canary, and workers that were killed in it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from itertools import islice
from typing import Any

import pytest

from agents.broker.pipeline_topics import ensure_shadow_topic, ensure_topics
from agents.commands import labelled_events
from agents.components.catalogue import open_component
from agents.control.control_topic import ControlTopic
from agents.publish.outcome_publisher import OutcomePublisher
from agents.publish.publisher import producer, publish_chunk
from agents.service.promotion import Promoter
from models.training.train import train
from tests.integration.handbook import Handbook
from tests.integration.harness import (
    EVERYTHING,
    Trained,
    decided,
    publish,
    settled,
    simulated,
    stopped,
    worker_process,
)
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

PART = 1500
HANDBOOK_PART = 25_000
RATE = 750
FOREST = "risk-forest"
STAGES = ["features", "terminals", "risk-linear", "decision", "weigh"]


def replay(own: Trained, broker: BrokerSettings, *words: str) -> Any:
    """`anabranch replay` as somebody would type it; what it says as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "agents", "replay", str(own.file.path), *words, "--json"],
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": broker.broker},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@asynccontextmanager
async def promoter(own: Trained, broker: BrokerSettings) -> AsyncIterator[Promoter]:
    async with ControlTopic(broker, Topology.of(own.pipeline)) as control:
        yield Promoter(control, own.file, own.registry)


async def run_with_swaps(
    own: Trained, trained: Trained, broker: BrokerSettings, part: int,
    publish_part: Callable[[int], Awaitable[None]],
) -> None:  # fmt: skip
    """Four parts of so many events: two models are swapped, one is a canary, workers are killed."""
    topology = Topology.of(own.pipeline)
    rows = labelled_events.simulated(trained.pipeline, rows=20_000, seed=5)
    for seed in (9, 11):
        train(
            own.pipeline, own.home, rows, own.registry,
            open_component=open_component, seed=seed, only=[FOREST],
        )  # fmt: skip
    await ensure_topics(broker, topology)
    await ensure_shadow_topic(broker, topology, FOREST)
    async with promoter(own, broker) as ours:
        await ours.promote(FOREST, 1)
    with worker_process(own, broker, FOREST):
        with worker_process(own, broker, *STAGES) as first:
            await publish_part(0)
            await decided(broker, own.pipeline, part // 2)
            async with promoter(own, broker) as ours:
                await ours.promote(FOREST, 2, "the first swap")
            await decided(broker, own.pipeline, part)
            publishing = asyncio.ensure_future(publish_part(1))
            await decided(broker, own.pipeline, part + part // 4)
            assert await asyncio.to_thread(stopped, first, signal.SIGKILL) == -signal.SIGKILL
            await publishing
        with worker_process(own, broker, *STAGES) as second:
            async with promoter(own, broker) as ours:
                await ours.challenge(FOREST, 3, 0.3, "the canary")
            await decided(broker, own.pipeline, 2 * part)
            publishing = asyncio.ensure_future(publish_part(2))
            await decided(broker, own.pipeline, 2 * part + part // 4)
            assert await asyncio.to_thread(stopped, second, signal.SIGKILL) == -signal.SIGKILL
            await publishing
        with worker_process(own, broker, *STAGES):
            await decided(broker, own.pipeline, 3 * part)
            async with promoter(own, broker) as ours:
                await ours.promote(FOREST, 3, "the second swap")
            await publish_part(3)
            await settled(broker, own.pipeline, 4 * part)
    assert {*STAGES, FOREST} == {*EVERYTHING}


def check_all_the_same(report: Any, events: int) -> None:
    """Every event has the same decision again, made by one of three forests."""
    assert (report["events"], report["decisions"]) == (events, events)
    assert (report["different"], report["undecided"]) == (0, 0)
    assert {*report["taken"]} <= {"late"}
    assert report["recomputed"] > 0.99 * events
    forests = {model.split()[0] for model in report["models"] if model.startswith(FOREST)}
    assert forests == {f"{FOREST}@{n}" for n in (1, 2, 3)}


async def test_a_run_with_two_swaps_a_canary_and_killed_workers_is_the_same_again(
    own: Trained, trained: Trained, broker: BrokerSettings
) -> None:
    events = simulated(own.pipeline, 4 * PART)

    async def publish_part(number: int) -> None:
        part = events[number * PART : (number + 1) * PART]
        await publish(broker, own.pipeline, part, RATE)

    await run_with_swaps(own, trained, broker, PART, publish_part)
    report = await asyncio.to_thread(replay, own, broker)
    check_all_the_same(report, 4 * PART)
    part = await asyncio.to_thread(
        replay, own, broker, "--partitions", "1", "--from", "1/700", "--to", "1/900"
    )
    assert (part["events"], part["recomputed"] + part["partly_taken"]) == (200, 200)


@pytest.mark.handbook
@pytest.mark.timeout(1800)
async def test_the_handbooks_events_with_their_outcomes_are_the_same_again(
    own: Trained, trained: Trained, broker: BrokerSettings
) -> None:
    """The first 100,000: eleven days, so that outcomes of the first four are known."""
    events = iter([*islice(Handbook.until(date(2018, 4, 13)).events(), 4 * HANDBOOK_PART)])
    outcomes = OutcomePublisher(own.pipeline)
    following = outcomes.following(events)
    topology = Topology.of(own.pipeline)

    async def publish_part(_: int) -> None:
        part = islice(following, HANDBOOK_PART)
        async with producer(broker) as kafka:
            while chunk := list(islice(part, 500)):
                await outcomes.publish_known(kafka)
                await publish_chunk(kafka, topology.events, topology.partitions, chunk)
                await asyncio.sleep(0.05)

    await run_with_swaps(own, trained, broker, HANDBOOK_PART, publish_part)
    report = await asyncio.to_thread(replay, own, broker)
    print(json.dumps(report, indent=1))
    check_all_the_same(report, 4 * HANDBOOK_PART)
