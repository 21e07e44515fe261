"""The audit finds what somebody has done to the topics by hand."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.audit.topic_audit import Audit, audit_topics
from agents.broker.pipeline_topics import ensure_topics
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    pipeline_running,
    publish_raw,
    records_of,
    settled,
    simulated,
)
from tests.integration.test_audit import ends, running_audits_agree
from topics.kafka.batches import Record
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

EVENTS = 400


@pytest.fixture
async def decided(own: Trained, broker: BrokerSettings) -> Topology:
    """A pipeline whose events are all decided; every event has a key of its own."""
    topology = Topology.of(own.pipeline)
    values = [value for _, value in simulated(own.pipeline, EVENTS)]
    now_ms = int(time.time() * 1000)
    async with pipeline_running(own, broker):
        for partition in range(topology.partitions):
            records = [
                Record(f"{partition}-{at}".encode(), value, now_ms)
                for at, value in enumerate(values[partition :: topology.partitions])
            ]
            await publish_raw(broker, topology.events, partition, records)
        audit = await settled(broker, own.pipeline, EVENTS)
    assert audit.passed
    return topology


async def compacted(broker: BrokerSettings, topic: str) -> None:
    """Let the broker drop what a later record of the same key replaces, as soon as it can."""
    configs = {
        "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01",
    }  # fmt: skip
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
    finally:
        await admin.close()


def tombstone(key: bytes) -> Record:
    return Record(key, None, int(time.time() * 1000))


async def audited(broker: BrokerSettings, pipeline: Pipeline) -> Audit:
    return await audit_topics(broker, Topology.of(pipeline), None)


def of_offset(records: list[ConsumerRecord], partition: int, offset: int) -> ConsumerRecord:
    """The decision about a source record."""
    (found,) = (
        record for record in records if record.partition == partition
        and json.loads(record.value)["source"]["offset"] == offset
    )  # fmt: skip
    return found


async def test_a_decision_that_is_copied_by_hand_is_a_duplicate(
    own: Trained, broker: BrokerSettings, decided: Topology
) -> None:
    record = of_offset(await records_of(broker, decided.decisions), 2, 7)
    copy = Record(record.key, record.value, record.timestamp, list(record.headers))
    await publish_raw(broker, decided.decisions, 2, [copy])
    audit = await audited(broker, own.pipeline)
    assert not audit.passed
    assert audit.partitions[2].duplicated == audit.total.duplicated == 1
    assert audit.total.lost == 0


async def test_a_decision_that_is_deleted_by_hand_is_lost(
    own: Trained, broker: BrokerSettings, decided: Topology
) -> None:
    record = of_offset(await records_of(broker, decided.decisions), 1, 5)
    await compacted(broker, decided.decisions)
    await publish_raw(broker, decided.decisions, 1, [tombstone(record.key)])
    deadline = time.monotonic() + PATIENCE_S
    while not (audit := await audited(broker, own.pipeline)).total.lost:
        assert time.monotonic() < deadline, "the broker has not deleted the record"
        # The segment that is being written is not compacted: go on to another one.
        await publish_raw(broker, decided.decisions, 1, [tombstone(b"other")])
        await asyncio.sleep(1)
    assert not audit.passed
    assert audit.partitions[1].lost == audit.total.lost == 1
    assert audit.total.duplicated == 0
    assert audit.total.decided == EVENTS - 1
    (problem,) = audit.problems
    assert f"{decided.decisions} is compacted (cleanup.policy=compact)" in problem


async def trimmed(broker: BrokerSettings, topic: str, partition: int, first: int) -> None:
    """Have the broker delete what is before offset *first*, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(topic, partition): RecordsToDelete(before_offset=first)}
        )
    finally:
        await admin.close()


async def published(
    broker: BrokerSettings, own: Trained, count: int, *, partitions: int = 4, valid: bool = True
) -> None:
    """Publish events, as many on each partition."""
    values = [value for _, value in simulated(own.pipeline, count)]
    now_ms = int(time.time() * 1000)
    for partition in range(partitions):
        records = [
            Record(f"{partition}-{at}".encode(), value if valid else b"{}", now_ms)
            for at, value in enumerate(values[partition::partitions])
        ]
        await publish_raw(broker, Topology.of(own.pipeline).events, partition, records)


@pytest.mark.parametrize("valid", [True, False])
async def test_events_that_are_deleted_ahead_of_the_reader_fail_the_audit(
    own: Trained, broker: BrokerSettings, *, valid: bool
) -> None:
    topology = Topology.of(own.pipeline)
    await ensure_topics(broker, topology)
    await published(broker, own, EVENTS, valid=valid)
    await trimmed(broker, topology.events, 1, 30)
    async with pipeline_running(own, broker):
        audit = await settled(broker, own.pipeline, EVENTS - 30)
    audit = await audited(broker, own.pipeline)
    assert not audit.passed
    assert audit.partitions[1].expired_unread == audit.total.expired_unread == 30
    assert audit.total.decided + audit.total.dead == EVENTS - 30
    assert (audit.total.lost, audit.total.unjudged, audit.problems) == (0, 0, ())


async def test_events_that_are_deleted_while_the_pipeline_is_down_fail_the_audit(
    own: Trained, broker: BrokerSettings, decided: Topology
) -> None:
    """Also before anything behind them is decided: nobody has read them."""
    await published(broker, own, EVENTS)
    await trimmed(broker, decided.events, 3, EVENTS // 4 + 20)
    audit = await audited(broker, own.pipeline)
    assert not audit.passed
    assert audit.partitions[3].expired_unread == audit.total.expired_unread == 20
    assert audit.partitions[3].expired == EVENTS // 4, "those have their decisions"
    assert audit.total.in_flight == EVENTS - 20


async def test_events_that_expire_after_their_decision_are_no_loss(
    own: Trained, broker: BrokerSettings, decided: Topology
) -> None:
    for partition in range(4):
        await trimmed(broker, decided.events, partition, EVENTS // 4)
    audit = await audited(broker, own.pipeline)
    assert audit.passed
    assert (audit.total.inputs, audit.total.expired) == (0, EVENTS)
    assert (audit.total.unjudged, audit.notes) == (0, ())


async def test_what_has_lost_its_decision_to_retention_is_not_judged(
    own: Trained, broker: BrokerSettings, decided: Topology
) -> None:
    await trimmed(broker, decided.decisions, 2, 40)
    await trimmed(broker, decided.events, 2, 10)
    audit = await audited(broker, own.pipeline)
    assert audit.passed
    assert audit.partitions[2].unjudged == audit.total.unjudged == 40
    assert audit.total.decided == EVENTS - 40
    assert "40 offsets cannot be judged" in audit.notes[0]


async def test_partitions_that_are_added_fail_the_audit(
    own: Trained, broker: BrokerSettings, decided: Topology
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        await admin.create_partitions({decided.events: NewPartitions(total_count=6)})
    finally:
        await admin.close()
    records = [Record(b"k", b"{}", int(time.time() * 1000))] * 7
    for partition in (4, 5):
        await publish_raw(broker, decided.events, partition, records)
    audit = await audited(broker, own.pipeline)
    assert not audit.passed
    assert audit.total.in_flight == 14
    assert (audit.partitions[4].in_flight, audit.partitions[5].in_flight) == (7, 7)
    (problem,) = audit.problems
    assert problem.startswith(f"{decided.events} has 6 partitions, the pipeline file says 4")


@pytest.mark.parametrize("anew", [EVENTS // 2, 2 * EVENTS])
async def test_an_events_topic_that_is_made_anew_fails_the_audit_however_it_has_grown(
    own: Trained, broker: BrokerSettings, decided: Topology, anew: int
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        await admin.delete_topics([decided.events])
        until = time.monotonic() + PATIENCE_S
        while decided.events in await admin.list_topics():
            assert time.monotonic() < until, "the broker has not deleted the topic"
            await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await ensure_topics(broker, decided)
    await published(broker, own, anew)
    audit = await audited(broker, own.pipeline)
    assert not audit.passed
    assert len(audit.problems) >= 4, "one of each partition"
    assert all("made anew" in problem for problem in audit.problems)


async def test_transactions_are_audited_as_readers_of_committed_records_see_them(
    own: Trained, broker: BrokerSettings
) -> None:
    """Markers and aborted events are no records; where they have expired nobody can say."""
    topology = Topology.of(own.pipeline)
    await ensure_topics(broker, topology)
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.addresses, transactional_id=f"{topology.pipeline}-test"
    )
    (_, event), *_ = simulated(own.pipeline, 1)
    await producer.start()
    try:
        for aborted in (False, True, False):
            await producer.begin_transaction()
            for _ in range(5):
                await producer.send_and_wait(topology.events, event, partition=0)
            await (producer.abort_transaction() if aborted else producer.commit_transaction())
    finally:
        await producer.stop()
    assert (await audited(broker, own.pipeline)).total.in_flight == 10
    await publish_raw(broker, topology.decisions, 0, ends(topology, [*range(5), *range(12, 17)]))
    audit = await audited(broker, own.pipeline)
    assert audit.passed
    assert (audit.total.inputs, audit.total.decided, audit.total.unjudged) == (10, 10, 0)
    await trimmed(broker, topology.events, 0, 13)
    audit = await audited(broker, own.pipeline)
    assert (audit.total.inputs, audit.total.expired, audit.total.unjudged) == (4, 6, 7)
    assert audit.passed
    assert "transactions' markers" in audit.notes[0]


async def test_running_audits_that_start_beside_a_stream_say_what_an_audit_says(
    own: Trained, broker: BrokerSettings
) -> None:
    await running_audits_agree(own, broker)
