"""Copying what producers write from one pipeline's topics to the other's, each record once.

Its part of the protocol is in `agents.rollout.switch`. On the embedded broker, whose transactions
keep no offsets, a copier that is killed may copy its last records again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InvalidProducerEpoch,
    KafkaError,
    OffsetOutOfRangeError,
    ProducerFenced,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata, TopicPartition

from agents.broker import check_topics, ensure_outcomes_topic, topic_names
from agents.control import now_ms
from agents.publish import partition_of
from agents.rollout.errors import (
    CopierReplaced,
    CopyingEnded,
    PositionsLost,
    RecordsGone,
    SamePipeline,
)
from agents.workers import TailReader
from topics.errors import NotAuthorized
from topics.kafka import Record, client_options, close_client, learn_topics, write_batches
from topics.pipeline import Pipeline, Topology
from topics.records import ORIGIN_HEADER, Source, source_id
from topics.settings import BrokerSettings

_AT_ONCE = 5000
_WAIT_MS = 200
_TRANSACTION_MS = 60_000
_SIGN_OF_LIFE_S = 5.0
"""Positions are written so often where nothing is copied, too: with the time, they say that this
copier runs; and a broker forgets those of a group that writes none for a week."""


@dataclass(frozen=True, slots=True)
class Route:
    """From a topic of one pipeline to that of the other."""

    source: str
    target: str
    source_partitions: int
    target_partitions: int
    whole: bool
    """Also records that are copies themselves, of an earlier rollout; else what producers wrote."""

    def copy(self, record: ConsumerRecord) -> Record | None:
        """The copy of a record; None for one that is not to be copied."""
        origin = next((text for name, text in record.headers if name == ORIGIN_HEADER), None)
        headers = list(record.headers)
        if origin is None:
            at = source_id(record.topic, record.partition, record.offset)
            headers.append((ORIGIN_HEADER, at.encode()))
        elif not self.whole or self._comes_from_target(origin):
            return None
        return Record(record.key, record.value, record.timestamp, headers)

    def _comes_from_target(self, origin: bytes) -> bool:
        event = Source.of(origin)
        return event is not None and event.topic == self.target

    def partition(self, record: ConsumerRecord) -> int:
        """The copy's partition: the same one if there are as many, or else that of its key."""
        if self.source_partitions == self.target_partitions:
            return int(record.partition)
        if record.key is None:
            return int(record.partition) % self.target_partitions
        return partition_of(record.key, self.target_partitions)


def routes(before: Topology, after: Topology, *, outcomes: bool) -> list[Route]:
    """What is copied where: events both ways, and outcomes."""
    pairs = [(before.events, after.events)]
    if outcomes:
        pairs.append((before.outcomes, after.outcomes))
    there = [Route(a, b, before.partitions, after.partitions, whole=True) for a, b in pairs]
    back = [Route(b, a, after.partitions, before.partitions, whole=False) for a, b in pairs]
    return there + back


class Copier:
    """Copies until it is stopped; its position is kept on the broker."""

    def __init__(
        self,
        settings: BrokerSettings,
        of: Sequence[Route],
        group: str,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
    ) -> None:
        self.copied = 0
        """Records, by this process."""
        self._settings = settings
        self._routes = {route.source: route for route in of}
        self._group = group
        self._consumer = consumer
        self._producer = producer
        self._kept_at = time.monotonic()

    @classmethod
    @asynccontextmanager
    async def of(
        cls, before: Pipeline, after: Pipeline, settings: BrokerSettings
    ) -> AsyncIterator[Self]:
        """A copier that stands where the last one ended, or at the beginning.

        Raises SamePipeline, TopicMissing, PositionsLost, NotAuthorized, and CopyingEnded for what
        the broker refuses while it is open.
        """
        old, new = Topology.of(before), Topology.of(after)
        if old.pipeline == new.pipeline:
            raise SamePipeline(old.pipeline)
        for topology in (old, new):
            await check_topics(settings, topology)
        outcomes = await _has_outcomes(settings, old, new)
        try:
            async with cls._connected(settings, old, new, outcomes=outcomes) as copier:
                yield copier
        except (TransactionalIdAuthorizationFailed, GroupAuthorizationFailedError) as exc:
            what = "to be our transactional id and consumer group (`anabranch rollout acls`)"
            raise NotAuthorized(new.copier, what) from exc
        except KafkaError as exc:
            raise CopyingEnded(settings.broker, exc) from exc

    @classmethod
    @asynccontextmanager
    async def _connected(
        cls, settings: BrokerSettings, old: Topology, new: Topology, *, outcomes: bool
    ) -> AsyncIterator[Self]:
        group = new.copier
        async with AsyncExitStack() as stack:
            producer = _producer(settings, group)
            stack.push_async_callback(close_client, producer)
            # On a cluster this ends what a copier before us has begun, and shuts it out.
            await producer.start()
            consumer = AIOKafkaConsumer(
                **client_options(settings), group_id=group, enable_auto_commit=False,
                auto_offset_reset="none", isolation_level="read_committed",
                fetch_max_wait_ms=20 if settings.embedded else 100,
                max_partition_fetch_bytes=4 * 2**20,
            )  # fmt: skip
            stack.push_async_callback(close_client, consumer)
            await consumer.start()
            copier = cls(
                settings, routes(old, new, outcomes=outcomes), group, consumer, producer
            )  # fmt: skip
            await copier._start(old, new)
            yield copier

    async def _start(self, old: Topology, new: Topology) -> None:
        await learn_topics(self._consumer, list(self._routes))
        partitions = [
            TopicPartition(route.source, p)
            for route in self._routes.values()
            for p in range(route.source_partitions)
        ]
        self._consumer.assign(partitions)
        committed = {tp: await self._consumer.committed(tp) for tp in partitions}
        positions = {tp: at for tp, at in committed.items() if at is not None}
        if len(positions) < len(partitions):
            ours = [tp for tp in partitions if tp.topic in (new.events, new.outcomes)]
            ends = await self._consumer.end_offsets(ours)
            if positions or any(ends.values()):
                raise PositionsLost(new.events, self._group)
            positions = await self._beginning(partitions, old, new)
            await self._write([], positions)
        for tp, at in positions.items():
            self._consumer.seek(tp, at)

    async def _beginning(
        self, partitions: Sequence[TopicPartition], old: Topology, new: Topology
    ) -> dict[TopicPartition, int]:
        """As far back as the changed pipeline's topics keep records."""
        since_ms = now_ms() - new.retention_ms
        tail = TailReader(self._settings)
        await tail.start()
        try:
            return {
                tp: await tail.since(tp.topic, tp.partition, since_ms)
                if tp.topic in (old.events, old.outcomes)
                else 0
                for tp in partitions
            }
        finally:
            await tail.stop()

    async def run(self, stopping: asyncio.Event, *, once: bool = False) -> None:
        """Copy until *stopping*, or *once* what stands there now. Raises CopierReplaced."""
        ends = await self._ends() if once else {}
        while not stopping.is_set():
            try:
                await self.step()
            except (ProducerFenced, InvalidProducerEpoch) as exc:
                raise CopierReplaced(self._group) from exc
            except OffsetOutOfRangeError as exc:
                raise RecordsGone([f"{tp.topic}[{tp.partition}]" for tp in exc.args[0]]) from exc
            if once and await self._left(ends) == 0:
                return

    async def step(self) -> None:
        """Copy what one fetch brings."""
        fetched = await self._consumer.getmany(timeout_ms=_WAIT_MS, max_records=_AT_ONCE)
        records = [record for part in fetched.values() for record in part]
        if records or time.monotonic() - self._kept_at > _SIGN_OF_LIFE_S:
            assigned = self._consumer.assignment()
            positions = {tp: await self._consumer.position(tp) for tp in assigned}
            await self._write(records, positions)

    async def behind(self) -> int:
        """How many offsets of what is copied from the pipeline that was there first are left."""
        return await self._left(await self._ends())

    async def _ends(self) -> dict[TopicPartition, int]:
        first = {route.source for route in self._routes.values() if route.whole}
        wanted = [tp for tp in self._consumer.assignment() if tp.topic in first]
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(wanted)
        return ends

    async def _left(self, ends: Mapping[TopicPartition, int]) -> int:
        positions = {tp: await self._consumer.position(tp) for tp in ends}
        return sum(max(0, end - positions[tp]) for tp, end in ends.items())

    async def _write(
        self, records: Sequence[ConsumerRecord], positions: Mapping[TopicPartition, int]
    ) -> None:
        """Write the copies of *records* and *positions*: all or nothing, on a cluster."""
        copies: dict[tuple[str, int], list[Record]] = defaultdict(list)
        for record in records:
            route = self._routes[record.topic]
            if (copy := route.copy(record)) is not None:
                copies[route.target, route.partition(record)].append(copy)
        at = {tp: OffsetAndMetadata(offset, str(now_ms())) for tp, offset in positions.items()}
        if self._settings.embedded:
            await self._append(copies)
            await self._consumer.commit(at)
        else:
            async with self._producer.transaction():
                await self._append(copies)
                await self._producer.send_offsets_to_transaction(at, self._group)
        self._kept_at = time.monotonic()
        self.copied += sum(map(len, copies.values()))

    async def _append(self, copies: Mapping[tuple[str, int], Sequence[Record]]) -> None:
        await asyncio.gather(*(
            write_batches(self._producer, topic, partition, records)
            for (topic, partition), records in copies.items()
        ))  # fmt: skip


def _producer(settings: BrokerSettings, group: str) -> AIOKafkaProducer:
    options = {"acks": "all", "max_batch_size": 900_000, "max_request_size": 32 * 2**20}
    if settings.embedded:
        return AIOKafkaProducer(**client_options(settings), enable_idempotence=True, **options)
    return AIOKafkaProducer(
        **client_options(settings), transactional_id=group,
        transaction_timeout_ms=_TRANSACTION_MS, **options,
    )  # fmt: skip


async def _has_outcomes(settings: BrokerSettings, old: Topology, new: Topology) -> bool:
    """Whether outcomes are copied: where they are published, or windows need them."""
    needed = bool(old.by_outcomes or new.by_outcomes)
    if needed or await topic_names(settings, [old.outcomes]):
        for topology in (old, new):
            await ensure_outcomes_topic(settings, topology)
        return True
    return False
