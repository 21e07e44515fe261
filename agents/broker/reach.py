"""Reaching a broker: waiting for it, finding the embedded one, making topics."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from topics.errors import (
    BrokerUnreachable,
    CertificateRefused,
    HostUnknown,
    LoginRefused,
    NoBroker,
    NotAuthorized,
    TopicMismatch,
    TopicMissing,
    TopicNotFound,
    TopicNotMade,
)
from topics.kafka import (
    BROKER_DEFAULT,
    EmbeddedBroker,
    NewTopic,
    client_options,
    close_client,
    create_topics,
    describe_topics,
    durability,
    embedded,
    is_known_everywhere,
    probe_listeners,
    refusal,
    unknown_host,
    unreachable,
)
from topics.pipeline import Topology
from topics.records import topic_configs
from topics.settings import BrokerSettings, HomeSettings

DEFAULT_WAIT_S = 30.0
_ADDRESS_FILE = "embedded-broker.json"
_TOLD_WITHIN_S = 10.0
"""How long a broker may take to tell of a topic that its controller has made."""
_LEFT_WITHIN_S = 10.0
"""A broker that is gone is one of its cluster for its session's time (9 s by default)."""


def broker_settings(broker: str | None, home: HomeSettings) -> BrokerSettings | None:
    """Settings for *broker*, ANABRANCH_BROKER, or the embedded broker of a running `run`."""
    running = embedded_address(home)
    named = os.environ.get("ANABRANCH_BROKER") if broker is None else broker
    address = running if named is None else named
    if address is None:
        return None
    if address == running:
        return BrokerSettings(broker=address, embedded=True)
    return BrokerSettings(broker=address)


def needed_broker(broker: str | None) -> BrokerSettings:
    """Like `broker_settings`, for commands that start none: NoBroker when there is none."""
    settings = broker_settings(broker, HomeSettings())
    if settings is None:
        raise NoBroker
    return settings


def embedded_address(home: HomeSettings) -> str | None:
    """The address of the embedded broker that `anabranch run` has started; None for none."""
    try:
        known = json.loads((home.home / _ADDRESS_FILE).read_text())
        os.kill(known["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(known["address"])


@contextmanager
def started_embedded(home: HomeSettings | None) -> Iterator[BrokerSettings]:
    """An embedded broker; with *home*, other commands find its address there.

    Without it, it is for workers that the caller starts and whose end it sees: a silent one is a
    busy machine then, nobody is to take its place, and nobody gives up.
    """
    with EmbeddedBroker() as broker:
        settings = BrokerSettings(broker=broker.address, embedded=True)
        if home is None:
            settings = BrokerSettings(
                broker=broker.address, embedded=True,
                session_timeout_s=120, give_up_s=600, stuck_after_s=600,
            )  # fmt: skip
        note = None if home is None else home.home / _ADDRESS_FILE
        if note is not None:
            _announce(note, broker.address)
        try:
            yield settings
        finally:
            if note is not None:
                note.unlink(missing_ok=True)


def _announce(note: Path, address: str) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    half = note.with_suffix(f".{os.getpid()}")
    half.write_text(json.dumps({"address": address, "pid": os.getpid()}))
    half.replace(note)


async def wait_for_broker(settings: BrokerSettings, wait_s: float = DEFAULT_WAIT_S) -> None:
    """Return when the broker answers, and can be reached where it wants clients to.

    Raises BrokerUnreachable after *wait_s*; at once what waiting does not mend: HostUnknown,
    ListenerUnreachable, CertificateRefused, LoginRefused.
    """
    began = time.monotonic()
    while True:
        probe = AIOKafkaProducer(**client_options(settings), request_timeout_ms=5000)
        try:
            await probe.start()
        except (KafkaError, OSError) as exc:
            refused = await unknown_host(settings) or await refusal(settings)
            if isinstance(refused, HostUnknown | CertificateRefused | LoginRefused):
                raise refused from exc
            cause = str(exc)
        else:
            tried = await probe_listeners(probe.client.cluster.brokers())
            patient = time.monotonic() < began + min(wait_s, _LEFT_WITHIN_S)
            if wrong := unreachable(settings, tried, patient=patient):
                raise wrong
            if all(it.resolved for it in tried) and not all(it.cause for it in tried):
                return
            refused, cause = None, "; ".join(it.cause for it in tried if it.cause)
        finally:
            await close_client(probe)
        if time.monotonic() >= began + wait_s:
            raise refused or BrokerUnreachable(settings.broker, wait_s, cause)
        await asyncio.sleep(1)


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
        return {it["topic"] for it in await describe_topics(admin, topics)
                if it["error_code"] == 0}  # fmt: skip


async def ensure_shadow_topic(settings: BrokerSettings, topology: Topology, name: str) -> None:
    """Make the shadow topic of component *name* unless it exists."""
    await _ensure_topic(settings, topology, topology.shadow(name))


async def ensure_outcomes_topic(settings: BrokerSettings, topology: Topology) -> None:
    """Make the outcomes' topic unless it exists, also for a pipeline that reads none itself."""
    await _ensure_topic(settings, topology, topology.outcomes)


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

    Topics that we may not see are somebody else's to look after, and without the reports topic
    workers run too. The embedded broker, which keeps nothing, makes them.
    """
    if settings.embedded:
        await ensure_topics(settings, topology)
        return
    found = await _described(settings, topology)
    for topic in topology.all:
        if topic not in found and topic != topology.reports:
            raise TopicMissing(topic)
    _check_counts(found, topology)


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
        found = await _described(settings, topology)
        made: list[str] = []
    else:
        found = await _described(settings, topology)
        made = [topic for topic in topology.all if topic not in found]
        await _create(settings, topology, made, replication)
    _check_counts(found, topology)
    return made


def _check_counts(found: Mapping[str, int | None], topology: Topology) -> None:
    for topic, count in found.items():
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
        tried = await create_topics(admin, new, validate_only=True)
        durable = {answer.name: durability(answer, replication) for answer in tried}
        new = [it._replace(configs={**it.configs, **durable[it.name]}) for it in new]
        made = []
        for answer in await create_topics(admin, new, validate_only=False):
            if answer.error in (0, TopicAlreadyExistsError.errno):  # another may have been faster
                made.append(answer.name)
            elif answer.error != TopicAuthorizationFailedError.errno:
                raise TopicNotMade(answer.name, answer.message or for_code(answer.error).__name__)
        deadline = time.monotonic() + _TOLD_WITHIN_S
        while made and time.monotonic() < deadline:
            if await is_known_everywhere(admin, made):
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
