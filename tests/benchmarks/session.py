"""A peer that runs on fresh topics, and what is published to it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from aiokafka import AIOKafkaProducer

from tests.benchmarks import peer_commands
from tests.benchmarks.broker import STAMPED, Broker, Outputs, outputs, topics
from tests.benchmarks.check import Tally
from tests.benchmarks.load import producer, publish
from tests.benchmarks.model_files import ModelFiles
from tests.benchmarks.processes import Command, Started, started
from tests.benchmarks.reader import Reader
from tests.benchmarks.workload import Workload

START_TIMEOUT_S = 120.0
RUN_TIMEOUT_S = 300.0

_numbers = count(1)

Commands = Callable[[peer_commands.Run], Sequence[Command]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share."""

    broker: Broker
    files: ModelFiles
    target_s: float = 8.0
    """How long the measured part of a run should take."""
    warm_s: float = 3.0
    """How long a peer is under load before that."""


@dataclass(slots=True)
class Session:
    """A peer that runs on fresh topics, and how much was published to it."""

    bench: Bench
    workload: Workload
    prefix: str
    processes: Started
    kafka: AIOKafkaProducer
    outputs: Outputs
    published: int = 0
    """Batches of every partition."""

    async def send(self, batches: int, timeout_s: float) -> float:
        """Publish *batches* of every partition and wait for their outputs; the seconds it took."""
        load = self.workload.load
        prepared = load.slices(self.published, self.published + batches)
        began = time.monotonic()
        topic = f"{self.prefix}.{self.workload.topics[0]}"
        sent = asyncio.create_task(publish(self.kafka, topic, prepared))
        try:
            self.published += batches
            wanted = self.published * load.per_round()
            await self.outputs.wait(wanted, timeout_s, self.processes.check)
            await sent
        finally:
            sent.cancel()
        return time.monotonic() - began

    async def warmed_up(self, expected_rate: float | None) -> float:
        """Send until the peer is warm; events a second as it is then."""
        per_round = self.workload.load.per_round()
        await self.send(1, START_TIMEOUT_S)
        if expected_rate is not None:
            batches = max(1, round(expected_rate * self.bench.warm_s / per_round))
            return batches * per_round / await self.send(batches, RUN_TIMEOUT_S)
        batches, took = 1, 0.0
        while took < self.bench.warm_s:
            took = await self.send(batches, RUN_TIMEOUT_S)
            rate = batches * per_round / took
            batches = max(
                batches + 1, round(min(4 * batches, rate * self.bench.warm_s * 1.5 / per_round))
            )
        return rate

    def reader(self) -> Reader:
        """What reads the outputs of all that was published."""
        lanes = range(self.workload.partitions)
        offsets = range(self.published * self.workload.load.batch_events)
        number_at = self.workload.load.number_at
        tally = Tally(Counter(number_at(lane, offset) for lane in lanes for offset in offsets))
        return Reader(self.outputs, self.workload.checker(self.prefix), tally)


@asynccontextmanager
async def session(
    bench: Bench, workload: Workload, label: str, commands: Commands, *, own_times: bool = False
) -> AsyncIterator[Session]:
    """A peer that is started, with its topics; both are gone in the end.

    With *own_times* events keep the times that they are published with.
    """
    prefix = f"b{next(_numbers):04d}-{workload.name}-{label}"
    first, *_, last = names = [f"{prefix}.{topic}" for topic in workload.topics]
    stamped = (last,) if own_times else (first, last)
    configs = {name: STAMPED if name in stamped else {} for name in names}
    with TemporaryDirectory(prefix="anabranch-bench-") as folder:
        run = peer_commands.Run(
            workload.name, bench.broker.address, bench.files, prefix, Path(folder)
        )
        made = commands(run)
        async with (
            topics(bench.broker, prefix, workload.partitions, configs),
            producer(bench.broker) as kafka,
            outputs(bench.broker, last, workload.partitions) as found,
        ):
            with started(made) as processes:
                yield Session(bench, workload, prefix, processes, kafka, found)
