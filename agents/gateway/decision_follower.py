"""Following all that a pipeline decides, from now on: one consumer, outside any group."""

from __future__ import annotations

from collections.abc import Sequence

import aiokafka
from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.gateway.awaited_answers import Answer, AwaitedAnswers
from agents.gateway.stream.live_decisions import LiveDecisions
from agents.gateway.stream.stream_position import Position, TopicPosition
from topics.kafka import network_client, topic_identities
from topics.pipeline import Topology
from topics.records import attempt_at
from topics.records import dead_letter as dead_letters

_AT_ONCE = 1000
_WAIT_MS = 1000


class DecisionFollower:
    """Tells *answers* and *live* of every end that *consumer* reads: decisions and dead letters."""

    def __init__(
        self, consumer: aiokafka.AIOKafkaConsumer, topology: Topology, answers: AwaitedAnswers,
        live: LiveDecisions,
    ) -> None:  # fmt: skip
        self._consumer, self._topology, self._answers = consumer, topology, answers
        self._live = live

    async def position(self) -> Position:
        """Where it begins. Raises KafkaError."""
        topics = (self._topology.decisions, self._topology.dead_letters)
        known = await topic_identities(network_client(self._consumer), topics)
        ids = {topic: identity.id for topic, identity in known.items() if identity is not None}
        return Position(*[
            TopicPosition.of(ids.get(topic), [
                await self._consumer.position(TopicPartition(topic, partition))
                for partition in range(self._topology.partitions)
            ])
            for topic in topics
        ])  # fmt: skip

    async def follow(self) -> None:
        """Until it is cancelled. Raises KafkaError."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=_WAIT_MS, max_records=_AT_ONCE)
            for tp, records in fetched.items():
                is_decision = tp.topic == self._topology.decisions
                self._take(tp.partition, records, is_decision=is_decision)
                self._live.take(tp.partition, records, is_decision=is_decision)

    def _take(
        self, partition: int, records: Sequence[ConsumerRecord], *, is_decision: bool
    ) -> None:
        for record in records:
            try:
                offset, _ = attempt_at(record, is_decision=is_decision)
            except (KeyError, ValueError):  # not ours
                continue
            place = (partition, offset)
            if self._answers.wants(place):
                answer = Answer(record.value) if is_decision else buried(record)
                self._answers.take(place, answer)


def buried(record: ConsumerRecord) -> Answer:
    """What a dead letter says."""
    about = {name: value or b"" for name, value in record.headers}
    stage, error, reason = (
        about.get(dead_letters.PREFIX + name, b"").decode(errors="replace")
        for name in ("stage", "class", "reason")
    )
    return Answer(None, stage, error, reason)
