"""W4: what anabranch costs as a pipeline grows, and whether its memory does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from threading import Event as Flag

from tests.benchmarks import growth, peer_commands
from tests.benchmarks.card_events import CardEvents
from tests.benchmarks.check import KeyCheck
from tests.benchmarks.contest import TROUBLE, said
from tests.benchmarks.figures import after_first_quarter, slope
from tests.benchmarks.load import Load
from tests.benchmarks.pacing import NotPublished, publish_paced
from tests.benchmarks.peer_commands import ANABRANCH
from tests.benchmarks.processes import Command
from tests.benchmarks.session import Bench, Commands, Session, session
from tests.benchmarks.throughput import Run, throughput
from tests.benchmarks.workload import W1_PARTITIONS, Workload

CHAINS, BRANCHES, PARTITIONS, WORKERS = (1, 2, 3, 5, 8), (1, 2, 4), (1, 4, 16), (1, 2)
MEMORY_RATE = 1000.0
_BATCH, _LENGTH = 500, 3
_SAMPLE_S = 1.0
_SPARE_S = 120.0


@dataclass(slots=True)
class Point:
    """One size of one thing that grows."""

    grows: str
    """chain, branches, partitions or workers."""
    size: int
    runs: list[Run] = field(default_factory=list)
    trouble: str | None = None


@dataclass(slots=True)
class Memory:
    """Resident memory of a worker at a steady rate."""

    rate: float
    at_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    trouble: str | None = None

    @property
    def mb_per_hour(self) -> float:
        """The slope of least squares, after the first quarter."""
        return slope(*after_first_quarter(self.at_s, self.rss_mb)) * 3600

    @property
    def grown_mb(self) -> float:
        """From the end of the first quarter to the end."""
        _, kept = after_first_quarter(self.at_s, self.rss_mb)
        return kept[-1] - kept[0]


@dataclass(frozen=True, slots=True)
class _Case:
    """How a point is run."""

    point: Point
    graph: dict[str, list[str]]
    partitions: int = W1_PARTITIONS
    workers: int = 1

    def commands(self) -> Commands:
        """So many processes of `anabranch run`, with all components each."""

        def commands(run: peer_commands.Run) -> list[Command]:
            path = growth.written(self.graph, run.prefix, self.partitions, run.folder)
            return [peer_commands.pipeline_command(path, run)] * self.workers

        return commands


def cases() -> Iterator[_Case]:
    """All sizes of all that grows."""
    for size in CHAINS:
        yield _Case(Point("chain", size), growth.chain(size))
    for size in BRANCHES:
        yield _Case(Point("branches", size), growth.branches(size))
    for size in PARTITIONS:
        yield _Case(Point("partitions", size), growth.chain(_LENGTH), partitions=size)
    for size in WORKERS:
        yield _Case(Point("workers", size), growth.chain(_LENGTH), workers=size)


def points(bench: Bench, repeats: int, advance: Callable[[str], None]) -> list[Point]:
    """All points, *repeats* runs each, interleaved round by round."""
    loads = {each: Load(CardEvents().events(), each, _BATCH) for each in PARTITIONS}
    found = list(cases())
    for _ in range(repeats):
        for case in found:
            point = case.point
            if point.trouble is None:
                _run(bench, case, loads[case.partitions])
            told = point.trouble or f"{point.runs[-1].cpu_us:.0f} µs/event"
            advance(f"W4 growth: {point.grows} {point.size}: {told}")
    return [case.point for case in found]


def _run(bench: Bench, case: _Case, load: Load) -> None:
    point = case.point
    workload = Workload(
        f"w4-{point.grows}-{point.size}", "W4", case.partitions,
        ("events", *case.graph, "decisions"), load, lambda _: KeyCheck(),
    )  # fmt: skip
    rate = point.runs[-1].events_per_s if point.runs else None
    try:
        run = asyncio.run(throughput(bench, workload, ANABRANCH, case.commands(), rate))
        point.runs.append(run)
    except TROUBLE as exc:
        point.trouble = said(exc)


def memory(bench: Bench, workload: Workload, minutes: float, commands: Commands) -> Memory:
    """Memory of the card-fraud pipeline over *minutes* at MEMORY_RATE."""
    found = Memory(MEMORY_RATE)
    try:
        asyncio.run(_remember(bench, workload, minutes * 60, commands, found))
    except (*TROUBLE, NotPublished) as exc:
        found.trouble = said(exc)
    return found


async def _remember(
    bench: Bench, workload: Workload, seconds: float, commands: Commands, found: Memory
) -> None:
    async with (
        asyncio.timeout(seconds + _SPARE_S),
        session(bench, workload, f"{ANABRANCH}-memory", commands, own_times=True) as running,
    ):
        count, stop = round(seconds * MEMORY_RATE), Flag()
        events = islice(CardEvents().events(), count)
        topic, began = f"{running.prefix}.{workload.topics[0]}", time.time()
        published = asyncio.create_task(
            asyncio.to_thread(publish_paced, bench.broker, topic, events, MEMORY_RATE, began, stop)
        )
        try:
            await _sample(running, seconds, found)
            await published
            await running.outputs.wait(count, _SPARE_S / 2, running.processes.check)
        finally:
            stop.set()


async def _sample(running: Session, seconds: float, found: Memory) -> None:
    began = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        running.processes.check()
        found.at_s.append(round(at, 2))
        found.rss_mb.append(running.processes.rss_mb())
        await asyncio.sleep(_SAMPLE_S)
