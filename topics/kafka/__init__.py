"""Kafka beside Faust: connections, topics, records written in batches, the embedded broker.

In reading order: `connection` (what every client is made with) and `clients` (how it ends),
`batches` (writing), `topic_admin` and `topic_identity` (topics looked up and made), `reachability`
(is anybody there), `embedded` (a broker without Java). What aiokafka does wrongly is done rightly
in `aiokafka_fixes`.
"""

from topics.kafka.aiokafka_fixes import TolerantRecords
from topics.kafka.batches import MAX_RECORD_BYTES, Headers, Record, write_batches
from topics.kafka.clients import close
from topics.kafka.connection import client_options, refusal, security_options
from topics.kafka.embedded import (
    FETCH_WAIT_MS,
    KEPT_BYTES,
    LEADER_WAIT_S,
    MAX_BYTES_IN_FLIGHT,
    MAX_IN_FLIGHT,
    EmbeddedBroker,
)
from topics.kafka.reachability import listeners, unknown_host, unreachable
from topics.kafka.topic_admin import (
    BROKER_DEFAULT,
    NewTopic,
    all_tell_of,
    create,
    durability,
    look_up,
)
from topics.kafka.topic_identity import TopicIdentity, topic_identities

__all__ = [
    "BROKER_DEFAULT", "FETCH_WAIT_MS", "KEPT_BYTES", "LEADER_WAIT_S", "MAX_BYTES_IN_FLIGHT",
    "MAX_IN_FLIGHT", "MAX_RECORD_BYTES", "EmbeddedBroker",
    "Headers", "NewTopic", "Record",
    "TolerantRecords", "TopicIdentity", "all_tell_of", "client_options", "close", "create",
    "durability", "listeners", "look_up", "refusal", "security_options", "topic_identities",
    "unknown_host", "unreachable", "write_batches",
]  # fmt: skip
