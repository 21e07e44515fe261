"""Rows a second and memory of data sets and exports: `python -m tests.benchmarks.dataset_speed`.

Apache Kafka in a process of its own, and on card-fraud's topics events, what every stage said of
them, what was decided, and outcomes of a quarter. Timed are whole commands, their start included:
`dataset` over a tenth of the events and over all, so that memory shows whether it grows with them,
and `export` of decisions and of a stage.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.publish.publisher import producer
from models.features import FeatureVector
from tests.benchmarks import broker as benchmark_broker
from tests.benchmarks.what_if_speed import _CHUNK, cpu_s, filled, prepared, rows_of
from topics.kafka.batches import Record, write_batches
from topics.pipeline import Pipeline, Topology
from topics.records import ModelRef, StageBatch, encode
from topics.settings import BrokerSettings


class Cost(NamedTuple):
    """What a command takes."""

    rows: int
    wall_s: float
    cpu_s: float
    most_mib: float
    """The largest resident set of any command so far: cases ascend in size."""

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows in {self.wall_s:.1f} s, {self.cpu_s:.1f} s of CPU "
            f"({self.rows / self.cpu_s:,.0f} a CPU second), {self.most_mib:.0f} MiB at most"
        )


def stage_batches(
    pipeline: Pipeline, partition: int, first: int, rng: np.random.Generator, now_ms: int
) -> Iterator[tuple[str, StageBatch]]:
    """What each component said of so many events; one in lanes has them all in its first."""
    topology, rows = Topology.of(pipeline), rows_of(partition, first, now_ms)
    n = len(rows)
    for spec in pipeline.components:
        width = 1 if spec.features is None else len(FeatureVector(spec.features).names)
        laned = pipeline.is_repartitioned(spec.name)
        for lane in range(pipeline.partitions) if laned else [None]:
            own = rows if not lane else rows[0:0]
            output = rng.random((len(own), width))
            yield topology.stage(spec.name), StageBatch(
                component=spec.name, topic=topology.events, partition=partition, covers_from=first,
                rows=own, present=np.ones(len(own), np.bool_), output=output,
                signal=output[:, 0].astype(np.float32),
                model=ModelRef(f"{spec.name}@1", "sha256:" + "0" * 64, "fp32"), lane=lane,
                covers_to=first + n - 1,
            )  # fmt: skip


async def stages_filled(settings: BrokerSettings, pipeline: Pipeline, events: int) -> None:
    """Write the stage batches of as many events."""
    rng = np.random.default_rng(2)
    async with producer(settings) as kafka:
        for number in range(-(-events // _CHUNK)):
            partition, now_ms = number % pipeline.partitions, time.time_ns() // 1_000_000
            first = number // pipeline.partitions * _CHUNK
            for topic, batch in stage_batches(pipeline, partition, first, rng, now_ms):
                value, headers = encode(batch)
                await write_batches(kafka, topic, partition, [Record(None, value, now_ms, headers)])


def measured(settings: BrokerSettings, home: Path, *words: str) -> Cost:
    """A command, its start included."""
    began, cpu = time.perf_counter(), cpu_s()
    done = subprocess.run(
        [sys.executable, "-m", "agents", *words, "--json"], stdout=subprocess.PIPE, check=True,
        env={**os.environ, "ANABRANCH_BROKER": settings.broker, "ANABRANCH_HOME": str(home)},
    )  # fmt: skip
    wall, used = time.perf_counter() - began, cpu_s() - cpu
    most_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return Cost(json.loads(done.stdout)["rows"], wall, used, most_kib / 1024)


def main(words: Sequence[str] | None = None) -> None:
    """Fill the topics, and measure each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        file = prepared(home)
        topology, path = Topology.of(file.pipeline), str(home / "pipeline.yaml")
        with benchmark_broker.running(home / "kafka") as broker:
            settings = BrokerSettings(broker=broker.address)
            asyncio.run(filled(settings, file, given.events))
            asyncio.run(stages_filled(settings, file.pipeline, given.events))
            tenth = given.events // 10 // file.pipeline.partitions
            until = [word for p in range(file.pipeline.partitions)
                     for word in ("--to", f"{p}/{tenth}")]  # fmt: skip
            output = ("-o", str(home / "rows.parquet"), "--force", "--immature")
            for name, asked in (
                ("data set, a tenth", ("dataset", path, *output, *until)),
                ("data set, all", ("dataset", path, *output)),
                ("export of decisions", ("export", topology.decisions, "--pipeline", path,
                                         "-o", str(home / "decisions"))),
                ("export of features", ("export", topology.stage("features"), "--pipeline", path,
                                        "-o", str(home / "features"))),
            ):  # fmt: skip
                print(f"{name}: {measured(settings, home, *asked)}", flush=True)


if __name__ == "__main__":
    main()
