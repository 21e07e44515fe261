"""Producers with transactions: open for long, aborted, and the markers that they leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from agents.process.liveness import Liveness
from agents.publish.publisher import partition_of
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    records_of,
    renamed,
    simulated,
    trained_small,
)
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

Event = tuple[bytes, bytes]
"""Key and value."""


@pytest.fixture(scope="module")
def card_fraud(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Card fraud as it ships; its forest has fewer trees."""
    home = tmp_path_factory.mktemp("card-fraud")
    return trained_small("card-fraud", home, rows=20_000, trees=3)


@asynccontextmanager
async def transactional(broker: BrokerSettings, name: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.broker, transactional_id=name, transaction_timeout_ms=300_000
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(producer: AIOKafkaProducer, own: Trained, events: Sequence[Event]) -> None:
    topology = Topology.of(own.pipeline)
    for key, value in events:
        partition = partition_of(key, topology.partitions)
        await producer.send(topology.events, value, key=key, partition=partition)


async def all_decided(own: Trained, broker: BrokerSettings, events: Sequence[Event]) -> None:
    """Wait for a decision about each, with every stage."""
    wanted = {str(orjson.loads(value)["transaction_id"]) for _, value in events}
    async with asyncio.timeout(60):
        while True:
            decisions = await decisions_of(broker, own.pipeline)
            if wanted <= {str(each["event_id"]) for each in decisions}:
                break
            await asyncio.sleep(0.2)
    assert not any(each["degraded"] for each in decisions)
    assert await records_of(broker, Topology.of(own.pipeline).dead_letters) == []


async def test_a_transaction_that_was_committed_while_the_pipeline_was_down_holds_nobody_up(
    card_fraud: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(card_fraud, tmp_path)
    events = simulated(own.pipeline, 60)
    async with pipeline_running(own, broker):
        pass  # its topics are there
    async with transactional(broker, "while-down") as producer:
        async with producer.transaction():
            await send(producer, own, events[:40])
        async with pipeline_running(own, broker):
            await all_decided(own, broker, events[:40])
            async with producer.transaction():
                await send(producer, own, events[40:])
            await all_decided(own, broker, events)


async def test_an_open_transaction_makes_no_worker_look_stuck_and_an_aborted_one_never_was(
    card_fraud: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(card_fraud, tmp_path)
    events = simulated(own.pipeline, 60)
    now = [0.0]
    liveness = Liveness(120, clock=lambda: now[0])
    async with pipeline_running(own, broker) as running, transactional(broker, "open") as producer:
        await producer.begin_transaction()
        await send(producer, own, events[:20])
        await producer.flush()
        await asyncio.sleep(1)
        async with asyncio.timeout(60):  # workers open what they own, and deal with heartbeats
            while any(running.positions().values()):  # noqa: ASYNC110  # it is asked
                await asyncio.sleep(0.1)
        for _ in range(3):
            liveness.look(running.positions())
            assert liveness.stuck() == []
            now[0] += 600
        assert running.lag() == 0, "what cannot be read yet is nobody's to deal with"
        await producer.commit_transaction()
        await all_decided(own, broker, events[:20])
        await producer.begin_transaction()
        await send(producer, own, events[20:40])
        await producer.abort_transaction()
        async with producer.transaction():
            await send(producer, own, events[40:])
        await all_decided(own, broker, [*events[:20], *events[40:]])
        decided = {str(each["event_id"]) for each in await decisions_of(broker, own.pipeline)}
        assert len(decided) == 40
