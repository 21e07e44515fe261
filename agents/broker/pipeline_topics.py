"""The topics of a pipeline on its broker: looked up, checked, made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

from topics.errors import NotAuthorized, TopicMismatch, TopicMissing, TopicNotFound, TopicNotMade
from topics.kafka import (
    BROKER_DEFAULT,
    NewTopic,
    client_options,
    close_client,
    create_topics,
    describe_topics,
    durability,
    embedded,
    is_known_everywhere,
    network_client,
    topic_identities,
)
from topics.pipeline import Topology
from topics.records import topic_configs
from topics.settings import BrokerSettings

_TOLD_WITHIN_S = 10.0
"""How long a broker may take to tell of a topic that its controller has made."""


async def partition_counts(settings: BrokerSettings, topology: Topology) -> Mapping[str, int]:
    """Partitions of those topics of the pipeline that exist."""
    described = await _described(settings, topology)
    return {topic: count for topic, count in described.items() if count is not None}


async def _described(settings: BrokerSettings, topology: Topology) -> Mapping[str, int | None]:
    """Partitions of those topics that exist; None of those that we may not see."""
    async with _admin(settings) as admin:
        described = await describe_topics(admin, topology.all)
    hidden = TopicAuthorizationFailedError.errno
    return {
        about["topic"]: None if about["error_code"] == hidden else len(about["partitions"])
        for about in described
        if about["error_code"] in (0, hidden)
    }


async def topic_partitions(settings: BrokerSettings, topic: str) -> int:
    """How many partitions *topic* has; TopicNotFound when it does not exist."""
    async with _admin(settings) as admin:
        for described in await describe_topics(admin, [topic]):
            if described["error_code"] == 0:
                return len(described["partitions"])
        known = [name for name in await admin.list_topics() if not name.startswith("__")]
    raise TopicNotFound(topic, sorted(known))


async def topic_names(settings: BrokerSettings, topics: Iterable[str]) -> set[str]:
    """Those of *topics* that exist."""
    async with _admin(settings) as admin:
        described = await describe_topics(admin, topics)
    return {about["topic"] for about in described if about["error_code"] == 0}


async def ensure_shadow_topic(settings: BrokerSettings, topology: Topology, name: str) -> None:
    """Make the shadow topic of component *name* unless it exists."""
    await _ensure_topic(settings, topology, topology.shadow(name))


async def ensure_outcomes_topic(settings: BrokerSettings, topology: Topology) -> None:
    """Make the outcomes' topic unless it exists, also for a pipeline that reads none itself."""
    await _ensure_topic(settings, topology, topology.outcomes)


async def ensure_requests_topic(settings: BrokerSettings, topology: Topology) -> None:
    """Make the topic of requests with a key unless it exists: gateways alone use it."""
    await _ensure_topic(settings, topology, topology.requests)


async def ensure_renewals_topic(settings: BrokerSettings, topology: Topology) -> None:
    """Make the topic of renewals unless it exists: trainers alone use it."""
    await _ensure_topic(settings, topology, topology.renewals)


async def ensure_monitor_topics(settings: BrokerSettings, topology: Topology) -> None:
    """Make the topics that a monitor writes unless they exist: monitors alone need them."""
    for topic in topology.of_monitor:
        await _ensure_topic(settings, topology, topic)


async def topic_ids(settings: BrokerSettings, topics: Iterable[str]) -> dict[str, str]:
    """Topic → what tells it from others of its name; without those whose broker has no ids."""
    async with _admin(settings) as admin:
        identities = await topic_identities(network_client(admin), topics)
    return {
        topic: identity.id
        for topic, identity in identities.items()
        if identity is not None and identity.id is not None
    }


async def _ensure_topic(settings: BrokerSettings, topology: Topology, topic: str) -> None:
    if settings.embedded:
        await _touch(settings, [topic])
    elif topic not in await topic_names(settings, [topic]):
        replication = await _replication(settings, topology.control)
        await _create(settings, topology, [topic], replication)
        if topic not in await topic_names(settings, [topic]):
            raise NotAuthorized(topic, "to be made by us")


async def check_topics(settings: BrokerSettings, topology: Topology) -> None:
    """Raise TopicMissing or TopicMismatch unless the pipeline's topics are there: none is made.

    Topics that we may not see are somebody else's to look after, and without those of reports and
    explanations workers run too. The embedded broker, which keeps nothing, makes them.
    """
    if settings.embedded:
        await ensure_topics(settings, topology)
        return
    counts = await _described(settings, topology)
    for topic in topology.of_deciding:
        if topic not in counts and topic != topology.reports:
            raise TopicMissing(topic)
    _check_counts(counts, topology)


async def ensure_topics(
    settings: BrokerSettings, topology: Topology, *, replication: int = BROKER_DEFAULT
) -> list[str]:
    """Make the pipeline's topics that do not exist yet; the names of those that were made.

    They are durable: as many replicas as the broker gives by itself, or *replication*, and from
    three on each record is on two of them before it counts as written. Topics that we may not
    see are somebody else's to make. Raises TopicMismatch when one exists with another partition
    count, TopicNotMade.
    """
    if settings.embedded:
        if topology.partitions != embedded.PARTITIONS:
            raise TopicMismatch(topology.events, embedded.PARTITIONS, topology.partitions)
        await _touch(settings, topology.all)
        counts = await _described(settings, topology)
        missing: list[str] = []
    else:
        counts = await _described(settings, topology)
        missing = [topic for topic in topology.all if topic not in counts]
        await _create(settings, topology, missing, replication)
    _check_counts(counts, topology)
    return missing


def _check_counts(counts: Mapping[str, int | None], topology: Topology) -> None:
    for topic, count in counts.items():
        if count not in (None, topology.partitions):
            raise TopicMismatch(topic, count, topology.partitions)


async def _create(
    settings: BrokerSettings, topology: Topology, topics: Sequence[str], replication: int
) -> None:
    """Make *topics*, as far as we may; returns when the broker tells of them.

    Raises TopicNotMade.
    """
    configs = topic_configs(topology)
    new = [
        NewTopic(topic, topology.partitions, replication, configs.get(topic, {}))
        for topic in topics
    ]
    if not new:
        return
    async with _admin(settings) as admin:
        trial = await create_topics(admin, new, validate_only=True)
        durable = {answer.name: durability(answer, replication) for answer in trial}
        new = [one._replace(configs={**one.configs, **durable[one.name]}) for one in new]
        created = []
        for answer in await create_topics(admin, new, validate_only=False):
            if answer.error in (0, TopicAlreadyExistsError.errno):  # another may have been faster
                created.append(answer.name)
            elif answer.error != TopicAuthorizationFailedError.errno:
                raise TopicNotMade(answer.name, answer.message or for_code(answer.error).__name__)
        deadline = time.monotonic() + _TOLD_WITHIN_S
        while created and time.monotonic() < deadline:
            if await is_known_everywhere(admin, created):
                return
            await asyncio.sleep(0.05)


async def _replication(settings: BrokerSettings, topic: str) -> int:
    """How many replicas *topic* has."""
    async with _admin(settings) as admin:
        for described in await describe_topics(admin, [topic]):
            if described["error_code"] == 0:
                return len(described["partitions"][0]["replicas"])
    raise TopicMissing(topic)


async def _touch(settings: BrokerSettings, topics: Iterable[str]) -> None:
    """The embedded broker makes a topic when it is asked about it."""
    producer = AIOKafkaProducer(**client_options(settings))
    await producer.start()
    try:
        for topic in topics:
            await producer.partitions_for(topic)
    finally:
        await close_client(producer)


class _admin:  # noqa: N801  # used as a function: `async with _admin(settings) as admin`
    def __init__(self, settings: BrokerSettings) -> None:
        self._client = AIOKafkaAdminClient(**client_options(settings))

    async def __aenter__(self) -> AIOKafkaAdminClient:
        await self._client.start()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
