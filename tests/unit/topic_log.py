"""Topics in memory, as far as a `TailReader` tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from topics.kafka.topic_identity import TopicIdentity


def record(
    topic: str, offset: int, value: bytes | None, *, key: bytes | None = None,
    published_ms: int = 0, headers: Sequence[tuple[str, bytes]] = (), partition: int = 0,
) -> ConsumerRecord:  # fmt: skip
    """A record as a consumer gets it."""
    return ConsumerRecord(
        topic=topic, partition=partition, offset=offset, timestamp=published_ms, timestamp_type=0,
        key=key, value=value, checksum=None, serialized_key_size=0, serialized_value_size=0,
        headers=tuple(headers),
    )  # fmt: skip


@dataclass
class TopicLog:
    """Partitions with their records; where an offset has none, there is a marker or a gap."""

    topics: dict[str, TopicIdentity | None] = field(default_factory=dict)
    records: dict[TP, list[ConsumerRecord]] = field(default_factory=dict)
    first: dict[TP, int] = field(default_factory=dict)
    end: dict[TP, int] = field(default_factory=dict)

    def write(self, records: Iterable[ConsumerRecord]) -> None:
        """Append *records* at their own offsets."""
        for each in records:
            tp = TP(each.topic, each.partition)
            self.records.setdefault(tp, []).append(each)
            self.end[tp] = each.offset + 1

    async def identities(self, topics: Iterable[str]) -> Mapping[str, TopicIdentity | None]:
        """Of those topics that are known here."""
        return {topic: self.topics[topic] for topic in topics if topic in self.topics}

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is still there, and the next to be written."""
        tp = TP(topic, partition)
        return self.first.get(tp, 0), self.end.get(tp, 0)

    async def between(
        self, topic: str, partition: int, start: int, end: int
    ) -> list[ConsumerRecord]:
        """The records with offsets in [start, end) that are still there."""
        tp = TP(topic, partition)
        first = max(start, self.first.get(tp, 0))
        return [each for each in self.records.get(tp, []) if first <= each.offset < end]
