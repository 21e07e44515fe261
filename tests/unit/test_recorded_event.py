"""What was recorded of a decided event is found on the topics, as the joins have seen it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiokafka.structs import ConsumerRecord

from agents.explanations.deciding_functions import model_of, version_of
from agents.explanations.errors import BadCoordinates, DecisionNotFound, OutputGone
from agents.explanations.recorded_event import DecisionArchive
from models.registry.registry import Registry
from tests.unit.registry_cards import CARD
from tests.unit.stage_batches import batch_of
from tests.unit.topic_log import TopicLog, record
from topics.pipeline.topology import Topology
from topics.records.stage_batch import ModelRef, StageBatch
from topics.records.wire import encode

TOPOLOGY = Topology("p", ("features", "terminals", "risk"), 2, repartitioned=("terminals",))
CHALLENGER = ModelRef("features@2", "sha256:02", "fp32")


class Tail(TopicLog):
    """A tail that is read from the beginning, as the embedded broker's is."""

    records_read = 0

    async def since(self, topic: str, partition: int, _time_ms: int) -> int:
        first, _ = await self.bounds(topic, partition)
        return first

    async def chunks(
        self, topic: str, partition: int, start: int
    ) -> AsyncGenerator[list[ConsumerRecord]]:
        _, end = await self.bounds(topic, partition)
        for each in await self.between(topic, partition, start, end):
            self.records_read += 1
            yield [each]


def archive_of(tail: Tail) -> DecisionArchive:
    return DecisionArchive(tail, TOPOLOGY)  # type: ignore[arg-type]  # as far as it is asked


def decision(offset: int, at: int, *, first: int = 0) -> ConsumerRecord:
    value: dict[str, Any] = {
        "event_id": f"event-{offset}", "pipeline": "p", "decision": "approve", "score": 0.5,
        "contributions": {}, "degraded": False, "missing": [], "weights": 1, "policy": "p@1",
        "source": {"topic": "p.events", "partition": 0, "offset": offset},
        "event_time": "2026-01-31T12:00:00Z", "decided_at": "2026-01-31T12:00:01Z",
        "latency_ms": 10,
    }  # fmt: skip
    headers = [("ce_id", b"p.events/0/%d" % offset)]
    return record("p.decisions", first + at, json.dumps(value).encode(), headers=headers)


def stage(name: str, *batches: StageBatch) -> list[ConsumerRecord]:
    records = []
    for at, batch in enumerate(batches):
        value, headers = encode(batch)
        records.append(record(f"p.{name}", at, value, headers=headers))
    return records


def tail_with(*records: ConsumerRecord) -> Tail:
    tail = Tail()
    tail.write(record("p.events", offset, b"{}") for offset in range(10))
    tail.write(decision(offset, at) for at, offset in enumerate(range(3, 9)))
    tail.write(records)
    return tail


async def test_an_event_is_found_by_its_coordinates_those_of_its_decision_and_its_id() -> None:
    archive = archive_of(tail_with())
    by_event = await archive.find("p.events/0/5")
    assert by_event.decision.event_id == "event-5"
    assert by_event.attempt == 1
    assert await archive.find("p.decisions/0/2") == by_event
    assert await archive.find("event-5") == by_event


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("p.events/0/10", BadCoordinates, "the topic ends before 10"),
        ("p.events/2/0", BadCoordinates, "2 partitions"),
        ("p.decisions/0/6", BadCoordinates, "not written yet: the topic ends before 6"),
        ("p.features/0/1", BadCoordinates, "name the record on p.events or p.decisions"),
        ("p.events/0/1", DecisionNotFound, "a dead letter .* kept from offset 0 of partition 0"),
        ("other.events/0/5", DecisionNotFound, "an event with the id 'other.events/0/5'"),
        ("event-1", DecisionNotFound, "6 decisions were looked at"),
    ],
)
async def test_what_is_not_there_is_said_with_where_it_might_be(
    word: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await archive_of(tail_with()).find(word)


async def test_what_is_gone_by_retention_is_said_to_be() -> None:
    tail = tail_with()
    for tp in tail.records:
        tail.first[tp] = 4
    with pytest.raises(DecisionNotFound, match=r"gone by retention \(p.events begins at 4 "):
        await archive_of(tail).find("p.events/0/3")
    with pytest.raises(BadCoordinates, match="gone by retention: the topic begins at 4"):
        await archive_of(tail).find("p.decisions/0/2")
    archive = archive_of(tail)
    with pytest.raises(OutputGone, match=r"p.risk no longer has what risk said of p.events/0/7"):
        await archive.outputs(await archive.find("p.events/0/7"), ["risk"])


async def test_the_first_row_that_a_component_has_written_counts() -> None:
    first, again = batch_of("features", [4, 5, 6]), batch_of("features", [5, 6, 7])
    nothing = replace(batch_of("features", [], covers_from=0), covers_to=3)
    written_again = replace(again, signal=again.signal + np.float32(0.25))
    archive = archive_of(tail_with(*stage("features", nothing, first, written_again)))
    outputs = await archive.outputs(await archive.find("event-6"), ["features"])
    assert outputs["features"].signal.tolist() == pytest.approx([0.006])
    outputs = await archive.outputs(await archive.find("event-7"), ["features"])
    assert outputs["features"].signal.tolist() == pytest.approx([0.257])


async def test_a_row_of_a_repartitioned_component_may_be_in_any_lane() -> None:
    lanes = [
        replace(batch_of("terminals", [3, 6, 9]), lane=0),
        replace(batch_of("terminals", [4, 5]), lane=1),
    ]
    archive = archive_of(tail_with(*stage("terminals", *lanes)))
    outputs = await archive.outputs(await archive.find("event-5"), ["terminals"])
    assert outputs["terminals"].rows.offsets.tolist() == [5]


async def test_a_row_is_of_the_model_that_has_made_it() -> None:
    batch = replace(
        batch_of("features", [4, 5]), challenger=CHALLENGER, challenged=np.array([False, True])
    )
    archive = archive_of(tail_with(*stage("features", batch)))
    made_by = {}
    for event_id in ("event-4", "event-5"):
        rows = await archive.outputs(await archive.find(event_id), ["features"])
        made_by[event_id] = model_of(rows["features"])
    assert made_by == {"event-4": batch.model, "event-5": CHALLENGER}


def test_a_model_is_known_by_its_digest_whatever_its_number(tmp_path: Any) -> None:
    registry = Registry(tmp_path)
    first, second = (registry.add("p", "risk", content, CARD) for content in (b"1", b"2"))
    named = ModelRef("risk@1", first.digest, "fp32")
    assert version_of(registry, "p", "risk", named) == first
    assert version_of(registry, "p", "risk", named._replace(digest=second.digest)) == second
    assert version_of(registry, "p", "risk", named._replace(digest="sha256:none")) is None
    assert version_of(registry, "p", "nobody", named) is None
