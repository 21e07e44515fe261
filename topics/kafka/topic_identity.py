"""What a broker says of a topic's identity: its id, and how many partitions it has.

aiokafka 0.14 asks for metadata up to version 5, and topic ids came with version 10 (KIP-516, Apache
Kafka 2.8): so the request and its answer are written here on aiokafka's own protocol types. Of a
broker that knows no version 10 the older answer is taken, which has no ids.
https://kafka.apache.org/protocol#The_Messages_Metadata
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, NamedTuple
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_NONE = UUID(int=0)
_ID_BYTES = 16
_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)


class TopicIdentity(NamedTuple):
    """What makes a topic this one, whatever others have had its name."""

    id: str | None
    """As Kafka's own tools write it; None where the broker has none to tell."""
    partitions: int


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(_ID_BYTES))


class _MetadataResponse_v10(Response):  # type: ignore[misc]  # noqa: N801  # as aiokafka has them
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS
            ),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("topic_authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        _TAGS,
    )


class _MetadataRequest_v10(RequestStruct):  # type: ignore[misc]  # noqa: N801  # as aiokafka has them
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse_v10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class _IdentityRequest(Request[MetadataRequest_v5 | _MetadataRequest_v10]):  # type: ignore[misc]
    """The newest of the two that a broker takes; it makes no topic that is not there."""

    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[RequestStruct]) -> RequestStruct:
        if request_struct_class is MetadataRequest_v5:
            return MetadataRequest_v5(self._topics, False)
        topics: list[tuple[UUID, str, dict[int, bytes]]] = [
            (_NONE, topic, {}) for topic in self._topics
        ]
        return _MetadataRequest_v10(topics, False, False, False, {})


async def topic_identities(
    client: AIOKafkaClient, topics: Iterable[str]
) -> Mapping[str, TopicIdentity | None]:
    """Topic → its identity, None for one that does not exist; those hidden from us are left out.

    Raises KafkaError when no broker answers.
    """
    request, wanted = _IdentityRequest(topics), set(topics)
    brokers = [broker.nodeId for broker in client.cluster.brokers()]
    failure: KafkaError = NodeNotReadyError("no broker is known")
    for node in random.sample(brokers, len(brokers)):
        try:
            response = await client.send(node, request)
        except KafkaError as exc:
            failure = exc
        else:
            identities = map(_identity, response.to_object()["topics"])
            return {topic: identity for topic, identity in identities if topic in wanted}
    raise failure


def _identity(row: Mapping[str, Any]) -> tuple[str, TopicIdentity | None]:
    """A topic's name and identity; the name is empty when we may not see the topic."""
    if row["error_code"] == TopicAuthorizationFailedError.errno:
        return "", None
    if row["error_code"] == UnknownTopicOrPartitionError.errno:
        return row["topic"], None
    known = row.get("topic_id", _NONE)
    text = None if known == _NONE else base64.urlsafe_b64encode(known.bytes).decode().rstrip("=")
    return row["topic"], TopicIdentity(text, len(row["partitions"]))
