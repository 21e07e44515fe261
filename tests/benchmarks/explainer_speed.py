"""Decisions an explainer explains a second: `python -m tests.benchmarks.explainer_speed`.

And what live decisions notice of it.

card-fraud as its file has it, trained on simulated events, on Apache Kafka in a process of its own.
First its components decide events, then one explainer explains all of these decisions: a second of
its CPU and of the clock. Then events come at a steady rate, and explained is what the file asks for
(declines, reviews and a hundredth of all others): in turns with an explainer and without one; the
latency is what decisions say.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from agents.broker import ensure_topics
from agents.commands import labelled_events
from agents.components.catalogue import open_component
from models.registry.registry import Registry
from models.training.train import train
from tests.benchmarks import broker as benchmark_broker
from tests.benchmarks.processes import cpu_s
from tests.integration.harness import (
    EVERYTHING,
    Trained,
    decisions_of,
    explaining,
    publish,
    settled,
    simulated,
    written,
)
from topics.pipeline import Topology, find_pipeline, load_pipeline
from topics.records import rfc3339_time
from topics.settings import BrokerSettings

_START_S = 12.0
"""So long an explainer may take to begin."""


def trained(home: Path, rows: int) -> Trained:
    """card-fraud as it ships, in *home*."""
    path = Path(shutil.copy(find_pipeline("card-fraud"), home / "card-fraud.yaml"))
    file, registry = load_pipeline(path), Registry(home / "registry")
    data = labelled_events.simulated(file.pipeline, rows=rows, seed=0)
    train(file.pipeline, home, data, registry, open_component=open_component)
    return Trained(home, file, registry)


@contextmanager
def running(
    own: Trained, broker: BrokerSettings, components: Sequence[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with these components."""
    named = [word for name in components for word in ("--component", name)]
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", "run", str(own.file.path), *named],
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": broker.broker},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def simulating(own: Trained, broker: BrokerSettings, rate: float) -> Iterator[None]:
    """Events, and their outcomes, meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", "simulate", str(own.file.path), "--rate", str(rate)],
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": broker.broker},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


async def explained_per_s(own: Trained, broker: BrokerSettings, events: int) -> dict[str, Any]:
    """Decisions explained a second of CPU and of the clock, of so many that were made before."""
    everything = explaining(own, when=["decline", "review", "approve"])
    topic = Topology.of(own.pipeline).explanations
    await ensure_topics(broker, Topology.of(everything.pipeline))
    with running(own, broker, EVERYTHING):
        await publish(broker, own.pipeline, simulated(own.pipeline, events), 2000)
        await settled(broker, own.pipeline, events)
    with running(everything, broker, ["explainer"]) as explainer:
        first = events // 10
        await written(broker, topic, first)
        began, began_cpu_s = time.monotonic(), cpu_s(explainer.pid)
        await written(broker, topic, events)
        took_s, took_cpu_s = time.monotonic() - began, cpu_s(explainer.pid) - began_cpu_s
    return {
        "explained": events - first, "per_cpu_s": round((events - first) / took_cpu_s),
        "per_s": round((events - first) / took_s),
    }  # fmt: skip


async def latencies_ms(own: Trained, broker: BrokerSettings, since: str) -> list[float]:
    """Of the decisions that were made *since* an RFC 3339 time."""
    made: list[Any] = await decisions_of(broker, own.pipeline)
    return [each["latency_ms"] for each in made if each["decided_at"] >= since]


async def live(
    own: Trained, broker: BrokerSettings, rate: float, seconds: float, rounds: int
) -> dict[str, Any]:
    """Each round's p50 and p99 with an explainer and without, and the median of their ratios.

    Simulated events, and their outcomes, come all the time.
    """
    found: dict[str, dict[str, list[float]]] = {"with": {}, "without": {}}
    await ensure_topics(broker, Topology.of(own.pipeline))
    with running(own, broker, EVERYTHING), simulating(own, broker, rate):
        await written(broker, Topology.of(own.pipeline).decisions, int(5 * rate))
        for number in range(rounds):
            for turn in ["with", "without"] if number % 2 else ["without", "with"]:
                beside = running(own, broker, ["explainer"]) if turn == "with" else nullcontext()
                with beside:
                    await asyncio.sleep(_START_S if turn == "with" else 1)
                    since = rfc3339_time(time.time_ns() // 1_000_000)
                    await asyncio.sleep(seconds)
                    took = await latencies_ms(own, broker, since)
                for name, share in (("p50_ms", 50), ("p99_ms", 99)):
                    value = round(float(np.percentile(took, share)), 1)
                    found[turn].setdefault(name, []).append(value)
    ratios = {
        name: [a / b for a, b in zip(found["with"][name], found["without"][name], strict=True)]
        for name in ("p50_ms", "p99_ms")
    }
    return {
        **found,
        "ratio_p50": round(median(ratios["p50_ms"]), 3),
        "ratio_p99": round(median(ratios["p99_ms"]), 3),
    }


def main() -> None:
    """Print one JSON object for each of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=6000, help="0: live only")
    parser.add_argument("--train-rows", type=int, default=150_000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        own = trained(Path(folder), options.train_rows)
        if options.events:
            with benchmark_broker.running(Path(folder) / "kafka") as kafka:
                settings = BrokerSettings(broker=kafka.address)
                explained = asyncio.run(explained_per_s(own, settings, options.events))
                print(json.dumps(explained), flush=True)
        with benchmark_broker.running(Path(folder) / "kafka-live") as kafka:
            settings = BrokerSettings(broker=kafka.address)
            own = explaining(own, when=["decline", "review"])
            noticed = asyncio.run(
                live(own, settings, options.rate, options.seconds, options.rounds)
            )
            print(json.dumps(noticed), flush=True)


if __name__ == "__main__":
    main()
