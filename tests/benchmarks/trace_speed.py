"""Seconds of `anabranch trace` by coordinates: `python -m tests.benchmarks.trace_speed`.

Apache Kafka in a process of its own, card-fraud's topics with a million events, and of each what
stages, repartitioning and the weighing agent write about it; all within minutes, so that looking
for records by their time alone would read most of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from aiokafka import AIOKafkaProducer

from agents.broker.pipeline_topics import ensure_topics
from agents.publish.publisher import producer
from agents.trace import EventTracer
from agents.weigh.decision_records import DecisionWriter, Weights
from agents.weigh.decision_rule import Scorer
from agents.workers import TailReader
from tests.benchmarks import broker as benchmark_broker
from tests.benchmarks.micro import RowsOfEvents
from tests.integration.harness import simulated
from topics.events import EventDecoder
from topics.kafka.batches import Record, write_batches
from topics.pipeline import Pipeline, Topology, find_pipeline, lane_of, load_pipeline
from topics.records import ModelRef, Rows, Source, StageBatch, encode
from topics.settings import BrokerSettings

_CHUNK = 5_000
_BATCH = 100
"""Rows of a stage batch."""
_LATENCY_MS = 12
_MODEL = ModelRef("benchmark@1", "sha256:00", "fp32")


class RawRecord(NamedTuple):
    """An event as the decoder takes it."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Events:
    """A chunk of events, which is written over and over, and the lane of each."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.topology = pipeline, Topology.of(pipeline)
        self.sample = RowsOfEvents.of(_CHUNK)
        self.joined = self.sample.joined()
        self.published = simulated(pipeline, _CHUNK)
        columns = (
            EventDecoder(pipeline.event)
            .decode([RawRecord(key, value) for key, value in self.published])
            .columns
        )
        self.lanes = {
            name: np.array([
                lane_of(str(entity), pipeline.partitions)
                for entity in columns[pipeline.entity(name)].tolist()
            ])
            for name in self.topology.repartitioned
        }  # fmt: skip

    def rows(self, first: int, now_ms: int) -> Rows:
        """Those of events whose first has the offset *first*."""
        rows = self.joined.rows
        return replace(
            rows, offsets=rows.offsets + first,
            published_ms=np.full(len(rows), now_ms - _LATENCY_MS),
        )  # fmt: skip

    def decisions(self, partition: int, rows: Rows, now_ms: int) -> list[Record]:
        """The decisions about *rows*."""
        weights = Weights({"features": 0.1, "risk": 0.3, "decision": 0.6}, 1)
        weighed = Scorer(self.sample.pipeline, weights).score(self.joined).weighed
        writer = DecisionWriter(self.pipeline, weights)
        joined = replace(self.joined, rows=rows)
        return [*writer.records(partition, joined, np.arange(len(rows)), weighed, now_ms)]

    def stage(self, name: str, partition: int, rows: Rows, now_ms: int) -> list[Record]:
        """Stage batches of *rows*; of a repartitioned component one for each of its lanes."""
        records = []
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            records += [
                _record(self._batch(name, partition, part, lane, start), now_ms)
                for lane in (range(self.topology.partitions) if name in self.lanes else [None])
            ]
        return records

    def keyed(self, name: str, partition: int, rows: Rows, lane: int, now_ms: int) -> list[Record]:
        """What is dealt out of *rows* to one lane of a repartitioned component."""
        return [
            _record(
                replace(self._batch(name, partition, rows[at : at + _BATCH], lane, at), lane=None),
                now_ms,
            )
            for at in range(0, len(rows), _BATCH)
        ]

    def _batch(
        self, name: str, partition: int, part: Rows, lane: int | None, start: int
    ) -> StageBatch:
        mine = np.arange(len(part))
        if lane is not None:
            mine = np.flatnonzero(self.lanes[name][start : start + len(part)] == lane)
        n = len(mine)
        return StageBatch(
            component=name, topic=self.topology.events, partition=partition,
            covers_from=int(part.offsets[0]), covers_to=int(part.offsets[-1]),
            rows=part.picked(mine), present=np.ones(n, np.bool_),
            output=np.zeros((n, 4), np.float32), signal=np.full(n, 0.5, np.float32),
            model=_MODEL, lane=lane,
        )  # fmt: skip


def _record(batch: StageBatch, now_ms: int) -> Record:
    value, headers = encode(batch)
    return Record(None, value, now_ms, headers)


async def _fill(kafka: AIOKafkaProducer, events: Events, partition: int, first: int) -> int:
    """Write one chunk of events, whose first has the offset *first*, and all about it."""
    topology, now_ms = events.topology, time.time_ns() // 1_000_000
    rows = events.rows(first, now_ms)
    written: dict[tuple[str, int], list[Record]] = {
        (topology.events, partition): [
            Record(key, value, now_ms - _LATENCY_MS) for key, value in events.published
        ],
        (topology.decisions, partition): events.decisions(partition, rows, now_ms),
    }
    for name in topology.components:
        written[topology.stage(name), partition] = events.stage(name, partition, rows, now_ms)
    for name in topology.repartitioned:
        for lane in range(topology.partitions):
            written[topology.keyed(name), lane] = events.keyed(name, partition, rows, lane, now_ms)
    for (topic, number), records in written.items():
        await write_batches(kafka, topic, number, records)
    return sum(map(len, written.values()))


async def filled(settings: BrokerSettings, path: Path, events: int) -> int:
    """Write *events* events and what is made of them; how many records that are."""
    pipeline = load_pipeline(path).pipeline
    await ensure_topics(settings, Topology.of(pipeline))
    chunk, partitions, written = Events(pipeline), pipeline.partitions, 0
    async with producer(settings) as kafka:
        for number in range(-(-events // _CHUNK)):
            first = number // partitions * _CHUNK
            written += await _fill(kafka, chunk, number % partitions, first)
    return written


def traced(settings: BrokerSettings, path: Path, word: str) -> float:
    """Wall time of `anabranch trace`, its start included; it has to find all."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "agents", "trace", str(path), word, "--json"],
        stdout=subprocess.PIPE, env={**os.environ, "ANABRANCH_BROKER": settings.broker}, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    told = json.loads(done.stdout)
    if told["state"] != "decided" or told["not_known"]:
        raise RuntimeError(f"all of {word} is there, and was not found: {told}")
    return seconds


async def looked_up(settings: BrokerSettings, path: Path, source: Source) -> float:
    """Seconds of looking alone, on a connection that is there."""
    tail = TailReader(settings)
    await tail.start()
    try:
        began = time.perf_counter()
        await EventTracer(tail, load_pipeline(path).pipeline).trace(source)
        return time.perf_counter() - began
    finally:
        await tail.stop()


def main() -> None:
    """Fill the topics and trace events all over them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, name = Path(folder) / "pipeline.yaml", f"trace-{time.time():.0f}"
        content = yaml.safe_load(find_pipeline("card-fraud").read_text())
        path.write_text(yaml.safe_dump({**content, "pipeline": name}, sort_keys=False))
        pipeline = load_pipeline(path).pipeline
        with benchmark_broker.running(Path(folder) / "kafka") as broker:
            settings = BrokerSettings(broker=broker.address)
            written = asyncio.run(filled(settings, path, given.events))
            print(f"{written:,} records written about {given.events:,} events")
            last = given.events // pipeline.partitions - 1
            offsets = np.linspace(0, last, given.repeats).astype(int).tolist()
            places = [Source(topic=f"{name}.events", partition=1, offset=at) for at in offsets]
            alone = [asyncio.run(looked_up(settings, path, place)) for place in places]
            whole = [traced(settings, path, f"{name}.events/1/{at}") for at in offsets]
    for what, seconds in (("looking alone", alone), ("the command, with its start", whole)):
        print(
            f"by coordinates, {what}: {min(seconds):.2f}-{max(seconds):.2f} s, "
            f"median {statistics.median(seconds):.2f} s"
        )


if __name__ == "__main__":
    main()
