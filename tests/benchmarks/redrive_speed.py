"""Redriven events a second, and what live events notice: `-m tests.benchmarks.redrive_speed`.

Apache Kafka, and card-fraud as it ships in one process of its own. First the pipeline is idle; then
events flow, and their latency is taken from a plain consumer of the decisions: from when an event
was handed to the producer to when its decision was read, without redriven events and beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.benchmarks import broker as benchmark_broker
from tests.integration.harness import (
    Trained,
    pipeline_running,
    publish_raw,
    settled,
    simulated,
    trained_small,
    worker_process,
)
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.records.dead_letter import dead_letter
from topics.records.decision import ATTEMPT_HEADER
from topics.records.stage_batch import Failure
from topics.settings import BrokerSettings

_PARTITION = 2
_BEFORE_S = 20.0


async def dead(own: Trained, settings: BrokerSettings, count: int, first: int, seed: int) -> None:
    """Write *count* events to a partition that has *first* records, and their dead letters."""
    topology, now_ms = Topology.of(own.pipeline), int(time.time() * 1000)
    events = [Record(*each, now_ms) for each in simulated(own.pipeline, count, seed)]
    letters = [
        dead_letter(
            Failure(0, "features", "ArithmeticError", "no such amount"),
            (topology.events, _PARTITION, first + row), (event.key, event.value, ()), now_ms,
            published_ms=now_ms,
        )
        for row, event in enumerate(events)
    ]  # fmt: skip
    await publish_raw(settings, topology.dead_letters, _PARTITION, letters)
    await publish_raw(settings, topology.events, _PARTITION, events)


async def redriven(own: Trained, settings: BrokerSettings) -> tuple[int, float]:
    """Run the command at its defaults: how many it redrove, and the seconds it took."""
    began = time.perf_counter()
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agents", "dead-letters", "redrive", str(own.file.path), "--json",
        stdout=subprocess.PIPE,
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": settings.broker},
    )  # fmt: skip
    answer, _ = await command.communicate()
    return json.loads(answer)["redriven"], time.perf_counter() - began


class LiveEvents:
    """Events at a steady rate, and when each was published and its decision read."""

    def __init__(self, own: Trained, settings: BrokerSettings, rate: float) -> None:
        self._own, self._settings, self._rate = own, settings, rate
        self._published: dict[str, float] = {}
        self._latencies: list[tuple[float, float]] = []
        """When an event was published, and seconds to its decision."""

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """While inside, events flow."""
        tasks = [asyncio.create_task(self._publish()), asyncio.create_task(self._read())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def p50_ms(self, start: float, end: float) -> float:
        """The median latency of events that were published in that time (monotonic)."""
        return 1000 * median(took for at, took in self._latencies if start <= at < end)

    async def _publish(self) -> None:
        topic = Topology.of(self._own.pipeline).events
        async with AIOKafkaProducer(bootstrap_servers=self._settings.broker) as producer:
            due = time.monotonic()
            for key, value in simulated(self._own.pipeline, 100_000, seed=11):
                due += 1 / self._rate
                await asyncio.sleep(due - time.monotonic())
                self._published[json.loads(value)["transaction_id"]] = time.monotonic()
                await producer.send(topic, value, key)

    async def _read(self) -> None:
        topic = Topology.of(self._own.pipeline).decisions
        async with AIOKafkaConsumer(
            topic, bootstrap_servers=self._settings.broker, auto_offset_reset="latest"
        ) as consumer:
            async for record in consumer:
                if ATTEMPT_HEADER in dict(record.headers):
                    continue
                event_id = json.loads(record.value)["event_id"]
                if (at := self._published.pop(event_id, None)) is not None:
                    self._latencies.append((at, time.monotonic() - at))


async def measure(settings: BrokerSettings, own: Trained, letters: int, rate: float) -> None:
    """Redrive *letters* twice: alone, and beside *rate* events a second."""
    async with pipeline_running(own, settings):
        pass  # makes the topics
    await dead(own, settings, letters, 0, seed=1)
    with worker_process(own, settings):
        await settled(settings, own.pipeline, letters)
        count, seconds = await redriven(own, settings)
        print(f"alone: {count:,} in {seconds:.1f} s, {count / seconds:,.0f}/s")
        await dead(own, settings, letters, letters, seed=2)
        await settled(settings, own.pipeline, 2 * letters)
        live = LiveEvents(own, settings, rate)
        async with live.flowing():
            await asyncio.sleep(_BEFORE_S)
            began = time.monotonic()
            count, seconds = await redriven(own, settings)
            ended = time.monotonic()
            await asyncio.sleep(2)
        without, beside = live.p50_ms(began - _BEFORE_S / 2, began), live.p50_ms(began, ended)
        print(
            f"beside {rate:,.0f} events/s: {count:,} in {seconds:.1f} s, {count / seconds:,.0f}/s; "
            f"live p50 {without:.1f} ms without, {beside:.1f} ms beside: {beside / without:.2f}"
        )


def main() -> None:
    """Start a broker, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=300, help="live events a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        own = trained_small("card-fraud", Path(folder), rows=10_000, trees=50)
        with benchmark_broker.running(Path(folder) / "kafka") as broker:
            settings = BrokerSettings(broker=broker.address)
            uvloop.run(measure(settings, own, options.letters, options.rate))


if __name__ == "__main__":
    main()
