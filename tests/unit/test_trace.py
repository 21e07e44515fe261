"""The way of an event is put together from its records, and shown as a tree."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from aiokafka.structs import ConsumerRecord

from agents.commands.trace_view import lines_of
from agents.explanations.errors import BadCoordinates
from agents.trace import EventSearch, EventTrace, EventTracer
from agents.trace.errors import EventGone, EventNotFound, SeveralEvents
from tests.integration.velocity import EVENT
from tests.unit.stage_batches import batch_of
from tests.unit.test_recorded_event import Tail
from tests.unit.topic_log import record
from topics.pipeline.schema import Pipeline
from topics.records.decision import Source
from topics.records.wire import encode

FILE = """
pipeline: p
partitions: 2
{event}
components:
  - {{name: first, import: "tests.integration.velocity:Half", from: [events]}}
  - {{name: second, import: "tests.integration.velocity:Half", from: [events]}}
  - {{name: third, import: "tests.integration.velocity:Half", from: [first, second]}}
weighting: {{from: [second, third]}}
policy: {{thresholds: {{decline: 0.5}}}}
"""


def pipeline() -> Pipeline:
    return Pipeline.model_validate(yaml.safe_load(FILE.format(event=EVENT)))


def event(offset: int, event_id: str, at_ms: int) -> ConsumerRecord:
    value = json.dumps({"transaction_id": event_id}).encode()
    return record("p.events", offset, value, published_ms=at_ms)


def stage(name: str, at_ms: int, **given: Any) -> ConsumerRecord:
    value, headers = encode(batch_of(name, [0, 1, 2], **given))
    return record(f"p.{name}", 0, value, published_ms=at_ms, headers=headers)


def decision() -> ConsumerRecord:
    share = {"signal": 0.001, "weight": 1.0, "contribution": 0.001, "model": "second@1",
             "digest": "sha256:00", "variant": "fp32"}  # fmt: skip
    value = {
        "event_id": "b", "pipeline": "p", "decision": "approve", "score": 0.001,
        "contributions": {"second": share}, "degraded": True, "missing": ["third"],
        "missing_because": {"third": "failed"}, "weights": 1, "policy": "p@1",
        "source": {"topic": "p.events", "partition": 0, "offset": 1},
        "event_time": "1970-01-01T00:00:00Z", "decided_at": "1970-01-01T00:00:01Z",
        "latency_ms": 980,
    }  # fmt: skip
    headers = [("ce_id", b"p.events/0/1")]
    return record("p.decisions", 0, json.dumps(value).encode(), published_ms=1000, headers=headers)


def tail_with(*records: ConsumerRecord) -> Tail:
    tail = Tail()
    tail.write([event(0, "a", 10), event(1, "b", 20), event(2, "é", 30), event(3, "a", 40)])
    for each in records:
        tail.write([each])
    return tail


PLACE = Source(topic="p.events", partition=0, offset=1)


async def traced(*records: ConsumerRecord) -> EventTrace:
    tracer = EventTracer(tail_with(*records), pipeline())  # type: ignore[arg-type]
    return await tracer.trace(PLACE)


async def test_times_are_those_between_the_records_of_a_hop_and_of_its_inputs() -> None:
    trace = await traced(
        stage("first", 50), stage("second", 80), stage("third", 95, absent=[1]), decision()
    )
    (attempt,) = trace.attempts
    first, second, third = attempt.hops
    assert (first.after, first.in_join_ms, first.queued_and_computed_ms) == ("events", None, 30)
    assert second.contribution == 0.001
    assert (third.after, third.in_join_ms, third.queued_and_computed_ms) == ("second", 30, 15)
    assert (third.signal, third.missing) == (None, "failed")
    assert third.failure is not None
    assert third.failure.error == "ValueError"
    end = attempt.end
    assert end is not None
    assert end.kind == "decision"
    assert (end.after, end.in_join_ms, end.queued_and_computed_ms) == ("third", 15, 905)
    assert (trace.state, trace.waits_for, trace.not_known) == ("decided", [], [])


async def test_a_tree_hangs_each_hop_below_the_input_that_came_last() -> None:
    trace = await traced(
        stage("first", 50), stage("second", 80), stage("third", 95, absent=[1]), decision()
    )
    lines = [*lines_of(trace)]
    heads = [
        line for line in lines if " p." in line and "sha256" not in line and "policy" not in line
    ]
    assert [line.split("  p.")[0] for line in heads] == [
        "  first", "  second", "    third", "      approve",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 80
    assert any(line.strip() == "without third (failed)" for line in lines)


async def test_an_event_in_flight_waits_for_who_has_all_that_they_read() -> None:
    trace = await traced(stage("first", 50))
    assert (trace.state, trace.waits_for) == ("in flight", ["second"])
    trace = await traced(stage("first", 50), stage("second", 80), stage("third", 95))
    assert trace.waits_for == ["weigh"]
    assert [*lines_of(trace)][-1] == "waits for weigh"


async def test_what_retention_has_taken_is_said() -> None:
    tail = tail_with(stage("first", 50), stage("second", 80), decision())
    for tp in tail.records:
        if tp.topic == "p.events":
            tail.first[tp] = 3
    trace = await EventTracer(tail, pipeline()).trace(PLACE)  # type: ignore[arg-type]
    assert trace.published is None
    assert [sentence.split(" ")[0] for sentence in trace.not_known] == ["the", "p.third"]
    gone = PLACE.model_copy(update={"offset": 2})
    with pytest.raises(EventGone, match=r"p.events/0/2 is gone by retention .* begins at 3"):
        await EventTracer(tail, pipeline()).trace(gone)  # type: ignore[arg-type]


class SearchedTail(Tail):
    """A tail that is also read backwards."""

    async def backwards(self, topic: str, partition: int) -> Any:
        first, end = await self.bounds(topic, partition)
        for start in range(end - 1, first - 1, -1):
            yield start, start + 1

    async def between_chunks(self, topic: str, partition: int, start: int, end: int) -> Any:
        self.records_read += end - start
        yield await self.between(topic, partition, start, end)


async def test_ids_are_looked_for_the_newest_first_and_have_to_be_unique() -> None:
    tail = SearchedTail()
    tail.records, tail.end = tail_with(decision()).records, tail_with(decision()).end
    search = EventSearch(tail, pipeline())  # type: ignore[arg-type]
    told: list[tuple[int, int]] = []

    async def find(word: str) -> Source:
        return await search.find(word, None, lambda done, total: told.append((done, total)))

    assert await find("b") == PLACE
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (await find("é")).offset == 2
    assert await find("p.decisions/0/0") == PLACE
    with pytest.raises(SeveralEvents, match="2 events have the id 'a'") as several:
        await find("a")
    assert [line.split()[0] for line in several.value.lines[1:]] == ["p.events/0/3", "p.events/0/0"]
    with pytest.raises(EventNotFound, match="no event with the id 'c': 4 events were looked at"):
        await find("c")
    with pytest.raises(BadCoordinates, match="2 partitions"):
        await find("p.events/2/0")
    tail.write([stage("first", 50)])
    with pytest.raises(BadCoordinates, match=r"name the record on p\.events, p\.decisions or"):
        await find("p.first/0/0")
