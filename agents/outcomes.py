"""Publishing outcomes when they are known: in event time, a delay after their events."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import orjson
from aiokafka import AIOKafkaProducer

from agents.publishing import publish_chunk
from topics.events import milliseconds
from topics.outcomes import outcome_of
from topics.pipeline import Pipeline, duration_ms
from topics.topology import Topology


class OutcomePublisher:
    """Keeps the outcomes of published events until event time has come to when they are known.

    An outcome that is published before an event can be part of what is known when it happens.
    Pipelines whose features use no outcomes need none: nothing is kept then.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._topology = Topology.of(pipeline)
        self._delay_ms = duration_ms(pipeline.outcomes.delay)
        self._waiting: deque[tuple[int, tuple[bytes, bytes]]] = deque()
        self.published = 0

    def note(self, event: Mapping[str, object], *, label: bool) -> None:
        """*event* is about to be published; events come in the order of time."""
        if not self._topology.has_outcomes:
            return
        key = str(event[self._pipeline.event.key]).encode()
        value = orjson.dumps(outcome_of(self._pipeline, event, label=label))
        self._waiting.append((self._time_of(event) + self._delay_ms, (key, value)))

    async def publish_known(self, kafka: AIOKafkaProducer, by: Mapping[str, object]) -> None:
        """Publish what is known when the event *by* happens; call it before publishing that."""
        if self._waiting:
            await self._publish(kafka, self._time_of(by))

    async def publish_rest(self, kafka: AIOKafkaProducer) -> None:
        """Publish what is left: no event of this stream can see it, later ones may."""
        await self._publish(kafka, None)

    async def _publish(self, kafka: AIOKafkaProducer, until_ms: int | None) -> None:
        known: list[tuple[bytes, bytes]] = []
        while self._waiting and (until_ms is None or self._waiting[0][0] <= until_ms):
            known.append(self._waiting.popleft()[1])
        if known:
            topology = self._topology
            await publish_chunk(kafka, topology.outcomes, topology.partitions, known)
            self.published += len(known)

    def _time_of(self, event: Mapping[str, object]) -> int:
        return milliseconds(str(event[self._pipeline.event.time]))
