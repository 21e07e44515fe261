"""Writing record batches, also to a cluster that was away as a whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import LeaderNotAvailableError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata, TopicPartition

from topics.errors import WriteTimeout
from topics.kafka import batches
from topics.kafka.batches import Record, write_batches


class Producer:
    """Has no leader for the topic the first *refusals* times that it is asked."""

    def __init__(self, refusals: int) -> None:
        self._refusals = refusals
        self.written: list[int] = []

    async def partitions_for(self, _: str) -> set[int]:
        if self._refusals:
            self._refusals -= 1
            raise LeaderNotAvailableError
        return {0}

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(200, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> Any:
        first = sum(self.written)
        self.written.append(batch.record_count())
        at = TopicPartition(topic, partition)
        stored: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        stored.set_result(RecordMetadata(topic, partition, at, first, None, 0, 0))
        return stored


RECORDS = [Record(None, b"x" * 60, 1) for _ in range(5)]


async def test_records_are_written_in_order_in_as_many_batches_as_they_need() -> None:
    producer: Any = Producer(0)
    written = await write_batches(producer, "t", 0, RECORDS)
    assert len(written) > 1
    assert sum(count for _, count in written) == 5
    assert [first for first, _ in written] == [
        sum(count for _, count in written[:n]) for n in range(len(written))
    ]


async def test_a_topic_without_leaders_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LOOK_AGAIN_S", 0)
    producer: Any = Producer(3)
    assert sum(count for _, count in await write_batches(producer, "t", 0, RECORDS)) == 5


async def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "TIMEOUT_S", 0.05)
    producer: Any = Producer(10**6)
    with pytest.raises(WriteTimeout):
        await write_batches(producer, "t", 0, RECORDS)
