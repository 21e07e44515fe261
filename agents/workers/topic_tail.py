"""What a topic already holds: its last records, read by partition, outside any group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing

import aiokafka
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from topics.errors import WireError
from topics.kafka import (
    TopicIdentity,
    client_options,
    close_client,
    learn_topics,
    network_client,
    topic_identities,
)
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_LAST = 8
_GROWTH = 4
_FURTHEST = 2**16
"""Looking back from the end, steps grow so much each time, to so many offsets at most."""
_CHUNK = 2000
"""So many records are decoded at once: others have their turn in between, and memory is bounded."""
GAP = 100
"""Records this close together are read in one go."""
_FETCH_WAIT_MS = 10
_FETCH_BYTES = 2**20
"""Mostly a few records are wanted, not what follows them; Kafka gives a larger one all the same."""
_LOOK_MS = 20
"""A fetch of nothing but markers moves the position, and wakes nobody up."""
_ANY_OFFSET = 2**63


class TailReader:
    """Reads the ends of partitions; also single records by offset."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._embedded = settings.embedded
        self._kafka = aiokafka.AIOKafkaConsumer(
            **client_options(settings),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            # A broker answers a connection's requests in order: offsets asked for while a
            # fetch waits for records are answered when that wait is over.
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=16 * 2**20 if settings.embedded else _FETCH_BYTES,
        )
        self._reading = asyncio.Lock()
        self.records_read = 0
        """So far: a start-up that reads on makes progress."""

    async def start(self) -> None:
        """Connect."""
        await self._kafka.start()

    async def stop(self) -> None:
        """Disconnect."""
        await close_client(self._kafka)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is still there, and the next to be written."""
        tp = TopicPartition(topic, partition)
        await learn_topics(self._kafka, [topic])
        first = await self._kafka.beginning_offsets([tp])
        end = await self._kafka.end_offsets([tp])
        return first[tp], end[tp]

    async def since(self, topic: str, partition: int, time_ms: int) -> int:
        """The first offset that was written at *time_ms* or later, or one before it.

        A time before 1970 is any time: producers set what they like, and Kafka knows none such.
        """
        first, end = await self.bounds(topic, partition)
        if self._embedded:  # it knows no times
            return first
        tp = TopicPartition(topic, partition)
        first_since = (await self._kafka.offsets_for_times({tp: max(0, time_ms)}))[tp]
        return end if first_since is None else int(first_since.offset)

    def chunks(
        self, topic: str, partition: int, start: int
    ) -> AsyncGenerator[list[ConsumerRecord]]:
        """The records from offset *start* on, to what is the end now, some at a time.

        Nothing else can be read before the last was taken or the iterator was closed.
        """
        return self.between_chunks(topic, partition, start, _ANY_OFFSET)

    async def holds_records(self, topic: str, partition: int, start: int, end: int) -> bool:
        """Whether offsets [start, end) hold any record that can be read, see `a_record`."""
        return await self.a_record(topic, partition, start, end) is not None

    async def a_record(self, topic: str, partition: int, start: int, end: int) -> int | None:
        """The offset of a record in [start, end), of the last that is at hand; None without any.

        Transactions' markers, records of aborted ones, and what was deleted or compacted away are
        none; records of a transaction that is still open are none yet.
        """
        async with aclosing(self.between_chunks(topic, partition, start, end)) as chunks:
            async for records in chunks:
                if records:
                    return int(records[-1].offset)
        return None

    async def identities(self, topics: Iterable[str]) -> Mapping[str, TopicIdentity | None]:
        """What the broker says of *topics*, see `topics.kafka.topic_identity`."""
        return await topic_identities(network_client(self._kafka), topics)

    async def ends(self, topics: Iterable[str], partitions: int) -> dict[tuple[str, int], int]:
        """The next offset to be written, of all partitions of *topics*."""
        wanted = [TopicPartition(topic, p) for topic in topics for p in range(partitions)]
        await learn_topics(self._kafka, topics)
        ends = await self._kafka.end_offsets(wanted)
        return {(tp.topic, tp.partition): end for tp, end in ends.items()}

    async def last_read(
        self, topic: str, partition: int, read: Callable[[ConsumerRecord], int | None]
    ) -> list[int]:
        """What *read* finds in the partition's last records; a record that is not ours is skipped.

        Looks further back while there are only others' records, ones that *read* finds nothing
        in, or transaction markers. However many these are, each is read once.
        """
        async for start, end in self.backwards(topic, partition):
            values: list[int] = []
            async with aclosing(self.between_chunks(topic, partition, start, end)) as chunks:
                async for records in chunks:
                    values += readable(records, read)
            if values:
                return values
        return []

    async def backwards(self, topic: str, partition: int) -> AsyncGenerator[tuple[int, int]]:
        """Ranges of offsets, [start, end), from the end of a partition back to its beginning.

        They adjoin, and grow.
        """
        first, end = await self.bounds(topic, partition)
        step = _LAST
        while end > first:
            start = max(first, end - step)
            yield start, end
            end, step = start, min(step * _GROWTH, _FURTHEST)

    async def between(
        self, topic: str, partition: int, start: int, end: int
    ) -> list[ConsumerRecord]:
        """The records with offsets in [start, end) that are still there."""
        result: list[ConsumerRecord] = []
        async with aclosing(self.between_chunks(topic, partition, start, end)) as chunks:
            async for records in chunks:
                result += records
        return result

    async def between_chunks(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncGenerator[list[ConsumerRecord]]:
        """The records with offsets in [start, end) that are still there, some at a time.

        Nothing else can be read before the last was taken or the iterator was closed.
        """
        async with self._reading:
            first, after_last = await self.bounds(topic, partition)
            tp = TopicPartition(topic, partition)
            reading = self._read(tp, max(start, first), min(end, after_last))
            async with aclosing(reading) as chunks:
                async for records in chunks:
                    yield records

    async def _read(
        self, tp: TopicPartition, start: int, end: int
    ) -> AsyncGenerator[list[ConsumerRecord]]:
        if start >= end:
            return
        self._kafka.assign([tp])
        self._kafka.seek(tp, start)
        try:
            while (position := await self._kafka.position(tp)) < end:
                most = min(_CHUNK, end - position)
                try:
                    fetched = await self._kafka.getmany(tp, timeout_ms=_LOOK_MS, max_records=most)
                except OffsetOutOfRangeError:
                    # The broker has dropped the oldest records since it was asked for the first.
                    first, _ = await self.bounds(tp.topic, tp.partition)
                    if first <= position:
                        raise
                    self._kafka.seek(tp, min(first, end))
                    continue
                records = fetched.get(tp, [])
                self.records_read += len(records)
                yield [record for record in records if record.offset < end]
                await asyncio.sleep(0)  # what was fetched before is given without any wait
        finally:
            self._kafka.unsubscribe()  # or it would go on fetching for nobody


def readable(
    records: Iterable[ConsumerRecord], read: Callable[[ConsumerRecord], int | None]
) -> list[int]:
    """What *read* finds in those records that it can read; the others are logged."""
    values: list[int] = []
    for record in records:
        try:
            value = read(record)
        except (WireError, KeyError, ValueError, IndexError) as exc:
            log.warning(
                "%s[%d]@%d is not Anabranch's, skipped: %s",
                record.topic, record.partition, record.offset, exc,
            )  # fmt: skip
        else:
            if value is not None:
                values.append(value)
    return values


def ranges(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """[start, end) ranges that hold all *offsets* (ascending), few and without long gaps.

    >>> ranges([3, 4, 9, 900])
    [(3, 10), (900, 901)]
    """
    spans: list[tuple[int, int]] = []
    for offset in offsets:
        if spans and offset - spans[-1][1] < GAP:
            spans[-1] = (spans[-1][0], offset + 1)
        else:
            spans.append((offset, offset + 1))
    return spans
