"""W5: how soon anabranch decides after its start, and what a worker weighs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from agents.broker.pipeline_topics import ensure_topics
from tests.benchmarks import peer_commands
from tests.benchmarks.broker import STAMPED, admin, outputs, topics
from tests.benchmarks.card_events import STAGES
from tests.benchmarks.contest import TROUBLE, said
from tests.benchmarks.load import producer, publish
from tests.benchmarks.peer_commands import pipeline_command, renamed
from tests.benchmarks.processes import Command, Started, started
from tests.benchmarks.session import RUN_TIMEOUT_S, START_TIMEOUT_S, Bench, session
from tests.benchmarks.workload import Workload
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import WEIGH, Topology
from topics.settings import BrokerSettings

COMPONENTS = (*STAGES, WEIGH)
_LOADED_BATCHES = 25
_POLL_S = 0.02


@dataclass(slots=True)
class Start:
    """From the start of a process to its first output, in seconds."""

    what: str
    first_output_s: list[float] = field(default_factory=list)
    group_seen_s: list[float] = field(default_factory=list)
    """To the first sight of a consumer group: Python has started, the models are loaded."""
    join_s: list[float] = field(default_factory=list)
    """From then on until all groups are stable."""
    trouble: str | None = None


@dataclass(slots=True)
class Weight:
    """Memory of a worker with one component, after load, in MB."""

    component: str
    pss_mb: float
    rss_mb: float


def starts(
    bench: Bench, workload: Workload, repeats: int, advance: Callable[[str], None]
) -> list[Start]:
    """The pipeline in one process, and its first component alone; *repeats* starts of each."""
    found = [Start("all components"), Start("features alone")]
    for number in range(repeats):
        for start, components in zip(found, (COMPONENTS, STAGES[:1]), strict=True):
            name = f"w5-{number}-{len(components)}"
            try:
                asyncio.run(_start(bench, workload, name, components, start))
                told = f"{start.first_output_s[-1]:.1f} s"
            except TROUBLE as exc:
                told = start.trouble = said(exc)
            advance(f"W5 start: {start.what} {told}")
    return found


async def _start(
    bench: Bench, workload: Workload, name: str, components: tuple[str, ...], found: Start
) -> None:
    last = f"{name}.{'decisions' if WEIGH in components else components[-1]}"
    with TemporaryDirectory(prefix="anabranch-bench-") as folder:
        path = renamed(bench.files, name, Path(folder))
        topology = Topology.of(load_pipeline(path).pipeline)
        run = peer_commands.Run("w1", bench.broker.address, bench.files, name, Path(folder))
        async with (
            asyncio.timeout(RUN_TIMEOUT_S),
            _topics_with_events(bench, workload, topology, last),
            outputs(bench.broker, last, workload.partitions) as seen,
        ):
            began = time.time()
            with started([pipeline_command(path, run, *components)]) as processes:
                groups = [topology.group(component) for component in components]
                stable = asyncio.create_task(_groups_stable(bench, groups))
                await seen.wait(1, START_TIMEOUT_S, processes.check)
                first_ms = [records[0].timestamp async for records in seen.read()]
                group_seen, all_stable = await stable
    found.first_output_s.append(min(first_ms) / 1000 - began)
    found.group_seen_s.append(group_seen - began)
    found.join_s.append(all_stable - group_seen)


@asynccontextmanager
async def _topics_with_events(
    bench: Bench, workload: Workload, topology: Topology, last: str
) -> AsyncIterator[None]:
    """All topics of a pipeline, with some events to begin with."""
    stamped = {topology.events: STAMPED, last: STAMPED}
    async with topics(bench.broker, topology.pipeline, workload.partitions, stamped):
        await ensure_topics(BrokerSettings(broker=bench.broker.address), topology)
        async with producer(bench.broker) as kafka:
            await publish(kafka, topology.events, workload.load.slices(0, 1))
        yield


async def _groups_stable(bench: Bench, groups: Sequence[str]) -> tuple[float, float]:
    """When the first of *groups* was seen by the broker, and when all were stable."""
    appeared = 0.0
    async with admin(bench.broker) as client:
        while True:
            states = [await _state(client, group) for group in groups]
            if not appeared and any(state not in ("Dead", "Empty") for state in states):
                appeared = time.time()
            if all(state == "Stable" for state in states):
                return appeared, time.time()
            await asyncio.sleep(_POLL_S)


async def _state(client: AIOKafkaAdminClient, group: str) -> str:
    """What a group is doing; aiokafka cannot read an answer about several groups."""
    try:
        answers = await client.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:  # no group has ever been on this broker
        return "Dead"
    return str(answers[0].groups[0][2])


def weights(bench: Bench, workload: Workload) -> list[Weight]:
    """Memory of every component's process after load."""
    return asyncio.run(_weights(bench, workload))


async def _weights(bench: Bench, workload: Workload) -> list[Weight]:
    def commands(run: peer_commands.Run) -> list[Command]:
        path = renamed(run.files, run.prefix, run.folder)
        return [pipeline_command(path, run, component) for component in COMPONENTS]

    async with (
        asyncio.timeout(RUN_TIMEOUT_S),
        session(bench, workload, "alone", commands) as running,
    ):
        await running.send(1, START_TIMEOUT_S)
        await running.send(_LOADED_BATCHES, RUN_TIMEOUT_S)
        return _weighed(running.processes)


def _weighed(processes: Started) -> list[Weight]:
    found = []
    for component, process in zip(COMPONENTS, processes.processes, strict=True):
        memory = psutil.Process(process.pid).memory_full_info()
        found.append(Weight(component, memory.pss / 1e6, memory.rss / 1e6))
    return found
