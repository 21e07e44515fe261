"""What a what-if reads: decisions of a range, dead letters, outcomes and fields of their events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson
import pytest

from agents.broker import LogReader, ensure_outcomes_topic, ensure_topics
from agents.replay.decision_reader import DecisionReader
from agents.replay.errors import NothingDecided
from agents.replay.recorded_range import SourceRange
from agents.replay.segments import segments_of
from agents.workers import TailReader
from tests.integration.harness import publish_raw
from tests.unit.test_decisions import PIPELINE, joined_of, records_of, stage
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.records import Failure
from topics.records.dead_letter import dead_letter
from topics.settings import BrokerSettings

PARTITION = 2
TOPOLOGY = Topology.of(PIPELINE)


def decisions(count: int) -> list[Record]:
    """About the events 10, 11 and so on of the partition: event-10, event-11."""
    signals: list[float | None] = [0.5] * count
    return records_of(joined_of({"a": stage("a", signals), "b": stage("b", signals)}))


def letter(offset: int) -> Record:
    failure = Failure(0, "a", "ValueError", "no number")
    return dead_letter(
        failure, (TOPOLOGY.events, PARTITION, offset), (b"k", b"{}", ()), 5, published_ms=1
    )


def outcome(event_id: str, *, label: bool) -> Record:
    value = {"id": event_id, "at": "2026-01-01T00:00:00Z", "outcome": label}
    return Record(event_id.encode(), orjson.dumps(value), 5)


def event(event_id: str) -> Record:
    return Record(b"", orjson.dumps({"id": event_id, "at": "2026-01-01T00:00:00Z"}), 5)


@asynccontextmanager
async def reading(
    broker: BrokerSettings, written: Mapping[str, list[Record]], start: int, end: int
) -> AsyncIterator[DecisionReader]:
    """A reader of a range of the partition, on whose topics that is *written*."""
    await ensure_topics(broker, TOPOLOGY)
    await ensure_outcomes_topic(broker, TOPOLOGY)
    for topic, records in written.items():
        await publish_raw(broker, topic, PARTITION, records)
    tail = TailReader(broker)
    await tail.start()
    try:
        async with LogReader.of(broker) as reader:
            ranges = [SourceRange(PARTITION, start, end)]
            yield DecisionReader(broker, reader, tail, PIPELINE, ranges)
    finally:
        await tail.stop()


async def test_decisions_are_those_about_the_range_and_others_records_are_counted(
    broker: BrokerSettings,
) -> None:
    *first, last = decisions(6)
    later = last._replace(headers=[*last.headers, ("x-redrive-attempt", b"2")])
    others = [
        Record(b"", None, 5), Record(b"", b"{}", 5), first[0]._replace(value=b"\xff"),
        first[0]._replace(value=(first[0].value or b"").replace(b"p.events", b"q.events")),
    ]  # fmt: skip
    again = first[2]._replace(value=(first[2].value or b"").replace(b"event-12", b"event-99"))
    written = {TOPOLOGY.decisions: [*first[:4], *others, first[4], again, later]}
    async with reading(broker, written, 12, 16) as reader:
        recorded = await reader.decisions()
    assert recorded.decisions.offsets.tolist() == [12, 13, 14, 15]
    assert recorded.decisions.ids == ["event-12", "event-13", "event-14", "event-15"]
    assert recorded.decisions.redriven.tolist() == [False, False, False, True]
    assert (recorded.foreign, recorded.repeated) == (4, 1)


async def test_a_range_without_decisions_is_refused(broker: BrokerSettings) -> None:
    async with reading(broker, {TOPOLOGY.decisions: decisions(2)}, 500, 600) as reader:
        with pytest.raises(NothingDecided, match=r"p\.decisions holds no decision about events in"):
            await reader.decisions()


async def test_dead_are_those_of_the_range_that_no_later_attempt_has_decided(
    broker: BrokerSettings,
) -> None:
    *first, last = decisions(3)
    later = last._replace(headers=[*last.headers, ("x-redrive-attempt", b"2")])
    written = {
        TOPOLOGY.decisions: [*first, later],
        TOPOLOGY.dead_letters: [letter(3), letter(12), letter(13), Record(b"", b"", 5), letter(90)],
    }
    async with reading(broker, written, 10, 20) as reader:
        recorded = await reader.decisions()
        assert await reader.dead_letters(recorded.decisions) == 1


async def test_of_several_outcomes_the_last_counts_and_an_id_of_several_events_tells_of_none(
    broker: BrokerSettings,
) -> None:
    one, two, three, four = decisions(4)
    twice = four._replace(value=(four.value or b"").replace(b"event-13", b"event-12"))
    written = {
        TOPOLOGY.decisions: [one, two, three, twice],
        TOPOLOGY.outcomes: [
            outcome("event-10", label=False), outcome("event-12", label=True),
            outcome("nobody", label=True), Record(b"", b"no outcome", 5),
            outcome("event-10", label=True),
        ],
    }  # fmt: skip
    async with reading(broker, written, 10, 20) as reader:
        outcomes = await reader.outcomes((await reader.decisions()).decisions.ids)
    assert outcomes.known.tolist() == [True, False, False, False]
    assert outcomes.labels.tolist() == [True, False, False, False]
    assert outcomes.ambiguous == 2


async def test_fields_are_those_of_the_events_that_are_still_there(broker: BrokerSettings) -> None:
    events = [event(f"event-{number}") for number in range(12)]
    events[11] = Record(b"", b"no event", 5)
    written = {TOPOLOGY.decisions: decisions(3), TOPOLOGY.events: events}
    async with reading(broker, written, 10, 20) as reader:
        recorded = await reader.decisions()
        field = await reader.field("id", recorded.decisions)
    assert field.known.tolist() == [True, False, False]
    names, place = segments_of(PIPELINE, "id", field)
    assert [names[at] for at in place] == ["event-10", "event gone", "event gone"]
