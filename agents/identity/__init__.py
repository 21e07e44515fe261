"""Whether topics are still the ones whose records were dealt with.

`source_identity` compares by ids and records, `topic_watch` looks while workers run.
"""

from agents.identity.source_identity import TopicReader, check_identity, headers_by_topic
from agents.identity.topic_watch import TopicWatch, raise_changed

__all__ = [
    "TopicReader", "TopicWatch", "check_identity", "headers_by_topic", "raise_changed",
]  # fmt: skip
