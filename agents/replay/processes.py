"""A replay in several processes, each of some partitions: as fast as the machine goes.

This one has a share, too: it is at work while the others start.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.queues import Queue
from queue import Empty

import uvloop

from agents.replay.recorded_range import SourceRange
from agents.replay.report import ReplayPart, ReplayReport, report_of
from agents.replay.unaltered import UnalteredReplay
from agents.workers import TailReader
from models.registry import Registry
from topics.pipeline import PipelineFile, Topology
from topics.settings import BrokerSettings

WORTH_A_PROCESS = 50_000
"""A process takes a second to start: so many events are replayed meanwhile."""
_LOOK_S = 0.1

_told: Queue[tuple[int, int]] | None = None
"""In a process of its own: where it says how far it is."""


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """What is replayed by what."""

    settings: BrokerSettings
    file: PipelineFile
    registry: Registry

    async def part(
        self, ranges: Sequence[SourceRange], progress: Callable[[int], None]
    ) -> ReplayPart:
        """Replay *ranges* here."""
        tail = TailReader(self.settings)
        await tail.start()
        gc.disable()  # each collection would walk through all records that were read ahead
        try:
            replay = UnalteredReplay(self.settings, self.file, self.registry, tail)
            return await replay.run(ranges, progress)
        finally:
            gc.enable()
            await tail.stop()


async def replayed(
    job: ReplayJob, ranges: Sequence[SourceRange], *, processes: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> ReplayReport:  # fmt: skip
    """Replay *ranges*, of one partition each, in so many *processes*, or as many as are worth it.

    *progress* is told how many events are done. Raises what `UnalteredReplay.run` does.
    """
    began = time.perf_counter()
    shares = shared_out(ranges, processes or worth_it(ranges))
    if len(shares) == 1:
        parts = [await job.part(ranges, progress)]
    else:
        parts = await _side_by_side(job, shares, progress)
    stages = Topology.of(job.file.pipeline).components
    return report_of(job.file.pipeline.name, parts, stages, time.perf_counter() - began)


def worth_it(ranges: Sequence[SourceRange]) -> int:
    """How many processes finish soonest: at most one a core."""
    events = sum(of.end - of.start for of in ranges)
    return max(1, min(os.cpu_count() or 1, events // WORTH_A_PROCESS))


def shared_out(ranges: Sequence[SourceRange], count: int) -> list[list[SourceRange]]:
    """At most *count* shares of about as many events each; a range is in one of them.

    >>> a, b, c = (SourceRange(p, 0, n) for p, n in enumerate([10, 30, 15]))
    >>> [[of.partition for of in share] for share in shared_out([a, b, c], 2)]
    [[1], [2, 0]]
    """
    shares: list[list[SourceRange]] = [[] for _ in range(min(count, len(ranges)))]
    for of in sorted(ranges, key=_events, reverse=True):
        min(shares, key=lambda share: sum(map(_events, share))).append(of)
    return shares


def _events(of: SourceRange) -> int:
    return of.end - of.start


async def _side_by_side(
    job: ReplayJob, shares: Sequence[Sequence[SourceRange]], progress: Callable[[int], None]
) -> list[ReplayPart]:
    """The first share here, while the processes of the others start."""

    def show_own(events: int) -> None:
        done[0] = events

    # Not forked: the clients of this process have threads.
    context = multiprocessing.get_context("spawn")
    told: Queue[tuple[int, int]] = context.Queue()
    loop, done = asyncio.get_running_loop(), [0] * len(shares)
    with ProcessPoolExecutor(len(shares) - 1, context, _begin, (told,)) as pool:
        others = [
            loop.run_in_executor(pool, _part, job, number, share)
            for number, share in enumerate(shares[1:], start=1)
        ]
        parts = asyncio.gather(job.part(shares[0], show_own), *others)
        while not parts.done():
            await asyncio.wait([parts], timeout=_LOOK_S)
            try:
                while True:
                    number, events = told.get_nowait()
                    done[number] = events
            except Empty:
                progress(sum(done))
        return await parts


def _begin(told: Queue[tuple[int, int]]) -> None:
    global _told  # noqa: PLW0603  # a process has one
    _told = told


def _part(job: ReplayJob, number: int, ranges: Sequence[SourceRange]) -> ReplayPart:
    def tell(events: int) -> None:
        if _told is not None:
            _told.put((number, events))

    return uvloop.run(job.part(ranges, tell))
