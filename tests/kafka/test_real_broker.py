"""The card-fraud pipeline on Apache Kafka: what the embedded broker cannot prove."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agents.broker.pipeline_topics import ensure_topics, topic_names
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    publish_raw,
    records_of,
    settled,
    simulated,
    stopped,
    worker_process,
)
from tests.integration.test_bad_input import BAD
from topics.errors import TopicMismatch, TopicNotMade
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings


def _records(values: list[tuple[bytes | None, bytes | None]]) -> list[Record]:
    now_ms = int(time.time() * 1000)
    return [Record(key, value, now_ms) for key, value in values]


async def test_the_whole_pipeline_decides_every_event(own: Trained, broker: BrokerSettings) -> None:
    events = simulated(own.pipeline, 20_000)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events, 5000)
        audit = await settled(broker, own.pipeline, len(events))
    assert audit.passed
    assert audit.total.decided == len(events)
    published = {json.loads(value)["transaction_id"] for _, value in events}
    assert {d["event_id"] for d in await decisions_of(broker, own.pipeline)} == published


async def test_a_stopped_worker_leaves_its_groups_so_that_the_next_starts_at_once(
    own: Trained, broker: BrokerSettings
) -> None:
    # Members that had not left would hold the groups up for their whole session.
    patient = broker.model_copy(update={"session_timeout_s": 290.0, "give_up_s": 300.0})
    async with pipeline_running(own, patient):
        pass
    async with asyncio.timeout(200), pipeline_running(own, patient):
        pass


async def test_an_event_of_2_mb_becomes_a_dead_letter_with_its_original_bytes(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    (before, after) = simulated(own.pipeline, 2)
    large = (b"large", json.dumps({"terminal_id": "x" * 2_000_000}).encode())
    async with pipeline_running(own, broker):
        await publish_raw(broker, topology.events, 1, _records([before, large, after]))
        audit = await settled(broker, own.pipeline, 3)
    assert audit.passed
    assert (audit.total.decided, audit.total.dead) == (2, 1)
    (letter,) = await records_of(broker, topology.dead_letters)
    assert (letter.key, letter.value) == large
    assert dict(letter.headers)["x-error-class"] == b"EventTooLarge"
    assert dict(letter.headers)["x-error-offset"] == b"1"


async def test_a_flood_of_bad_events_ends_in_dead_letters_and_good_ones_are_decided(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    bad = [(key, value) for key, value, error in BAD.values() if error != "EventTooLarge"] * 100
    good = simulated(own.pipeline, len(bad) // 4)
    async with pipeline_running(own, broker):
        for partition in range(4):
            mixed: list[tuple[bytes | None, bytes | None]] = list(bad)
            mixed[::4] = good  # a good event in place of every fourth
            await publish_raw(broker, topology.events, partition, _records(mixed))
        audit = await settled(broker, own.pipeline, 4 * len(bad))
    assert audit.passed
    assert audit.total.decided == 4 * len(good)
    letters = await records_of(broker, topology.dead_letters)
    sources = [(dict(r.headers)["x-error-partition"], dict(r.headers)["x-error-offset"])
               for r in letters]  # fmt: skip
    assert len(set(sources)) == len(sources) == audit.total.dead == 4 * (len(bad) - len(good))


async def test_an_events_topic_that_was_made_anew_is_refused_not_taken_for_the_old_one(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    events = simulated(own.pipeline, 400)
    with worker_process(own, broker) as worker:
        await publish(broker, own.pipeline, events, 4000)
        await settled(broker, own.pipeline, len(events))
        assert await asyncio.to_thread(stopped, worker, signal.SIGTERM) == 0
    await _deleted(broker, topology.events)
    await publish(broker, own.pipeline, events[:100], 4000)
    with worker_process(own, broker) as worker:
        assert await asyncio.to_thread(worker.wait, 60) == 1
    assert len(await records_of(broker, topology.decisions)) == len(events)


async def _deleted(broker: BrokerSettings, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        await asyncio.sleep(1)
    finally:
        await admin.close()


async def test_a_topic_with_another_partition_count_is_refused(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topology.stage("features"), 3, 1)])
    finally:
        await admin.close()
    with pytest.raises(TopicMismatch, match="features has 3 partitions, the pipeline file says 4"):
        await ensure_topics(broker, topology)
    with worker_process(own, broker) as worker:
        assert worker.wait(timeout=30) == 1


async def test_topics_are_told_of_once_they_are_made_and_one_that_cannot_be_made_is_said(
    own: Trained, broker: BrokerSettings
) -> None:
    name = f"{own.pipeline.name}-wide"
    wide = Topology.of(own.pipeline.model_copy(update={"pipeline": name, "partitions": 16}))
    assert set(await ensure_topics(broker, wide)) == set(wide.all)
    assert await topic_names(broker, wide.all) == set(wide.all)
    assert await ensure_topics(broker, wide) == []
    other = Topology.of(own.pipeline.model_copy(update={"pipeline": f"{name}-copied"}))
    with pytest.raises(TopicNotMade, match=f"does not make topic {name}-copied.events: .*eplicat"):
        await ensure_topics(broker, other, replication=3)
