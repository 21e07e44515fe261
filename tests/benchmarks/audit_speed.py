"""Records a second of `anabranch audit`: `python -m tests.benchmarks.audit_speed --events 1000000`.

Apache Kafka in a process of its own, card-fraud's events, and decisions about them as the weighing
agent writes them; every hundredth event has a dead letter instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import uvloop
import yaml
from aiokafka import AIOKafkaProducer

from agents.audit.topic_audit import audit_topics
from agents.broker.reach import ensure_topics
from agents.publish.publisher import producer
from agents.weigh.decision_records import DecisionWriter, Weights
from agents.weigh.decision_rule import Scorer
from tests.benchmarks import broker as benchmark_broker
from tests.benchmarks.micro import RowsOfEvents
from tests.benchmarks.model_files import PIPELINE
from topics.kafka.batches import Record, write_batches
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.records.dead_letter import dead_letter
from topics.records.stage_batch import Failure
from topics.settings import BrokerSettings

_CHUNK = 5_000
_DEAD_EVERY = 100
_LATENCY_MS = 12
_NOW_MS = time.time_ns() // 1_000_000
"""Not the time of the simulated events: the broker would let them expire."""


def _chunk(pipeline_path: Path) -> tuple[RowsOfEvents, DecisionWriter, Scorer]:
    pipeline = load_pipeline(pipeline_path).pipeline
    weights = Weights({"features": 0.1, "risk": 0.3, "decision": 0.6}, 1)
    return (
        RowsOfEvents.of(_CHUNK),
        DecisionWriter(pipeline, weights),
        Scorer(pipeline, weights),
    )


def _decisions(
    rows: RowsOfEvents, writer: DecisionWriter, scale: Scorer, partition: int, first: int
) -> Iterator[Record]:
    """Of one chunk of events whose first has the offset *first*."""
    joined = rows.joined()
    verdict = scale.score(joined)
    offsets = joined.rows.offsets + first
    published_ms = np.full(len(offsets), _NOW_MS - _LATENCY_MS)
    moved = replace(joined, rows=replace(joined.rows, offsets=offsets, published_ms=published_ms))
    decided = np.flatnonzero(offsets % _DEAD_EVERY != 0)
    return writer.records(partition, moved, decided, verdict.weighed, _NOW_MS)


async def filled(settings: BrokerSettings, path: Path, events: int) -> int:
    """Write *events* events and their ends; how many records that are."""
    pipeline = load_pipeline(path).pipeline
    topology = Topology.of(pipeline)
    await ensure_topics(settings, topology)
    rows, writer, scale = _chunk(path)
    written = 0
    async with producer(settings) as kafka:
        for number in range(-(-events // _CHUNK)):
            partition = number % topology.partitions
            first = number // topology.partitions * _CHUNK
            written += await _fill(
                kafka, topology, partition, first, rows,
                _decisions(rows, writer, scale, partition, first),
            )  # fmt: skip
    return written


async def _fill(
    kafka: AIOKafkaProducer, topology: Topology, partition: int, first: int,
    rows: RowsOfEvents, decisions: Iterator[Record],
) -> int:  # fmt: skip
    events = [Record(record.key, record.value, _NOW_MS - _LATENCY_MS) for record in rows.records]
    letters = [
        dead_letter(
            Failure(0, "features", "ValueError", "no such amount"),
            (topology.events, partition, first + at), (event.key, event.value, ()), _NOW_MS,
            published_ms=_NOW_MS - _LATENCY_MS,
        )
        for at, event in enumerate(events)
        if (first + at) % _DEAD_EVERY == 0
    ]  # fmt: skip
    ended = list(decisions)
    await write_batches(kafka, topology.events, partition, events)
    await write_batches(kafka, topology.dead_letters, partition, letters)
    await write_batches(kafka, topology.decisions, partition, ended)
    return len(events) + len(letters) + len(ended)


def audited(settings: BrokerSettings, path: Path) -> tuple[float, dict[str, int]]:
    """Wall time of `anabranch audit`, and its totals."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "agents", "audit", str(path), "--json"],
        stdout=subprocess.PIPE, env={**os.environ, "ANABRANCH_BROKER": settings.broker}, check=True,
    )  # fmt: skip
    return time.perf_counter() - began, json.loads(done.stdout)["total"]


def main() -> None:
    """Fill the topics and audit them a few times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--broker", help="one that runs; without it one is started")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        content = yaml.safe_load(PIPELINE.read_text())
        path = Path(folder) / "pipeline.yaml"
        path.write_text(
            yaml.safe_dump({**content, "pipeline": f"audit-{time.time():.0f}"}, sort_keys=False)
        )
        if given.broker:
            _measure(BrokerSettings(broker=given.broker), path, given.events, given.repeats)
            return
        with benchmark_broker.running(Path(folder) / "kafka") as broker:
            _measure(BrokerSettings(broker=broker.address), path, given.events, given.repeats)


def _measure(settings: BrokerSettings, path: Path, events: int, repeats: int) -> None:
    written = asyncio.run(filled(settings, path, events))
    print(f"{written:,} records written")
    topology = Topology.of(load_pipeline(path).pipeline)
    for _ in range(repeats):
        began, cpu = time.perf_counter(), time.process_time()
        audit = uvloop.run(audit_topics(settings, topology, None))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(
            f"reading alone: {seconds:.2f} s, {written / seconds:,.0f} records/s, "
            f"{written / cpu:,.0f} a CPU second; passed: {audit.passed}"
        )
    seconds, total = audited(settings, path)
    rate = f"{written / seconds:,.0f} records/s"
    print(f"the command: {seconds:.2f} s, {rate}: {total}")


if __name__ == "__main__":
    main()
