"""Following topics as they are written, outside any group.

Who reads single records by their offsets uses `agents.workers.TailReader`, who reads whole batches
of bytes `agents.broker.LogReader`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import aiokafka
from aiokafka.structs import ConsumerRecord, TopicPartition

from topics.kafka import (
    aiokafka_fixes,
    client_options,
    close_client,
    learn_topics,
    learn_topics_at_once,
)
from topics.settings import BrokerSettings

_EMBEDDED_PROMPT_MS = 5
"""The embedded broker sends nothing before a fetch has waited so long."""


@asynccontextmanager
async def follower(
    settings: BrokerSettings, topics: Sequence[str], partitions: int, *, from_start: bool,
    wait_ms: int | None = None, prompt: bool = False,
) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:  # fmt: skip
    """A consumer outside any group, at the start or the end of all partitions of *topics*.

    A fetch waits *wait_ms* for records: by default 500, on the embedded broker 20, which sends
    none before that time is over.
    *prompt*: what is written is given at once, also while records come all the time. aiokafka asks
    for more of the other partitions while one's records are being taken, and what comes to that
    one meanwhile waits until that fetch is over; here it asks for all when all is taken.
    """
    if prompt and settings.embedded:
        wait_ms = _EMBEDDED_PROMPT_MS
    consumer = _consumer(settings, wait_ms)
    await consumer.start()
    if prompt:
        aiokafka_fixes.hold_back_fetches(consumer)
    try:
        await learn_topics(consumer, topics)
        assigned = [TopicPartition(topic, p) for topic in topics for p in range(partitions)]
        consumer.assign(assigned)
        await (consumer.seek_to_beginning() if from_start else consumer.seek_to_end())
        await asyncio.gather(*(consumer.position(tp) for tp in assigned))
        yield consumer
    finally:
        await close_client(consumer)


def _consumer(settings: BrokerSettings, wait_ms: int | None = None) -> aiokafka.AIOKafkaConsumer:
    return aiokafka.AIOKafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=wait_ms or (20 if settings.embedded else 500),
        max_partition_fetch_bytes=4 * 2**20,
    )


@asynccontextmanager
async def offsets_consumer(settings: BrokerSettings) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    """A consumer that reads nothing: what it is asked about offsets is answered at once.

    A broker answers a connection's requests in order: on a follower's, once its fetch has waited.
    """
    consumer = aiokafka.AIOKafkaConsumer(
        **client_options(settings), isolation_level="read_committed"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await close_client(consumer)


async def end_offsets(
    settings: BrokerSettings, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """The next offsets to be written, see `offsets_consumer`."""
    async with offsets_consumer(settings) as consumer:
        # All at once, or the client asks for one after the other, with a pause of 100 ms each.
        await learn_topics_at_once(consumer, {tp.topic for tp in partitions})
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends


async def read_to_end(
    consumer: aiokafka.AIOKafkaConsumer,
) -> AsyncIterator[tuple[TopicPartition, list[ConsumerRecord]]]:
    """Like `read_until`, to what is the end of the consumer's partitions now."""
    ends = await consumer.end_offsets(sorted(consumer.assignment()))
    async for tp, records in read_until(consumer, ends):
        yield tp, records


async def read_until(
    consumer: aiokafka.AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, list[ConsumerRecord]]]:
    """Records of the consumer's partitions up to the offsets *ends*, by partition.

    The consumer is at those offsets then, or at the next record that there is.
    """
    waiting = dict(ends)
    while waiting:
        for tp, end in list(waiting.items()):
            if await consumer.position(tp) >= end:
                del waiting[tp]
        if not waiting:
            return
        fetched = await consumer.getmany(*waiting, timeout_ms=500)
        for tp, records in fetched.items():
            if records[-1].offset >= ends[tp]:
                # What comes behind has been fetched too: whoever reads on gets it again.
                consumer.seek(tp, next(r.offset for r in records if r.offset >= ends[tp]))
                records = [record for record in records if record.offset < ends[tp]]  # noqa: PLW2901
            yield tp, records
