"""A pipeline's broker beside its workers: reached, its topics made, its logs read.

`reach` waits for a broker and makes topics, `acls` grants rights; `log_reader`, `record_batches`
and `log_follower` read partitions outside any group; `lag` and `source_commits` say how far groups
are.
"""

from agents.broker.acls import grant
from agents.broker.log_follower import ends_of, offsets_consumer, read_to_end
from agents.broker.log_reader import LogReader
from agents.broker.reach import (
    broker_settings,
    check_topics,
    ensure_outcomes_topic,
    ensure_shadow_topic,
    ensure_topics,
    needed_broker,
    partition_counts,
    started_embedded,
    topic_names,
    topic_partitions,
    wait_for_broker,
)
from agents.broker.record_batches import RecordBatch
from agents.broker.source_commits import SourceCommits

__all__ = [
    "LogReader", "RecordBatch", "SourceCommits", "broker_settings", "check_topics", "ends_of",
    "ensure_outcomes_topic", "ensure_shadow_topic", "ensure_topics", "grant", "needed_broker",
    "offsets_consumer", "partition_counts", "read_to_end", "started_embedded", "topic_names",
    "topic_partitions", "wait_for_broker",
]  # fmt: skip
