"""Following a challenger: its shadow topic, the decisions and the outcomes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord
from pydantic import ValidationError

from agents.broker import follower, read_to_end, topic_names
from agents.service.challenger_comparison import Comparer
from topics.errors import WireError
from topics.events import EventDecoder
from topics.pipeline import OUTCOME, Pipeline, Topology
from topics.records import Decision, attempt_of, decode, outcome_schema
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_WAIT_MS = 300


class ChallengerFollower:
    """Feeds a comparer with whatever comes."""

    def __init__(self, pipeline: Pipeline, comparer: Comparer, consumer: AIOKafkaConsumer) -> None:
        topology = Topology.of(pipeline)
        self._outcomes = EventDecoder(outcome_schema(pipeline))
        self._id = pipeline.event.id
        self._comparer = comparer
        self._consumer = consumer
        self._take: dict[str, Callable[[ConsumerRecord], None]] = {
            topology.shadow(comparer.component): self._shadowed,
            topology.decisions: self._decided,
            topology.outcomes: self._outcome,
        }

    async def catch_up(self) -> None:
        """Take in all that is there now."""
        async for _, records in read_to_end(self._consumer):
            self._take_in(records)

    async def more(self) -> None:
        """Take in what comes within a moment."""
        fetched = await self._consumer.getmany(timeout_ms=_WAIT_MS)
        for records in fetched.values():
            self._take_in(records)

    def _take_in(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                self._take[record.topic](record)
            except (WireError, ValidationError, ValueError) as exc:
                log.warning(
                    "%s[%d]@%d skipped: %s", record.topic, record.partition, record.offset, exc
                )

    def _shadowed(self, record: ConsumerRecord) -> None:
        self._comparer.shadowed(decode(record.value, dict(record.headers)))

    def _decided(self, record: ConsumerRecord) -> None:
        if attempt_of(record.headers) == 1:
            self._comparer.decided(Decision.model_validate_json(record.value or b""))

    def _outcome(self, record: ConsumerRecord) -> None:
        outcome = self._outcomes.event(record.value or b"")
        self._comparer.outcome(str(outcome[self._id]), label=bool(outcome[OUTCOME]))


@asynccontextmanager
async def follow_challenger(
    settings: BrokerSettings, pipeline: Pipeline, comparer: Comparer
) -> AsyncIterator[ChallengerFollower]:
    """A follower from the beginning of the topics on; without outcomes where there are none."""
    topology = Topology.of(pipeline)
    topics = [topology.shadow(comparer.component), topology.decisions]
    if topology.outcomes in await topic_names(settings, [topology.outcomes]):
        topics.append(topology.outcomes)
    async with follower(settings, topics, topology.partitions, from_start=True) as consumer:
        yield ChallengerFollower(pipeline, comparer, consumer)
