"""What a worker was writing when it lost its lease does not arrive later.

In the event loop that workers have: connections are reset below it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.protocol.produce import ProduceRequest

from agents.commands.event_loop import run_async
from tests.integration.harness import PATIENCE_S, records_of
from topics.errors import LeaseLost
from topics.kafka.batches import Record
from topics.kafka.connection import client_options
from topics.settings import BrokerSettings
from topics.transport.leased_writer import LeasedWriter

TOPIC = "leased.decisions"


def record(value: bytes) -> Record:
    return Record(None, value, 1_700_000_000_000)


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "disconnected"])
def test_a_write_that_outlives_the_lease_is_given_up_for_good(
    connected: bool, broker: BrokerSettings
) -> None:
    run_async(write_that_outlives_the_lease(broker, connected=connected))


async def write_that_outlives_the_lease(broker: BrokerSettings, *, connected: bool) -> None:
    leased = asyncio.Event()
    leased.set()

    def check_lease() -> None:
        if not leased.is_set():
            raise LeaseLost("p.weigh", 31.0)

    producer = AIOKafkaProducer(**client_options(broker), acks="all", enable_idempotence=True)
    await producer.start()
    writer = LeasedWriter(producer, check_lease)
    watching = asyncio.create_task(writer.watch())
    try:
        await writer.write(TOPIC, 0, [record(b"before")])
        network, sending = asyncio.Event(), asyncio.Event()
        send = producer.client.send

        async def send_when_there_is_a_network(node: int, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest):
                sending.set()
                await network.wait()
            return await send(node, request, **options)

        producer.client.send = send_when_there_is_a_network
        writing = asyncio.create_task(writer.write(TOPIC, 0, [record(b"under way")]))
        await sending.wait()
        if not connected:
            for connection in producer.client._conns.values():
                connection.close()
        leased.clear()
        async with asyncio.timeout(PATIENCE_S):
            while writer.severed is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        network.set()
        with pytest.raises(LeaseLost):
            await writing
        leased.set()
        with pytest.raises(LeaseLost):  # nobody may go on as if nothing had happened
            await writer.write(TOPIC, 0, [record(b"afterwards")])
        await asyncio.sleep(0.5)
    finally:
        watching.cancel()
        await producer.stop()
    assert [found.value for found in await records_of(broker, TOPIC)] == [b"before"]


def test_a_frozen_worker_that_wakes_up_sends_nothing_of_what_it_was_about_to(
    broker: BrokerSettings,
) -> None:
    run_async(frozen_worker_that_wakes_up(broker))


async def frozen_worker_that_wakes_up(broker: BrokerSettings) -> None:
    looks = 0

    def check_lease() -> None:  # the process is frozen behind the first look
        nonlocal looks
        looks += 1
        if looks > 1:
            raise LeaseLost("p.weigh", 31.0)

    producer = AIOKafkaProducer(**client_options(broker), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        writer = LeasedWriter(producer, check_lease)
        with pytest.raises(LeaseLost):
            await writer.write("frozen.decisions", 0, [record(b"too late")])
        assert writer.severed is not None
    finally:
        await producer.stop()
    assert await records_of(broker, "frozen.decisions") == []
