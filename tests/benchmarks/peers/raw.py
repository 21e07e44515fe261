"""The limit: asyncio loops with aiokafka, numpy and onnxruntime, written by hand for this load.

One loop per stage with a consumer and a producer of its own, all in one process and one event
loop, so that a second core is the broker's. A loop takes whatever has been fetched, runs its
model once, writes with idempotence while it goes on, and commits what has been acknowledged.

In w1 a record of a stage topic is a micro-batch, the columns of what one fetch brought of a
partition, and the join is a dict of micro-batches: see `raw_card_fraud`. w2: `raw_crayfish`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord, RecordMetadata

from tests.benchmarks.peers import contract

COMMIT_S = 1.0
FETCH_WAIT_MS = 10
IN_FLIGHT = 4
"""Fetches whose output a stage may be writing while it works on the next one."""

BATCH_BYTES = 1_000_000
"""Of a record batch: brokers take a MiB by default."""

Fetched = Mapping[TopicPartition, Sequence[ConsumerRecord]]
Offsets = dict[TopicPartition, int]


class Output(NamedTuple):
    """A record to be written to a stage's topic."""

    partition: int
    key: bytes | None
    value: bytes


class Stage(Protocol):
    """What is done with records, without any I/O."""

    reads: Sequence[str]
    writes: str

    def outputs(self, fetched: Fetched) -> Iterable[Output]:
        """What is to be written now that *fetched* is there too."""

    def waiting(self) -> Offsets:
        """The first record of each partition that needs others before it is answered."""


async def run(name: str, stage: Stage, task: contract.Task) -> None:
    """Run *stage* until cancelled."""
    consumer = AIOKafkaConsumer(
        *map(task.topic, stage.reads), bootstrap_servers=task.broker, group_id=task.group(name),
        auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=FETCH_WAIT_MS,
    )  # fmt: skip
    producer = AIOKafkaProducer(
        bootstrap_servers=task.broker, enable_idempotence=True, max_batch_size=BATCH_BYTES
    )
    async with consumer, producer:
        await producer.partitions_for(task.topic(stage.writes))
        await _answer(consumer, producer, stage, task.topic(stage.writes))


async def _answer(
    consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, stage: Stage, topic: str
) -> None:
    writing: deque[tuple[asyncio.Future[list[RecordMetadata]], Offsets]] = deque()
    ends: Offsets = {}
    due = time.monotonic() + COMMIT_S
    while True:
        fetched = await consumer.getmany(timeout_ms=50 if writing else 200)
        sent = await write(producer, topic, stage.outputs(fetched))
        ends |= {each: records[-1].offset + 1 for each, records in fetched.items()}
        if fetched:
            writing.append((asyncio.gather(*sent), ends | stage.waiting()))
        answered: Offsets = {}
        while writing and (not fetched or writing[0][0].done() or len(writing) > IN_FLIGHT):
            done, answered = writing.popleft()
            await done
        if answered and time.monotonic() >= due:
            await consumer.commit(answered)
            due = time.monotonic() + COMMIT_S


async def write(
    producer: AIOKafkaProducer, topic: str, outputs: Iterable[Output]
) -> list[asyncio.Future[RecordMetadata]]:
    """Hand over *outputs* in as few batches as hold them; one future for each batch."""
    batches: dict[int, Any] = {}
    sent = []
    for partition, key, value in outputs:
        batch = batches.get(partition)
        if batch is None or batch.append(key=key, value=value, timestamp=None) is None:
            if batch is not None:
                sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = batches[partition] = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    for partition, batch in batches.items():
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent


async def main() -> None:
    """Run all stages of the workload until SIGTERM."""
    from tests.benchmarks.peers import raw_card_fraud, raw_crayfish

    task = contract.told(__doc__)
    opened = raw_card_fraud if task.workload == contract.W1 else raw_crayfish
    if (running := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as group:
            for name, stage in opened.stages(task).items():
                group.create_task(run(name, stage, task))


if __name__ == "__main__":
    asyncio.run(main())
