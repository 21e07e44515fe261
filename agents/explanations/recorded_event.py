"""A decision, and what was recorded of its event on the way: found on the topics.

By coordinates, of the event or of the decision: what is written of a partition's events stands in
the same partition, in their order, and not before the event was published. By id all decisions are
read, as only that tells whether it is unique.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter

import orjson
from aiokafka.structs import ConsumerRecord
from pydantic import ValidationError

from agents.explanations.errors import (
    BadCoordinates,
    DecisionGone,
    DecisionNotFound,
    OutputGone,
    SeveralDecisions,
    named,
)
from agents.explanations.event_records import SLACK_MS, EventRecords
from agents.workers import TailReader
from topics.pipeline import WEIGH, Topology, Value
from topics.records import Decision, Source, StageBatch, attempt_of


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """A decision as it stands on its topic."""

    decision: Decision
    attempt: int
    """At which attempt it was decided: more than 1 where the event was redriven."""

    @property
    def source(self) -> Source:
        """The coordinates of its event."""
        return self.decision.source

    @property
    def published_ms(self) -> int:
        """When the event was published, milliseconds since 1970, or a little earlier.

        Raises ValueError and OverflowError for times that cannot be, which no decision has that
        was read by `recorded_decision`.
        """
        decided = datetime.fromisoformat(self.decision.decided_at).timestamp() * 1000
        return int(decided - self.decision.latency_ms) - SLACK_MS


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """What is needed of an event to explain what was decided about it."""

    decision: Decision
    outputs: Mapping[str, StageBatch]
    """Component → what it said of the event, one row each."""
    fields: Mapping[str, Value] = field(default_factory=dict)
    """Those of its own fields that texts show."""


class DecisionArchive:
    """What a pipeline's topics still hold of events that were decided."""

    def __init__(self, tail: TailReader, topology: Topology) -> None:
        self._tail, self._topology = tail, topology
        self._records = EventRecords(tail, topology)

    async def find(self, word: str, *, since_ms: int | None = None) -> RecordedDecision:
        """The decision that a *word* names: TOPIC/PARTITION/OFFSET, or an event's id.

        With *since_ms* ids are searched for among decisions written since then. Raises
        BadCoordinates, DecisionNotFound, or SeveralDecisions.
        """
        place = Source.of(word.encode())
        if place is not None and place.topic == self._topology.decisions:
            return await self._at(place)
        if place is not None and place.topic == self._topology.events:
            return await self._about(place)
        if place is not None and place.topic in self._topology.all:
            cause = f"name the record on {self._topology.events} or {self._topology.decisions}"
            raise BadCoordinates(place, cause)
        return await self._by_id(word, since_ms)

    async def outputs(
        self, recorded: RecordedDecision, components: Collection[str]
    ) -> dict[str, StageBatch]:
        """What *components* said of the event: one row each. Raises OutputGone."""
        if recorded.attempt > 1:
            redriven = await self._redriven_outputs(recorded)
            outputs = {name: redriven[name] for name in components if name in redriven}
        else:
            outputs = {}
            for name in components:
                stage = await self._records.in_any_lane(
                    name, recorded.source, recorded.published_ms
                )
                if stage is not None:
                    outputs[name] = stage.row
        for name in components:
            if name not in outputs:
                topic = self._topology.stage(name)
                if recorded.attempt > 1:
                    topic = self._topology.redrive
                raise OutputGone(topic, name, recorded.source)
        return outputs

    async def _at(self, place: Source) -> RecordedDecision:
        """The decision at its own coordinates."""
        topic, partition, offset = place.topic, place.partition, place.offset
        first, end = await self._bounds(place)
        records = await self._tail.between(topic, partition, offset, offset + 1)
        decision = recorded_decision(records[0]) if records else None
        if decision is None:
            why = "no decision is there"
            if offset < first:
                why = f"gone by retention: the topic begins at {first:,} in that partition"
            if offset >= end:
                why = f"not written yet: the topic ends before {end:,} in that partition"
            raise BadCoordinates(place, why)
        return decision

    async def _about(self, place: Source) -> RecordedDecision:
        """The decision about the event at *place*."""
        first, end = await self._bounds(place)
        if place.offset >= end:
            cause = f"no such event: the topic ends before {end:,} in that partition"
            raise BadCoordinates(place, cause)
        decisions, partition = self._topology.decisions, place.partition
        oldest, _ = await self._tail.bounds(decisions, partition)
        event = await self._records.at(place)
        since_ms = None if event is None else event.timestamp - SLACK_MS
        record = await self._records.decision(place, since_ms)
        if record is not None and (decision := recorded_decision(record)) is not None:
            return decision
        # A later attempt's; and a producer's clock may be wrong: then all are looked at.
        starts = [await self._records.start(decisions, partition, since_ms), oldest]
        for start in dict.fromkeys(starts):
            if (decision := await self._first_about(place, start)) is not None:
                return decision
        if place.offset < first:
            raise DecisionGone(place, first, decisions)
        kept = f"it is kept from offset {oldest:,} of partition {partition} on"
        raise DecisionNotFound(named(place), decisions, self._topology.pipeline, kept)

    async def _first_about(self, place: Source, start: int) -> RecordedDecision | None:
        """The decision of any attempt, in what is written from offset *start* on."""
        wanted = named(place).encode()
        chunks = self._tail.chunks(self._topology.decisions, place.partition, start)
        async with aclosing(chunks):
            async for records in chunks:
                for record in records:
                    if dict(record.headers).get("ce_id") == wanted:
                        return recorded_decision(record)
        return None

    async def _by_id(self, event_id: str, since_ms: int | None) -> RecordedDecision:
        topic = self._topology.decisions
        decisions: list[RecordedDecision] = []
        read = self._tail.records_read
        # How orjson, by which decisions are written, writes it.
        content = orjson.dumps(event_id)
        for partition in range(self._topology.partitions):
            start = 0 if since_ms is None else await self._tail.since(topic, partition, since_ms)
            chunks = self._tail.chunks(topic, partition, start)
            async with aclosing(chunks):
                async for records in chunks:
                    decisions += [
                        decision
                        for record in records
                        if content in (record.value or b"")
                        and (decision := recorded_decision(record)) is not None
                        and decision.decision.event_id == event_id
                    ]
        if not decisions:
            kept = f"{self._tail.records_read - read:,} decisions were looked at"
            what = f"an event with the id {event_id!r}"
            raise DecisionNotFound(what, topic, self._topology.pipeline, kept)
        if len(decisions) > 1:
            found = sorted(
                (each.decision for each in decisions), key=attrgetter("decided_at"), reverse=True
            )
            raise SeveralDecisions(event_id, found)
        return decisions[0]

    async def _bounds(self, place: Source) -> tuple[int, int]:
        """Raises BadCoordinates for a partition that there is not."""
        if place.partition >= self._topology.partitions:
            cause = f"the pipeline has {self._topology.partitions} partitions, from 0 on"
            raise BadCoordinates(place, cause)
        return await self._tail.bounds(place.topic, place.partition)

    async def _redriven_outputs(self, recorded: RecordedDecision) -> Mapping[str, StageBatch]:
        """What travelled to the weighting agent with a redriven event, at its last attempt."""
        for redrive in await self._records.redrives(recorded.source, recorded.published_ms):
            if redrive.batch.next == WEIGH and redrive.attempt == recorded.attempt:
                return redrive.outputs_of(recorded.source)
        return {}


def recorded_decision(record: ConsumerRecord) -> RecordedDecision | None:
    """None for a record that is no decision."""
    try:
        decision = Decision.model_validate_json(record.value or b"")
        recorded = RecordedDecision(decision, attempt_of(record.headers))
        _ = recorded.published_ms
    except (ValidationError, ValueError, OverflowError):
        return None
    return recorded
