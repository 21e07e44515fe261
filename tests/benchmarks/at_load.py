"""What an event costs each component alone, working off a backlog: see unit_costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import broker, peer_commands
from tests.benchmarks.model_files import ModelFiles
from tests.benchmarks.processes import Started, cpu_s, rss_mb, started
from tests.benchmarks.shapes import end_offsets, make_topics, publish_at, shaped, stream


@dataclass(slots=True)
class AtLoad:
    """A component that works off a backlog alone."""

    shape: str
    component: str
    events: int
    cpu_us: float
    """CPU time of an event."""
    events_per_s: float
    rss_mb: float


async def backlog(
    running: broker.Broker,
    files: ModelFiles,
    shape: str,
    count: int,
    advance: Callable[[str], None],
) -> list[AtLoad]:
    """What an event costs every component of *shape* in large micro-batches."""
    name = f"load-{shape}"
    events = stream(shape, count)
    found: list[AtLoad] = []
    with TemporaryDirectory(prefix="anabranch-bench-") as folder:
        path, components = shaped(shape, name, files, Path(folder))
        run = peer_commands.Run(shape, running.address, files, name, Path(folder))
        await make_topics(path, running)
        await publish_at(running, name, events, 1e9, time.time())
        for component in components:
            command = peer_commands.pipeline_command(path, run, component)
            often = {**command.environment, "ANABRANCH_COMMIT_INTERVAL_S": "0.2"}
            with started([replace(command, environment=often)]) as processes:
                made = await _worked_off(running, name, component, processes)
            found.append(AtLoad(shape, component, count, *made(count)))
            advance(f"{shape} {component}: {found[-1].cpu_us:.1f} µs an event")
    return found


async def _worked_off(
    running: broker.Broker, name: str, component: str, processes: Started
) -> Callable[[int], tuple[float, float, float]]:
    """Until the component's groups have committed all there is.

    What is returned makes of the number of events: CPU µs an event, events a second, MB.
    """
    pid = processes.processes[0].pid
    seen: list[tuple[float, float, float]] = []  # time, CPU, share that is committed
    while not seen or seen[-1][2] < 1:
        processes.check()
        share = await _share_committed(running, name, component)
        if share is not None:
            seen.append((time.monotonic(), cpu_s(pid), share))
        await asyncio.sleep(0.1)
    memory = rss_mb(pid)
    (began, before, done), (ended, after, _) = seen[0], seen[-1]

    def made(count: int) -> tuple[float, float, float]:
        events = count * (1 - done)
        return (after - before) / events * 1e6, events / (ended - began), memory

    return made


async def _share_committed(running: broker.Broker, name: str, component: str) -> float | None:
    """How much of its inputs the slowest of a component's groups has committed, from 0 to 1.

    None before its groups are there.
    """
    async with broker.admin(running) as client:
        topics = [each for each in await client.list_topics() if each.startswith(f"{name}.")]
        ends = await end_offsets(running, topics)
        groups = {each[0] for each in await client.list_consumer_groups()}
        shares: list[float] = []
        mine = {f"{name}.{component}"}
        if f"{name}.{component}.keyed" in topics:
            mine.add(f"{name}.{component}.keyed")
        if not mine <= groups:
            return None
        for group in mine:
            done: dict[str, int] = {}
            for tp, at in (await client.list_consumer_group_offsets(group)).items():
                topic = tp.topic.split(".", 1)[1]
                done[topic] = done.get(topic, 0) + at.offset
            if not done:
                return 0.0
            shares += [done[topic] / ends[topic] for topic in done if ends.get(topic)]
        return min(shares, default=0.0)
