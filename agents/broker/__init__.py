"""A pipeline's broker beside its workers: reached, its topics made, its logs read.

`reach` says which broker and waits for it, `pipeline_topics` makes topics, `topic_settings` says
what they are set to, `acls` grants rights;
`log_reader` (with `fetch_connection` and `record_batches`) reads partitions from positions of the
caller's, batch by batch, `log_follower` as records come, both outside any group; `lag` and
`source_progress` say how far groups are.
"""

from agents.broker.acls import grant
from agents.broker.lag import group_lag
from agents.broker.log_follower import end_offsets, follower, offsets_consumer, read_to_end
from agents.broker.log_reader import MOST_EMPTY_FETCHES, FetchResult, LogReader, Unreadable
from agents.broker.pipeline_topics import (
    check_topics,
    ensure_monitor_topics,
    ensure_outcomes_topic,
    ensure_renewals_topic,
    ensure_requests_topic,
    ensure_shadow_topic,
    ensure_topics,
    partition_counts,
    topic_ids,
    topic_names,
    topic_partitions,
)
from agents.broker.reach import broker_settings, needed_broker, started_embedded, wait_for_broker
from agents.broker.record_batches import RecordBatch
from agents.broker.source_progress import SourceCommits
from agents.broker.topic_settings import days, retention_findings, topic_settings

__all__ = [
    "MOST_EMPTY_FETCHES", "FetchResult", "LogReader", "RecordBatch", "SourceCommits", "Unreadable",
    "broker_settings", "check_topics", "days", "end_offsets", "ensure_monitor_topics",
    "ensure_outcomes_topic", "ensure_renewals_topic", "ensure_requests_topic",
    "ensure_shadow_topic", "ensure_topics", "follower", "grant", "group_lag", "needed_broker",
    "offsets_consumer", "partition_counts", "read_to_end", "retention_findings",
    "started_embedded", "topic_ids", "topic_names", "topic_partitions", "topic_settings",
    "wait_for_broker",
]  # fmt: skip
