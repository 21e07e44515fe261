"""The log of requests with a key, followed and written; its ledger is never ahead of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiokafka
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from agents.broker import read_to_end
from agents.gateway.keyed.request_ledger import KEPT_MS, RequestLedger
from agents.publish import partition_of
from topics.kafka import Record, write_batches
from topics.pipeline import Topology
from topics.records import RequestRecord

_WAIT_MS = 1000
_AT_ONCE = 2000


class RequestLog:
    """`<pipeline>.requests` by a *consumer* that reads all of it from its start, and a producer."""

    def __init__(
        self, consumer: aiokafka.AIOKafkaConsumer, kafka: AIOKafkaProducer, topology: Topology
    ) -> None:
        self.ledger = RequestLedger()
        self._consumer, self._kafka, self._topology = consumer, kafka, topology
        self._read = dict.fromkeys(range(topology.partitions), 0)
        """The next offset of each partition that the ledger does not have yet."""
        self._moved = asyncio.Condition()

    async def catch_up(self) -> None:
        """Take in all that is there now. Raises KafkaError."""
        async for tp, records in read_to_end(self._consumer):
            self._take(tp.partition, records)

    async def follow(self) -> None:
        """Until it is cancelled. Raises KafkaError."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=_WAIT_MS, max_records=_AT_ONCE)
            for tp, records in fetched.items():
                self._take(tp.partition, records)
            self.ledger.forget_before(time.time_ns() // 1_000_000 - KEPT_MS)
            if fetched:
                async with self._moved:
                    self._moved.notify_all()

    def _take(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            self.ledger.take(record.key, record.timestamp, record.value)
            self._read[partition] = record.offset + 1

    async def append(self, key: bytes, record: RequestRecord) -> None:
        """Write *record*; returns once the ledger has it and all that stands before it."""
        partition = partition_of(key, self._topology.partitions)
        now_ms = time.time_ns() // 1_000_000
        value = record.model_dump_json(exclude_defaults=True).encode()
        written = await write_batches(
            self._kafka, self._topology.requests, partition, [Record(key, value, now_ms)]
        )
        offset = written[0][0]
        async with self._moved:
            await self._moved.wait_for(lambda: self._read[partition] > offset)

    async def moved(self, within_s: float) -> None:
        """Return when more has been read, or after *within_s*."""
        try:
            async with asyncio.timeout(within_s), self._moved:
                await self._moved.wait()
        except TimeoutError:
            return
