"""Writing many records of one partition as whole record batches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import RecordMetadata, TopicPartition

from topics.errors import NotAuthorized, WriteTimeout
from topics.kafka.aiokafka_fixes import forget_refused_batch

TIMEOUT_S = 60.0
"""An idempotent aiokafka producer retries for ever: a broker may be away for this long."""

MAX_RECORD_BYTES = 900_000
"""A batch larger than this is split: brokers refuse records over 1 MB by default."""

_LOOK_AGAIN_S = 0.1

_OVERHEAD = 61 + 25
"""Bytes of a record batch's header, and of a record's own numbers."""
_LONGEST_LENGTH = 5
"""Bytes that say how long a field of a record is."""

Headers = list[tuple[str, bytes]]


class Record(NamedTuple):
    """One record to write: key, value, timestamp (milliseconds) and headers."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Headers = []  # noqa: RUF012  # aiokafka takes only a list, and never changes it

    @property
    def size(self) -> int:
        """Bytes that it takes at most, alone in its record batch."""
        headers = (text for name, value in self.headers for text in (name.encode(), value or b""))
        fields = [self.key or b"", self.value or b"", *headers]
        return _OVERHEAD + sum(map(len, fields)) + _LONGEST_LENGTH * len(fields)


async def write_batches(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    records: Iterable[Record],
    headers: Headers | None = None,
) -> list[tuple[int, int]]:
    """Append *records* in order; returns when all in-sync replicas have them.

    *headers* are added to those of each record. The result is (first offset, count) of each
    record batch. Raises KafkaError, NotAuthorized, or WriteTimeout when the broker does not
    confirm in time: some may be written then. After MessageSizeTooLargeError the batch with that
    record is not, and the producer can go on.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _write(producer, topic, partition, records, headers or [])
    except TopicAuthorizationFailedError as exc:
        raise NotAuthorized(topic, "to be written by us") from exc
    except TimeoutError as exc:
        raise WriteTimeout(topic, partition, TIMEOUT_S) from exc


async def _has_leaders(producer: AIOKafkaProducer, topic: str) -> None:
    """Wait until the topic is known: brokers that were all away have no leaders at first."""
    while True:
        try:
            await producer.partitions_for(topic)
        except LeaderNotAvailableError:
            await asyncio.sleep(_LOOK_AGAIN_S)
        else:
            return


async def _write(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    records: Iterable[Record],
    common: Headers,
) -> list[tuple[int, int]]:
    await _has_leaders(producer, topic)
    written: list[tuple[int, int]] = []

    async def send() -> None:
        # One after the other: were a later batch stored without an earlier one, the tail of
        # the partition would say that the earlier one is there too.
        count = batch.record_count()
        sent: asyncio.Future[RecordMetadata] = await producer.send_batch(
            batch, topic, partition=partition
        )
        try:
            written.append(((await sent).offset, count))
        except MessageSizeTooLargeError:
            forget_refused_batch(producer, TopicPartition(topic, partition), count)
            raise

    batch = producer.create_batch()
    for key, value, timestamp_ms, headers in records:
        row = {"key": key, "value": value, "timestamp": timestamp_ms, "headers": headers + common}
        if batch.append(**row) is None:
            await send()
            batch = producer.create_batch()
            batch.append(**row)
    if batch.record_count():
        await send()
    return written
