"""Whether a range of offsets holds records, where transactions leave markers behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from agents.workers.topic_tail import TailReader
from tests.kafka.topics_changed import create_topic, delete_records
from topics.settings import BrokerSettings


@pytest.fixture
async def tail(kafka: BrokerSettings) -> AsyncIterator[TailReader]:
    reader = TailReader(kafka)
    await reader.start()
    yield reader
    await reader.stop()


@pytest.fixture
async def topic(kafka: BrokerSettings) -> str:
    name = f"held-{time.monotonic_ns()}"
    await create_topic(kafka, name, 1)
    return name


@pytest.fixture
async def producer(kafka: BrokerSettings) -> AsyncIterator[AIOKafkaProducer]:
    made = AIOKafkaProducer(
        bootstrap_servers=kafka.addresses, transactional_id=f"t-{time.monotonic_ns()}"
    )
    await made.start()
    yield made
    await made.stop()


async def _send(producer: AIOKafkaProducer, topic: str, count: int) -> None:
    for _ in range(count):
        await producer.send_and_wait(topic, b"value", partition=0)


async def _readable(tail: TailReader, topic: str, end: int) -> None:
    """Wait until the partition can be read up to *end*: brokers write markers a moment later."""
    async with asyncio.timeout(30):
        while await tail.bounds(topic, 0) != (0, end):  # noqa: ASYNC110  # it is asked
            await asyncio.sleep(0.05)


async def test_a_marker_at_the_end_of_a_partition_is_no_record(
    tail: TailReader, topic: str, producer: AIOKafkaProducer
) -> None:
    async with producer.transaction():
        await _send(producer, topic, 3)
    await _readable(tail, topic, 4)
    assert await tail.holds_records(topic, 0, 0, 4)
    assert await tail.holds_records(topic, 0, 2, 3)
    assert not await tail.holds_records(topic, 0, 3, 4)
    assert not await tail.holds_records(topic, 0, 2, 2)
    assert not await tail.holds_records(topic, 0, 4, 100)


async def test_aborted_records_are_none_and_those_between_them_are(
    tail: TailReader, topic: str, producer: AIOKafkaProducer
) -> None:
    for aborted in (True, False, True, True):
        await producer.begin_transaction()
        await _send(producer, topic, 2)
        await (producer.abort_transaction() if aborted else producer.commit_transaction())
    await _readable(tail, topic, 12)
    assert not await tail.holds_records(topic, 0, 0, 3)
    assert await tail.holds_records(topic, 0, 0, 4)
    assert await tail.holds_records(topic, 0, 4, 5)
    assert not await tail.holds_records(topic, 0, 5, 12)


async def test_records_of_a_transaction_that_is_open_are_none_yet(
    tail: TailReader, topic: str, producer: AIOKafkaProducer
) -> None:
    await producer.begin_transaction()
    await _send(producer, topic, 2)
    assert not await tail.holds_records(topic, 0, 0, 2)
    await producer.commit_transaction()
    await _readable(tail, topic, 3)
    assert await tail.holds_records(topic, 0, 0, 2)


async def test_deleted_records_are_none(
    tail: TailReader, topic: str, producer: AIOKafkaProducer, kafka: BrokerSettings
) -> None:
    async with producer.transaction():
        await _send(producer, topic, 5)
    await _readable(tail, topic, 6)
    await delete_records(kafka, topic, 0, before=3)
    assert not await tail.holds_records(topic, 0, 0, 3)
    assert await tail.holds_records(topic, 0, 0, 4)


async def test_records_that_are_dropped_while_they_are_being_read_are_passed_over(
    tail: TailReader, topic: str, producer: AIOKafkaProducer, kafka: BrokerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async with producer.transaction():
        await _send(producer, topic, 6)
    await _readable(tail, topic, 7)
    bounds = tail.bounds

    async def before_that(topic: str, partition: int) -> tuple[int, int]:
        monkeypatch.setattr(tail, "bounds", bounds)
        answer = await bounds(topic, partition)
        await delete_records(kafka, topic, partition, before=4)
        return answer

    monkeypatch.setattr(tail, "bounds", before_that)
    records = await tail.between(topic, 0, 0, 6)
    assert [record.offset for record in records] == [4, 5]


async def test_a_time_before_1970_is_any_time(
    tail: TailReader, topic: str, kafka: BrokerSettings
) -> None:
    """A minute before an event whose producer has set no clock, say."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.addresses) as producer:
        for timestamp_ms in (0, 1_700_000_000_000):
            await producer.send_and_wait(topic, b"v", partition=0, timestamp_ms=timestamp_ms)
    assert await tail.since(topic, 0, -60_000) == 0
    assert await tail.since(topic, 0, 1) == 1
