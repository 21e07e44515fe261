"""Exports from Apache Kafka: killed, behind retention, and of a compacted topic."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from agents.broker.pipeline_topics import ensure_topics
from tests.integration.harness import Trained, publish_raw
from tests.integration.test_cli import anabranch
from tests.kafka.test_audit import compacted
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

EVENTS, HOUR_MS = 24_000, 3_600_000


def rows_in(folder: Path) -> list[dict[str, Any]]:
    lake = ds.dataset(folder, format="parquet", partitioning="hive")
    rows: list[dict[str, Any]] = lake.to_table().to_pylist()
    return rows


async def exported(own: Trained, broker: BrokerSettings, topic: str, folder: Path) -> Any:
    done = await asyncio.to_thread(
        anabranch, own, "export", topic, "-o", str(folder), "--pipeline", str(own.file.path),
        "--broker", broker.broker, "--json", broker="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def written(broker: BrokerSettings, topic: str, partition: int, count: int) -> None:
    """So many records, of three hours; none of them is an event."""
    now_ms = int(time.time() * 1000)
    await publish_raw(broker, topic, partition, [
        Record(b"%d" % (at % 50), b'{"at": %d}' % at, now_ms - at % 3 * HOUR_MS)
        for at in range(count)
    ])  # fmt: skip


async def test_each_record_is_in_the_lake_once_though_exports_are_killed_and_records_deleted(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    topology, lake = Topology.of(own.pipeline), tmp_path / "lake"
    await ensure_topics(broker, topology)
    topic = topology.dead_letters
    for partition in range(topology.partitions):
        await written(broker, topic, partition, EVENTS // topology.partitions)
    command = [
        sys.executable, "-m", "agents", "export", topic, "-o", str(lake),
        "--pipeline", str(own.file.path), "--broker", broker.broker,
    ]  # fmt: skip
    seen = 0
    for _ in range(12):  # killed as soon as there is more than before
        with subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if (now := len([*lake.glob("**/*.parquet")])) > seen:
                    seen = now
                    process.send_signal(signal.SIGKILL)
                    break
                await asyncio.sleep(0.005)
    await exported(own, broker, topic, lake)
    places = Counter((row["record_partition"], row["record_offset"]) for row in rows_in(lake))
    each = range(EVENTS // topology.partitions)
    assert places == {(p, at): 1 for p in range(topology.partitions) for at in each}

    for partition in range(topology.partitions):
        await written(broker, topic, partition, 100)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        behind = len(each) + 40
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(behind)})
    finally:
        await admin.close()
    summary = await exported(own, broker, topic, lake)
    assert summary["gone"] == {"0": 40}
    assert summary["records"] == 100 * topology.partitions - 40
    assert len(rows_in(lake)) == EVENTS + summary["records"]


async def test_a_compacted_topic_is_exported_with_its_gaps_and_none_is_called_lost(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    topology, lake = Topology.of(own.pipeline), tmp_path / "lake"
    await ensure_topics(broker, topology)
    topic = topology.reports
    await written(broker, topic, 0, 2_000)
    await compacted(broker, topic)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        await written(broker, topic, 0, 50)  # a new segment, so that the old one is cleaned
        summary = await exported(own, broker, topic, tmp_path / f"try-{time.monotonic():.0f}")
        if summary["records"] < 2_000:
            break
    assert summary["records"] < 2_000, "the broker has not compacted"
    first = await exported(own, broker, topic, lake)
    assert first["gone"] == {}
    offsets = [row["record_offset"] for row in rows_in(lake)]
    assert len(set(offsets)) == len(offsets) == first["records"]
    await written(broker, topic, 0, 50)
    again = await exported(own, broker, topic, lake)
    assert again["gone"] == {}
    assert again["records"] <= 50
