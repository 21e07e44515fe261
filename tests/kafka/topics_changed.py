"""What an administrator does to topics: by Kafka's admin API, with librdkafka's client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

_GONE_WITHIN_S = 30.0


def _admin(broker: BrokerSettings) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.broker})


async def _done(ask: Callable[[AdminClient], Mapping[Any, Any]], broker: BrokerSettings) -> None:
    """Ask the broker for something; the client lives until all of it is done."""
    admin = _admin(broker)
    futures = ask(admin)
    for future in futures.values():
        await asyncio.to_thread(future.result, 30)


async def delete_topics(broker: BrokerSettings, *topics: str) -> None:
    """Delete *topics*; returns when the broker has forgotten them."""
    await _done(lambda admin: admin.delete_topics([*topics]), broker)
    deadline, admin = time.monotonic() + _GONE_WITHIN_S, _admin(broker)
    while set(topics) & set((await asyncio.to_thread(admin.list_topics, timeout=10)).topics):
        assert time.monotonic() < deadline, f"the broker still has some of {topics}"
        await asyncio.sleep(0.1)


async def create_topic(
    broker: BrokerSettings, topic: str, partitions: int = 4, **config: str
) -> None:
    """Make *topic*; settings are given with _ for their dots."""
    config = {name.replace("_", "."): value for name, value in config.items()}
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
    await _done(lambda admin: admin.create_topics([new]), broker)


async def recreate(broker: BrokerSettings, topic: str) -> None:
    """Delete *topic* and make it anew."""
    await delete_topics(broker, topic)
    await create_topic(broker, topic)


async def widen(broker: BrokerSettings, topic: str, partitions: int) -> None:
    """Give *topic* so many partitions."""
    await _done(lambda admin: admin.create_partitions([NewPartitions(topic, partitions)]), broker)


async def delete_records(
    broker: BrokerSettings, topic: str, partition: int, before: int | None = None
) -> None:
    """Delete the records of a partition before an offset; all without one."""
    at = TopicPartition(topic, partition, -1 if before is None else before)
    await _done(lambda admin: admin.delete_records([at]), broker)


async def delete_groups(broker: BrokerSettings, groups: Iterable[str]) -> None:
    """Delete consumer groups, which have no members any more."""
    await _done(lambda admin: admin.delete_consumer_groups([*groups]), broker)


async def pipeline_groups(broker: BrokerSettings, topology: Topology) -> list[str]:
    """The consumer groups that the pipeline has on the broker."""
    admin = _admin(broker)
    listed = await asyncio.to_thread(admin.list_consumer_groups().result, 30)
    prefix = f"{topology.pipeline}."
    return [group.group_id for group in listed.valid if group.group_id.startswith(prefix)]
