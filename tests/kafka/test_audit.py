"""The audit finds what somebody has done to the topics by hand."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord

from agents.auditing import Audit, audit_topics
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    pipeline_running,
    publish_raw,
    records_of,
    settled,
    simulated,
)
from topics.batches import Record
from topics.pipeline import Pipeline
from topics.settings import BrokerSettings
from topics.topology import Topology

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
