"""From what a person names, an id or coordinates, to an event's own coordinates."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing

import orjson
from aiokafka.structs import ConsumerRecord

from agents.explanations import BadCoordinates, recorded_decision
from agents.redrive import DeadLetter, event_id_of
from agents.trace.errors import EventNotFound, PublishedEvent, SeveralEvents
from agents.workers import TailReader
from topics.pipeline import Pipeline, Topology
from topics.records import Source, rfc3339_time

Progress = Callable[[int, int], None]
"""Told how many offsets of how many have been looked at."""


class EventSearch:
    """Finds the events of one pipeline."""

    def __init__(self, tail: TailReader, pipeline: Pipeline) -> None:
        self._tail, self._pipeline = tail, pipeline
        self._topology = Topology.of(pipeline)

    async def find(self, word: str, since_ms: int | None, progress: Progress) -> Source:
        """The event that a *word* names: an id, or coordinates of it, its decision or dead letter.

        With *since_ms* ids are looked for among events published since then. Raises
        BadCoordinates, EventNotFound, or SeveralEvents.
        """
        topology = self._topology
        place = Source.of(word.encode())
        if place is None or place.topic not in topology.all:
            return await self._by_id(word, since_ms, progress)
        if place.partition >= topology.partitions:
            cause = f"the pipeline has {topology.partitions} partitions, from 0 on"
            raise BadCoordinates(place, cause)
        first, end = await self._tail.bounds(place.topic, place.partition)
        if place.offset >= end:
            cause = f"no such record: the topic ends before {end:,} in that partition"
            raise BadCoordinates(place, cause)
        if place.topic == topology.events:
            return place
        if place.topic not in (topology.decisions, topology.dead_letters):
            cause = (
                f"name the record on {topology.events}, {topology.decisions} or "
                f"{topology.dead_letters}"
            )
            raise BadCoordinates(place, cause)
        if place.offset < first:
            cause = f"gone by retention: the topic begins at {first:,} in that partition"
            raise BadCoordinates(place, cause)
        records = await self._tail.between(
            place.topic, place.partition, place.offset, place.offset + 1
        )
        source = self._source(records[0]) if records else None
        if source is None:
            raise BadCoordinates(place, "no decision or dead letter is there")
        return source

    def _source(self, record: ConsumerRecord) -> Source | None:
        """The event that a decision or dead letter is about."""
        if record.topic == self._topology.decisions:
            recorded = recorded_decision(record)
            return None if recorded is None else recorded.source
        try:
            letter = DeadLetter.of(record, self._pipeline.event.id, payload=False)
        except (KeyError, ValueError):
            return None
        partition, offset = letter.source
        return Source(topic=self._topology.events, partition=partition, offset=offset)

    async def _by_id(self, event_id: str, since_ms: int | None, progress: Progress) -> Source:
        """All events are looked at, the newest first: only that tells whether an id is unique."""
        topic, id_field = self._topology.events, self._pipeline.event.id
        # As producers may write it: with or without escapes for what is not ASCII.
        spellings = {event_id.encode(), orjson.dumps(event_id)[1:-1], _in_ascii(event_id)}
        starts = {
            partition: 0 if since_ms is None else await self._tail.since(topic, partition, since_ms)
            for partition in range(self._topology.partitions)
        }
        bounds = {partition: await self._tail.bounds(topic, partition) for partition in starts}
        total = sum(end - max(first, starts[p]) for p, (first, end) in bounds.items())
        events, looked_at, read = list[PublishedEvent](), 0, self._tail.records_read
        for partition, oldest in starts.items():
            spans = self._tail.backwards(topic, partition)
            async with aclosing(spans):
                async for start, end in spans:
                    first = max(start, oldest)
                    if first >= end:
                        break
                    chunks = self._tail.between_chunks(topic, partition, first, end)
                    async with aclosing(chunks):
                        async for records in chunks:
                            events += [
                                PublishedEvent(record.timestamp, _source_at(record))
                                for record in records
                                if any(each in (record.value or b"") for each in spellings)
                                and event_id_of(record.value, id_field) == event_id
                            ]
                    looked_at += end - first
                    progress(looked_at, total)
        if not events:
            since = None if since_ms is None else rfc3339_time(since_ms)
            raise EventNotFound(event_id, topic, self._tail.records_read - read, since)
        if len(events) > 1:
            raise SeveralEvents(event_id, events)
        return events[0].source


def _in_ascii(text: str) -> bytes:
    r"""The text as JSON writes it where it keeps to ASCII: ``é`` is ``\u00e9``."""
    return json.dumps(text)[1:-1].encode()


def _source_at(record: ConsumerRecord) -> Source:
    return Source(topic=record.topic, partition=record.partition, offset=record.offset)
