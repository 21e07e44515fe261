"""Publishing events: by key to partitions, in batches, at a rate, never too far ahead."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from agents.publish.schedule import Schedule
from topics.kafka import Record, client_options, close_client, write_batches
from topics.settings import BrokerSettings

CHUNK = 2000
"""Events that are published at once, at most."""

_TICK_S = 0.02
_KEYS = 2**16


class PartitionRun(NamedTuple):
    """A run of events that one partition has taken: which ones, and from which offset on."""

    partition: int
    first_offset: int
    events: list[int]
    """Indices into the chunk that was published."""


@asynccontextmanager
async def producer(settings: BrokerSettings) -> AsyncIterator[AIOKafkaProducer]:
    """An idempotent producer, started, and flushed in the end."""
    kafka = AIOKafkaProducer(
        **client_options(settings), enable_idempotence=True, acks="all",
        max_batch_size=900_000, max_request_size=32 * 2**20,
    )  # fmt: skip
    await kafka.start()
    try:
        yield kafka
    finally:
        await close_client(kafka)


@lru_cache(maxsize=_KEYS)  # keys come again and again, and murmur2 is plain Python
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's default partitioner has it (murmur2).

    >>> partition_of(b"c-596", 4)
    2
    """
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


async def publish_chunk(
    kafka: AIOKafkaProducer,
    topic: str,
    partitions: int,
    events: list[tuple[bytes, bytes]],
) -> list[PartitionRun]:
    """Publish (key, value) pairs, one record batch per partition; where they went."""
    by_partition: dict[int, list[int]] = defaultdict(list)
    for index, (key, _) in enumerate(events):
        by_partition[partition_of(key, partitions)].append(index)
    now_ms = int(time.time() * 1000)

    async def write(partition: int, indices: list[int]) -> list[PartitionRun]:
        records = [Record(*events[index], now_ms) for index in indices]
        written = await write_batches(kafka, topic, partition, records)
        left = iter(indices)
        return [PartitionRun(partition, first, list(islice(left, n))) for first, n in written]

    runs = await asyncio.gather(*(write(p, indices) for p, indices in by_partition.items()))
    return [published for run in runs for published in run]


async def due_chunks(
    events: Iterable[tuple[bytes, bytes]],
    *,
    schedule: Schedule | None,
    room: Callable[[], Awaitable[int]] | None,
    most: int = CHUNK,
    stopping: asyncio.Event | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """Chunks of the *events* that are due, no more than there is room for, until *stopping*.

    Without a *schedule* all are due. *room* says how many more events may be in flight; None means
    any number. A chunk has *most* events at most, and waits until there is room for all of it.
    """
    left, given = iter(events), 0
    while stopping is None or not stopping.is_set():
        wanted = most if schedule is None else min(most, schedule.due(given, most))
        # Small batches cost the broker and every stage as much as large ones: wait for room
        # for all that is wanted rather than publishing drop by drop.
        if wanted <= 0 or (room is not None and await room() < wanted):
            await sleep(_TICK_S)
            continue
        chunk = list(islice(left, wanted))
        if not chunk:
            return
        given += len(chunk)
        yield chunk
        await sleep(_TICK_S if schedule is not None else 0)


def encoded(event: Mapping[str, object], key_field: str) -> tuple[bytes, bytes]:
    """An event as (key, JSON value)."""
    return str(event.get(key_field, "")).encode(), orjson.dumps(event)
