"""Seconds of what-ifs over recorded events: `python -m tests.benchmarks.what_if_speed`.

Apache Kafka in a process of its own, and on card-fraud's topics a million events, what was decided
about them, and outcomes of a quarter. Timed is the whole command, its start included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import yaml

from agents.broker.pipeline_topics import ensure_outcomes_topic, ensure_topics
from agents.join import JoinedRows, StageRows
from agents.join.stage_rows import ModelRun
from agents.publish.publisher import producer
from agents.weigh import DecisionRule, Weights
from models.registry import Registry, WeightsCard
from tests.benchmarks import broker as benchmark_broker
from tests.integration.harness import simulated
from topics.kafka.batches import Record, write_batches
from topics.pipeline import PipelineFile, Topology, find_pipeline, load_pipeline
from topics.records import BytesColumn, ModelRef, Rows, outcome_fields
from topics.settings import BrokerSettings

_CHUNK = 5_000
_LABELLED = 4
"""Of one event in so many it is known what came true."""
_WEIGHTS = (
    {"features": 0.05, "risk-linear": 0.15, "risk-forest": 0.3, "decision": 0.5},
    {"features": 0.1, "risk-linear": 0.1, "risk-forest": 0.4, "decision": 0.4},
)
_POLICY = {"version": 2, "thresholds": {"review": 0.4, "decline": 0.6}}


class Case(NamedTuple):
    """A what-if that is timed."""

    name: str
    words: Sequence[str]


def prepared(home: Path) -> PipelineFile:
    """The pipeline, with two versions of weights in the registry of *home*."""
    content = yaml.safe_load(find_pipeline("card-fraud").read_text())
    content["pipeline"] = f"what-if-{time.time():.0f}"
    path = home / "pipeline.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    file, registry = load_pipeline(path), Registry(home / "registry")
    for values in _WEIGHTS:
        card = WeightsCard(values=values, rows=1, created_at="", metrics={}, models={})
        registry.add_weights(file.pipeline.name, card)
    registry.keep(file.pipeline.name, file.pipeline.policy.content)
    return file


def rows_of(partition: int, first: int, now_ms: int) -> Rows:
    """So many events of a partition."""
    offsets = np.arange(first, first + _CHUNK)
    ids = BytesColumn.of([b"tx-%d-%d" % (partition, offset) for offset in offsets.tolist()])
    times = np.full(_CHUNK, now_ms)
    return Rows(
        offsets, times - 12, times - 500, np.zeros(_CHUNK, np.bool_), ids,
        BytesColumn.of([b"c-1"] * _CHUNK),
    )  # fmt: skip


def decisions_of(
    rule: DecisionRule, partition: int, rows: Rows, rng: np.random.Generator, now_ms: int
) -> list[Record]:
    """Decisions about *rows*, of random signals; one in a hundred lacks a stage."""
    stages = {}
    for name in _WEIGHTS[0]:
        signal, present = rng.random(_CHUNK, np.float32), rng.random(_CHUNK) > 0.0025
        model = ModelRun(0, ModelRef(f"{name}@1", "sha256:" + "0" * 64, "fp32"))
        signal = np.where(present, signal, 0).astype(np.float32)
        stages[name] = StageRows(
            present, signal[:, None], signal, (model,), (), np.ones(_CHUNK, np.bool_)
        )
    joined = JoinedRows(rows, stages, {}, covers_from=int(rows.offsets[0]), unaccounted=0)
    weighed = rule.scorer.score(joined).weighed
    return [*rule.decisions.records(partition, joined, np.arange(_CHUNK), weighed, now_ms)]


async def filled(settings: BrokerSettings, file: PipelineFile, events: int) -> None:
    """Write events, what was decided about them, and outcomes of some."""
    pipeline, topology = file.pipeline, Topology.of(file.pipeline)
    await ensure_topics(settings, topology)
    await ensure_outcomes_topic(settings, topology)
    rule, rng = DecisionRule.of(file, Weights(_WEIGHTS[0], 1)), np.random.default_rng(1)
    published = simulated(pipeline, _CHUNK)
    sample = orjson.loads(published[0][1])
    fields = {name: sample[name] for name in outcome_fields(pipeline)}
    async with producer(settings) as kafka:
        for number in range(-(-events // _CHUNK)):
            partition, now_ms = number % pipeline.partitions, time.time_ns() // 1_000_000
            rows = rows_of(partition, number // pipeline.partitions * _CHUNK, now_ms)
            labelled = [
                orjson.dumps({**fields, pipeline.event.id: event_id.decode(), "outcome": at < 25})
                for at, event_id in enumerate(rows.ids.items()[::_LABELLED])
            ]
            for topic, records in (
                (topology.events, [Record(key, value, now_ms) for key, value in published]),
                (topology.decisions, decisions_of(rule, partition, rows, rng, now_ms)),
                (topology.outcomes, [Record(b"c-1", value, now_ms) for value in labelled]),
            ):
                await write_batches(kafka, topic, partition, records)


class Seconds(NamedTuple):
    """How long a command takes."""

    wall: float
    cpu: float
    """Of its process: on a machine that others use, too, more of the two is told by this one."""


def cpu_s() -> float:
    """Of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(settings: BrokerSettings, home: Path, events: int, case: Case) -> Seconds:
    """The command, its start included; it has to read all."""
    began, cpu = time.perf_counter(), cpu_s()
    done = subprocess.run(
        [sys.executable, "-m", "agents", "replay", str(home / "pipeline.yaml"), *case.words,
         "--json"],
        stdout=subprocess.PIPE, check=True,
        env={**os.environ, "ANABRANCH_BROKER": settings.broker, "ANABRANCH_HOME": str(home)},
    )  # fmt: skip
    seconds = Seconds(time.perf_counter() - began, cpu_s() - cpu)
    report = json.loads(done.stdout)
    if report["events"]["decided"] != events or not report["changed"]:
        raise RuntimeError(f"{case.name}: of {events:,} events it says {report['events']}")
    return seconds


def main() -> None:
    """Fill the topics, and time each what-if."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        file = prepared(home)
        policy = home / "policy.yaml"
        policy.write_text(yaml.safe_dump(_POLICY, sort_keys=False))
        cases = [
            Case("policy", ["--policy", str(policy)]),
            Case("weights", ["--weights", "2"]),
            Case("both, by amount", ["--policy", str(policy), "--weights", "2",
                                     "--segment", "amount"]),
        ]  # fmt: skip
        with benchmark_broker.running(home / "kafka") as broker:
            settings = BrokerSettings(broker=broker.address)
            asyncio.run(filled(settings, file, given.events))
            for case in cases:
                wall, cpu = timed(settings, home, given.events, case)
                print(
                    f"{case.name}: {given.events:,} events in {wall:.1f} s, {cpu:.1f} s of CPU",
                    flush=True,
                )


if __name__ == "__main__":
    main()
