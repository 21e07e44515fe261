"""Kafka beside Faust: connections, topics, records written in batches, the embedded broker.

In reading order: `connection` (what every client is made with, and how it ends),
`batches` (writing), `topic_admin` and `topic_identity` (topics described and made), `reachability`
(is anybody there), `embedded` (a broker without Java). Every reach into private parts of aiokafka
is in `aiokafka_fixes`.
"""

from topics.kafka.aiokafka_fixes import (
    TolerantRecords,
    data_connection,
    give_answer,
    has_valid_crc,
    learn_topics,
    learn_topics_at_once,
    network_client,
    receive_by,
    send_admin_request,
)
from topics.kafka.batches import MAX_RECORD_BYTES, Headers, Record, write_batches
from topics.kafka.connection import client_options, close_client, refusal, security_options
from topics.kafka.embedded import (
    FETCH_WAIT_MS,
    KEPT_BYTES,
    LEADER_WAIT_S,
    MAX_BYTES_IN_FLIGHT,
    MAX_IN_FLIGHT,
    EmbeddedBroker,
)
from topics.kafka.reachability import probe_listeners, unknown_host, unreachable
from topics.kafka.topic_admin import (
    BROKER_DEFAULT,
    NewTopic,
    create_topics,
    describe_topics,
    durability,
    is_known_everywhere,
)
from topics.kafka.topic_identity import TopicIdentity, topic_identities

__all__ = [
    "BROKER_DEFAULT", "FETCH_WAIT_MS", "KEPT_BYTES", "LEADER_WAIT_S", "MAX_BYTES_IN_FLIGHT",
    "MAX_IN_FLIGHT", "MAX_RECORD_BYTES", "EmbeddedBroker", "Headers", "NewTopic", "Record",
    "TolerantRecords", "TopicIdentity", "client_options", "close_client", "create_topics",
    "data_connection", "describe_topics", "durability", "give_answer", "has_valid_crc",
    "is_known_everywhere", "learn_topics", "learn_topics_at_once", "network_client",
    "probe_listeners", "receive_by", "refusal", "security_options", "send_admin_request",
    "topic_identities", "unknown_host", "unreachable", "write_batches",
]  # fmt: skip
