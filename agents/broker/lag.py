"""How far consumer groups are behind in partitions that nobody owns."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from agents.broker.log_follower import follower
from topics.kafka import client_options
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)


async def group_lag(
    settings: BrokerSettings, groups: Mapping[str, Sequence[str]], partitions: Iterable[int]
) -> Mapping[tuple[str, int], int]:
    """(group, partition) → records left to do, by what it has committed.

    *groups* are each group's topics, which must exist. A group that we may not see is left out.
    """
    numbers = list(partitions)
    topics = list(dict.fromkeys(topic for read in groups.values() for topic in read))
    if not topics or not numbers:
        return {}
    wanted = [TopicPartition(topic, p) for topic in topics for p in numbers]
    async with follower(settings, topics, max(numbers) + 1, from_start=False) as consumer:
        first = await consumer.beginning_offsets(wanted)
        end = await consumer.end_offsets(wanted)
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    lag: dict[tuple[str, int], int] = {}
    try:
        for group, read in groups.items():
            at = [TopicPartition(topic, p) for topic in read for p in numbers]
            try:
                committed = await admin.list_consumer_group_offsets(group, partitions=at)
            except (KafkaError, AttributeError) as exc:  # aiokafka looks for what some errors lack
                log.info("%s: its offsets are not known: %s", group, exc)
                continue
            if not committed.keys() >= {*at}:  # aiokafka passes over errors of the whole group
                log.info("%s: its coordinator does not tell offsets now", group)
                continue
            for tp in at:  # what was never committed is at -1
                left = max(0, end[tp] - max(first[tp], committed[tp].offset))
                lag[group, tp.partition] = lag.get((group, tp.partition), 0) + left
    finally:
        await admin.close()
    return lag
