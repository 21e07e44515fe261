"""Describing topics and making them, as aiokafka's own admin client cannot.

Its CreateTopics knows no default of the broker. Version 5 (Kafka 2.4 and later) makes a topic with
as many replicas as the broker gives by itself (-1), and says of a topic, also of one that is only
tried, what it has in the end. And its `describe_topics` would make the topics that are not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, NotControllerError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from topics.errors import TopicNotMade
from topics.kafka.aiokafka_fixes import network_client, send_admin_request, send_to_controller

BROKER_DEFAULT = -1
"""As many replicas as the broker gives by itself (default.replication.factor)."""

MIN_IN_SYNC = "min.insync.replicas"
_MADE_WITHIN_MS = 30_000
"""How long a broker may take to make topics."""
_MANY = 3
_COPIES = 2
"""Of so many replicas, so many have what is written: one broker may be lost, and none waits."""


class NewTopic(NamedTuple):
    """A topic to be made."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


class CreationAnswer(NamedTuple):
    """What the broker says of a topic that it was to make, or to try."""

    name: str
    error: int
    """Kafka's number; 0 for none."""
    message: str | None
    replication: int
    """-1 where we may not know."""
    configs: Mapping[str, str | None]
    """With the defaults; none where we may not know."""


def durability(tried: CreationAnswer, replication: int = BROKER_DEFAULT) -> Mapping[str, str]:
    """The setting that keeps a topic durable; none where the broker's own does.

    Where the broker does not say how many replicas it would have, *replication* were asked for.

    >>> answer = CreationAnswer("p.events", 0, None, 3, {"min.insync.replicas": "1"})
    >>> durability(answer), durability(answer._replace(replication=1))
    ({'min.insync.replicas': '2'}, {})
    """
    replicas = tried.replication if tried.replication > 0 else replication
    if replicas < _MANY or int(tried.configs.get(MIN_IN_SYNC) or 1) >= _COPIES:
        return {}
    return {MIN_IN_SYNC: str(_COPIES)}


class _Response(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY: ClassVar[int] = 19
    API_VERSION: ClassVar[int] = 5
    SCHEMA: ClassVar[Schema] = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("num_partitions", Int32),
                ("replication_factor", Int16),
                (
                    "configs",
                    CompactArray(
                        ("name", CompactString("utf-8")),
                        ("value", CompactString("utf-8")),
                        ("read_only", Boolean),
                        ("config_source", Int8),
                        ("is_sensitive", Boolean),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Request(RequestStruct):  # type: ignore[misc]  # the same
    FLEXIBLE_VERSION = True
    API_KEY = 19
    API_VERSION = 5
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("num_partitions", Int32),
                ("replication_factor", Int16),
                (
                    "assignments",
                    CompactArray(
                        ("partition_index", Int32),
                        ("broker_ids", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                (
                    "configs",
                    CompactArray(
                        ("name", CompactString("utf-8")),
                        ("value", CompactString("utf-8")),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("timeout_ms", Int32),
        ("validate_only", Boolean),
        ("tags", TaggedFields),
    )


class _CreateTopics(Request[_Request]):  # type: ignore[misc]  # the same
    API_KEY = 19

    def __init__(self, topics: Sequence[NewTopic], *, validate_only: bool) -> None:
        self._topics = topics
        self._validate_only = validate_only

    def build(self, request_struct_class: type[_Request]) -> _Request:
        """The request as it goes over the wire."""
        topics: list[Any] = [
            (
                topic.name, topic.partitions, topic.replication, [],
                [(name, value, {}) for name, value in topic.configs.items()], {},
            )
            for topic in self._topics
        ]  # fmt: skip
        return request_struct_class(topics, _MADE_WITHIN_MS, self._validate_only, {})


async def describe_topics(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> list[Any]:
    """What the broker says of *topics*, and none is made.

    aiokafka's `describe_topics` makes those that are not there, with one partition, where
    `auto.create.topics.enable` is as Kafka ships it.
    """
    request = MetadataRequest(list(topics), allow_auto_topic_creation=False)
    descriptions: list[Any] = (await send_admin_request(admin, request)).to_object()["topics"]
    return descriptions


async def is_known_everywhere(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> bool:
    """Whether every broker that answers knows *topics*: some do before others."""
    request = MetadataRequest(list(topics), allow_auto_topic_creation=False)
    client = network_client(admin)
    for broker in client.cluster.brokers():
        if not await client.ready(broker.nodeId):
            continue
        try:
            answer = await send_admin_request(admin, request, broker.nodeId)
        except KafkaError:
            continue
        if any(topic["error_code"] for topic in answer.to_object()["topics"]):
            return False
    return True


async def create_topics(
    admin: AIOKafkaAdminClient, topics: Sequence[NewTopic], *, validate_only: bool
) -> list[CreationAnswer]:
    """What the controller answers; with *validate_only*, what it would do. Raises TopicNotMade."""
    request = _CreateTopics(topics, validate_only=validate_only)
    try:
        answers = _answers(await send_to_controller(admin, request))
        if any(answer.error == NotControllerError.errno for answer in answers):
            await network_client(admin).force_metadata_update()
            answers = _answers(await send_to_controller(admin, request))
    except (IncompatibleBrokerVersion, NotImplementedError) as exc:
        raise TopicNotMade(topics[0].name, "it is older than Kafka 2.4") from exc
    return answers


def _answers(response: Any) -> list[CreationAnswer]:
    return [
        CreationAnswer(
            name, error, message, replication, {key: value for key, value, *_ in configs or []}
        )
        for name, error, message, _, replication, configs, _ in response.topics
    ]
