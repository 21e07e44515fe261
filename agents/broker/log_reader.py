"""Reading partitions batch by batch, from positions that are the caller's own."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    LeaderNotAvailableError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from agents.broker.fetch_connection import receive_in_place
from agents.broker.record_batches import RecordBatch, record_batches
from topics.errors import BrokerError, BrokerUnreachable, NotAuthorized, TopicMissing
from topics.kafka import client_options, data_connection
from topics.settings import BrokerSettings

_READ_COMMITTED = 1
_FIRST, _END = -2, -1
_WAIT_MS, _EMBEDDED_WAIT_MS = 100, 20
_PARTITION_BYTES = 4 * 2**20
_FETCH_BYTES = 16 * 2**20
_AGAIN_S = 0.1
_KNOWN_WITHIN_S = 5.0
"""How long a topic may take to be known by every broker."""

Bound = Literal["first", "end"]
MOST_EMPTY_FETCHES = 300
"""In a row, though the broker says that there is more: then nothing comes any more."""


class Unreadable(BrokerError):
    """A broker gives no records though it says that there are some."""

    def __init__(self, tp: TopicPartition, position: int, end: int) -> None:
        super().__init__(
            f"{tp.topic}[{tp.partition}]: the broker gives nothing from offset {position} on, "
            f"though it says that the partition ends at {end}; look at the broker's log"
        )


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch has brought of one partition; no batches where there was nothing."""

    batches: list[RecordBatch]
    dropped: bool = False
    """The position is none that the broker has: it has dropped what was there, or more."""


class LogReader:
    """Asks brokers for bounds and batches; remembers no position."""

    def __init__(self, client: AIOKafkaClient, settings: BrokerSettings) -> None:
        self._client = client
        self._settings = settings
        self._wait_ms = _EMBEDDED_WAIT_MS if settings.embedded else _WAIT_MS

    @classmethod
    @asynccontextmanager
    async def of(cls, settings: BrokerSettings) -> AsyncIterator[LogReader]:
        """A reader, connected. Raises BrokerUnreachable."""
        client = AIOKafkaClient(**client_options(settings))
        try:
            await client.bootstrap()
        except KafkaError as exc:
            raise BrokerUnreachable(settings.broker, 0, str(exc)) from exc
        try:
            yield cls(client, settings)
        finally:
            await client.close()

    async def partitions(self, topic: str) -> int:
        """How many partitions the broker has of *topic* now. Raises TopicMissing, NotAuthorized."""
        self._client.add_topic(topic)
        until = time.monotonic() + _KNOWN_WITHIN_S
        while True:
            await self._client.force_metadata_update()
            cluster = self._client.cluster
            if numbers := cluster.partitions_for_topic(topic):
                count: int = max(numbers) + 1
                return count
            if topic in cluster.unauthorized_topics:
                raise NotAuthorized(topic, "to be read by us")
            if time.monotonic() > until:
                raise TopicMissing(topic)
            await asyncio.sleep(_AGAIN_S)

    async def bounds(
        self, partitions: Iterable[TopicPartition], which: Bound
    ) -> dict[TopicPartition, int]:
        """Of each partition the first offset that is there, or the next that comes.

        No further than the first transaction that is open. Raises KafkaError, TopicMissing.
        """
        wanted, time_ms = list(partitions), _FIRST if which == "first" else _END
        bounds: dict[TopicPartition, int] = {}
        until = time.monotonic() + self._settings.give_up_s
        while left := [tp for tp in wanted if tp not in bounds]:
            try:
                for node, topics in (await self._by_node(left)).items():
                    rows = [(t, [(p, time_ms) for p in ps]) for t, ps in topics.items()]
                    request = OffsetRequest(-1, _READ_COMMITTED, rows)
                    # Not behind a fetch that waits: a connection's requests are answered in order.
                    answer = await self._client.send(
                        node, request, group=ConnectionGroup.COORDINATION
                    )
                    for topic, parts in answer.topics:
                        for partition, error, *_, offset in parts:
                            _check(topic, error)
                            bounds[TopicPartition(topic, partition)] = offset
            except KafkaError as exc:
                await self._again(exc, until)
        return bounds

    async def fetch(
        self, positions: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, FetchResult]:
        """Batches of each partition from its position on, as many as a broker gives at once.

        The first may begin before the position. Raises KafkaError, TopicMissing.
        """
        results: dict[TopicPartition, FetchResult] = {}
        until = time.monotonic() + self._settings.give_up_s
        while not results:
            try:
                nodes = await self._by_node(positions)
                if not nodes:
                    raise LeaderNotAvailableError
                answers = await asyncio.gather(
                    *(self._fetched(node, topics, positions) for node, topics in nodes.items())
                )
                # Checksums take a while; meanwhile the next answer can be received.
                results = await asyncio.to_thread(self._results, answers)
            except KafkaError as exc:
                await self._again(exc, until)
        return results

    async def _fetched(
        self, node: int, topics: Mapping[str, list[int]], positions: Mapping[TopicPartition, int]
    ) -> Any:
        rows = [
            (topic, [(p, positions[TopicPartition(topic, p)], _PARTITION_BYTES) for p in numbers])
            for topic, numbers in topics.items()
        ]
        request = FetchRequest(self._wait_ms, 1, _FETCH_BYTES, _READ_COMMITTED, rows)
        if await self._client.ready(node):
            receive_in_place(data_connection(self._client, node))
        return await self._client.send(node, request)

    def _results(self, answers: Iterable[Any]) -> dict[TopicPartition, FetchResult]:
        return {
            (tp := TopicPartition(topic, part[0])): self._result(tp, part)
            for answer in answers
            for topic, parts in answer.topics
            for part in parts
        }

    def _result(self, tp: TopicPartition, part: Any) -> FetchResult:
        error, aborted, data = part[1], part[-3] if len(part) > 7 else part[-2], part[-1]
        if error == OffsetOutOfRangeError.errno:
            return FetchResult([], dropped=True)
        _check(tp.topic, error)
        # The embedded broker writes its transactions' batches over without a new checksum.
        return FetchResult(list(record_batches(data, aborted, check=not self._settings.embedded)))

    async def _by_node(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[int, dict[str, list[int]]]:
        nodes: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for tp in partitions:
            leader = self._client.cluster.leader_for_partition(tp)
            if leader is None or leader == -1:
                await self._client.force_metadata_update()
                if self._client.cluster.partitions_for_topic(tp.topic) is None:
                    raise TopicMissing(tp.topic)
                await asyncio.sleep(_AGAIN_S)
                leader = self._client.cluster.leader_for_partition(tp)
            if leader is not None and leader != -1:
                nodes[leader][tp.topic].append(tp.partition)
        return nodes

    async def _again(self, cause: KafkaError, until: float) -> None:
        """Wait before what has failed is tried again; raise *cause* where that is no use."""
        if isinstance(cause, CorruptRecordException) or time.monotonic() > until:
            raise cause
        await self._client.force_metadata_update()
        await asyncio.sleep(_AGAIN_S)


def _check(topic: str, error: int) -> None:
    """Raise what an error code stands for."""
    if error == TopicAuthorizationFailedError.errno:
        raise NotAuthorized(topic, "to be read by us")
    if error:
        raise for_code(error)(topic)
