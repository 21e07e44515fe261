"""Publishing outcomes when they are known: in event time, a delay after their events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import orjson
from aiokafka import AIOKafkaProducer

from agents.publish.publisher import encoded, publish_chunk
from topics.events import epoch_ms
from topics.pipeline import Pipeline, Topology, duration_ms
from topics.records import outcome_fields, outcome_of, rfc3339_time


class OutcomePublisher:
    """Keeps the outcomes of published events until event time has come to when they are known.

    An outcome that is published before an event can be part of what is known when it happens.
    Where no feature uses outcomes nothing is kept: they are for those who judge decisions, if
    *wanted*, and published at once. With a *source* each says who says so and since when, and they
    come with the pipeline's delay in any case.
    """

    def __init__(self, pipeline: Pipeline, *, wanted: bool = False, source: str = "") -> None:
        self._key, self._time = pipeline.event.key, pipeline.event.time
        self._fields = outcome_fields(pipeline)
        self._topology = Topology.of(pipeline)
        by_outcomes = bool(self._topology.by_outcomes)
        self._wanted = wanted or by_outcomes
        comes_late = by_outcomes or source
        self._delay_ms = duration_ms(pipeline.outcomes.delay) if comes_late else 0
        self._source = source
        self._waiting: deque[tuple[int, tuple[bytes, bytes]]] = deque()
        self._now_ms = 0
        self.published = 0
        """Outcomes so far."""

    def following(
        self, labelled: Iterable[tuple[Mapping[str, object], bool | None]]
    ) -> Iterator[tuple[bytes, bytes]]:
        """The events as (key, value), in the order of time; outcomes that are known are kept."""
        for event, label in labelled:
            key, value = encoded(event, self._key)
            if self._wanted and label is not None:
                with suppress(KeyError, ValueError):  # a bad event is a dead letter, no outcome
                    self._keep(key, event, label=label)
            yield key, value

    def _keep(self, key: bytes, event: Mapping[str, object], *, label: bool) -> None:
        self._now_ms = epoch_ms(str(event[self._time]))
        known_ms = self._now_ms + self._delay_ms
        # What is left in the end is published before its time, and cannot be known after that.
        known_at = rfc3339_time(min(known_ms, time.time_ns() // 1_000_000))
        said = outcome_of(
            self._fields, event, label=label, source=self._source,
            known_at=known_at if self._source else "",
        )  # fmt: skip
        self._waiting.append((known_ms, (key, orjson.dumps(said))))

    async def publish_known(self, kafka: AIOKafkaProducer) -> None:
        """Publish what is known when the last event of `following` happens, before that event."""
        await self._publish(kafka, self._now_ms if self._delay_ms else None)

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
