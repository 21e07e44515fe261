"""The one broker that everybody runs on, and its topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord, TopicPartition

from tests.benchmarks import processes
from tests.kafka_nodes import Node, free_ports, started

_POLL_S = 0.03
_FETCH_BYTES = 32 * 2**20
# What a run has written is gone soon after it: a disk is no part of what is measured.
_PROPERTIES = "log.segment.delete.delay.ms=1000\n"
STAMPED = {"message.timestamp.type": "LogAppendTime"}


class Late(Exception):
    """Outputs did not come in time."""

    def __init__(self, found: int, wanted: int, waited_s: float) -> None:
        super().__init__(f"{found:,} of {wanted:,} outputs after {waited_s:.0f} s")


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that runs."""

    address: str
    pid: int

    def cpu_s(self) -> float:
        """CPU time of the broker so far, in seconds."""
        return processes.cpu_s(self.pid)


@contextmanager
def running(folder: Path) -> Iterator[Broker]:
    """Apache Kafka with an empty log in *folder*, stopped for sure in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    extra = folder / "extra.properties"
    extra.write_text(_PROPERTIES)
    port, controller_port = free_ports(2)
    with started(Node(folder, port, controller_port, ("-e", str(extra)))) as node:
        if node.process is None:
            raise RuntimeError("a broker that was started has no process")
        yield Broker(node.address, node.process.pid)


@asynccontextmanager
async def admin(broker: Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, started."""
    client = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def topics(
    broker: Broker, prefix: str, partitions: int, configs: Mapping[str, Mapping[str, str]]
) -> AsyncIterator[None]:
    """Topics by name with their settings; in the end all that begin with *prefix* are deleted."""
    async with admin(broker) as client:
        await client.create_topics(
            [
                NewTopic(config, partitions, 1, topic_configs=dict(configs[config]))
                for config in configs
            ]
        )
    try:
        yield
    finally:
        async with admin(broker) as client:
            # A peer may have made some for itself.
            left = [name for name in await client.list_topics() if name.startswith(prefix)]
            await client.delete_topics(left)


class Outputs:
    """What a peer has written to its last topic."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._consumer = consumer
        self._partitions = partitions

    async def count(self) -> int:
        """How many records there are."""
        return sum((await self._consumer.end_offsets(self._partitions)).values())

    async def wait(self, wanted: int, timeout_s: float, check: Callable[[], None]) -> None:
        """Return when there are *wanted* records; Late, or what `check` raises, otherwise."""
        until = time.monotonic() + timeout_s
        while (found := await self.count()) < wanted:
            check()
            if time.monotonic() > until:
                raise Late(found, wanted, timeout_s)
            await asyncio.sleep(_POLL_S)

    async def settled(self, still_s: float) -> None:
        """Return when nothing has come for *still_s*: what is on its way a second time is here."""
        found, since = await self.count(), time.monotonic()
        while time.monotonic() - since < still_s:
            await asyncio.sleep(_POLL_S)
            if (now := await self.count()) != found:
                found, since = now, time.monotonic()

    async def read(self) -> AsyncIterator[list[ConsumerRecord]]:
        """The records up to now that were not read before, each partition in order."""
        ends = await self._consumer.end_offsets(self._partitions)
        left = {tp for tp, end in ends.items() if end > await self._consumer.position(tp)}
        self._consumer.resume(*left)
        while left:
            found = await self._consumer.getmany(timeout_ms=1000)
            for tp, records in found.items():
                yield records
                if records[-1].offset + 1 >= ends[tp]:
                    self._consumer.pause(tp)
                    left.discard(tp)


@asynccontextmanager
async def outputs(broker: Broker, topic: str, partitions: int) -> AsyncIterator[Outputs]:
    """The records of *topic*; nothing is fetched before they are read."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.address, enable_auto_commit=False, auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES, fetch_max_bytes=2 * _FETCH_BYTES,
    )  # fmt: skip
    await consumer.start()
    try:
        assigned = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(assigned)
        consumer.pause(*assigned)
        yield Outputs(consumer, assigned)
    finally:
        await consumer.stop()
