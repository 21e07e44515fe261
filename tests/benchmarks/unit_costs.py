"""What an event costs in each component, apart and together: the figures behind `anabranch plan`.

    python -m tests.benchmarks.unit_costs --out .bench/unit-costs.json --rates 200 2000 10000
    python -m tests.benchmarks.unit_costs --out .bench/at-load.json --backlog 400000

A run at a rate is an open loop on one broker: CPU time by process, micro-batches and bytes by
topic, the lag that is not committed, and how long events wait for their decision. With a backlog
each component works it off alone, one after the other: the CPU time of an event at load, whatever
else the machine does meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tests.benchmarks import broker, machine, peer_commands
from tests.benchmarks.at_load import backlog
from tests.benchmarks.figures import percentiles
from tests.benchmarks.load import Event
from tests.benchmarks.model_files import ModelFiles, prepared
from tests.benchmarks.processes import Command, Started, cpu_s, rss_mb, started
from tests.benchmarks.shapes import (
    PARTITIONS,
    SHAPES,
    end_offsets,
    make_topics,
    publish_at,
    shaped,
    stream,
)

WARM_S, SECONDS = 4.0, 12.0
_LAG_EVERY_S = 3.0
LAYOUTS = ("together", "apart")


@dataclass(slots=True)
class Sample:
    """What one run came to."""

    shape: str
    layout: str
    rate: float
    events: int = 0
    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    """By component, or `all` when they share a process; and the broker's."""
    rss_mb: dict[str, float] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)
    """By topic, in the measured time: micro-batches on stage topics."""
    bytes: dict[str, float] = field(default_factory=dict)
    """By topic, on disk, an event."""
    uncommitted: dict[str, float] = field(default_factory=dict)
    """By consumer group: records at any time, on average."""
    latency_ms: dict[str, float] = field(default_factory=dict)


async def sample(
    running: broker.Broker, log: Path, files: ModelFiles, found: Sample, number: int
) -> None:
    """One run; what it came to is put into *found*."""
    name = f"u{number:03d}"
    warm = round(found.rate * WARM_S)
    events = stream(found.shape, warm + round(found.rate * SECONDS))
    with TemporaryDirectory(prefix="anabranch-bench-") as folder:
        path, components = shaped(found.shape, name, files, Path(folder))
        run = peer_commands.Run(found.shape, running.address, files, name, Path(folder))
        commands = _commands(found.layout, path, run, components)
        labels = components if found.layout == "apart" else ["all"]
        await make_topics(path, running)
        with started(commands) as processes:
            async with broker.outputs(running, f"{name}.decisions", PARTITIONS) as outputs:
                await _measured(running, log, found, _Run(name, events, warm, labels), processes,
                                outputs)  # fmt: skip
    async with broker.admin(running) as client:
        left = [each for each in await client.list_topics() if each.startswith(name)]
        await client.delete_topics(left)


@dataclass(frozen=True, slots=True)
class _Run:
    name: str
    events: Sequence[Event]
    warm: int
    labels: Sequence[str]


def _commands(
    layout: str, path: Path, run: peer_commands.Run, components: Sequence[str]
) -> list[Command]:
    if layout == "together":
        return [peer_commands.pipeline_command(path, run)]
    return [peer_commands.pipeline_command(path, run, component) for component in components]


async def _measured(
    running: broker.Broker, log: Path, found: Sample, run: _Run, processes: Started,
    outputs: broker.Outputs,
) -> None:  # fmt: skip
    first = 4 * PARTITIONS
    await publish_at(running, run.name, run.events[:first], found.rate, time.time())
    await outputs.wait(first, 120, processes.check)
    began_s = time.time() + 1
    publishing = asyncio.create_task(
        publish_at(running, run.name, run.events[first:], found.rate, began_s)
    )
    await asyncio.sleep(1 + (run.warm - first) / found.rate)
    before = await _standing(running, run, processes, log)
    lags: list[dict[str, float]] = []
    while not publishing.done():
        lags.append(await _uncommitted(running, run.name))
        await asyncio.sleep(_LAG_EVERY_S)
    await publishing
    found.seconds = time.time() - before["at"]
    after = await _standing(running, run, processes, log)
    await outputs.wait(len(run.events), 60, processes.check)
    whole = await _standing(running, run, processes, log)
    found.events = len(run.events) - run.warm
    found.cpu_s = {each: after["cpu"][each] - before["cpu"][each] for each in after["cpu"]}
    found.rss_mb = after["rss"]
    found.records = {
        each: after["ends"][each] - before["ends"].get(each, 0) for each in after["ends"]
    }
    found.bytes = {each: size / len(run.events) for each, size in whole["bytes"].items()}
    found.uncommitted = {
        group: mean(lag.get(group, 0.0) for lag in lags)
        for group in {each for x in lags for each in x}
    }
    found.latency_ms = percentiles(await _waits(outputs, run, first, found.rate, began_s))


async def _standing(
    running: broker.Broker, run: _Run, processes: Started, log: Path
) -> dict[str, Any]:
    pids = dict(zip(run.labels, (process.pid for process in processes.processes), strict=True))
    async with broker.admin(running) as client:
        topics = [each for each in await client.list_topics() if each.startswith(f"{run.name}.")]
        ends = await end_offsets(running, topics)
    size = {topic.removeprefix(f"{run.name}."): _size(log, topic) for topic in topics}
    cpu = {label: cpu_s(pid) for label, pid in pids.items()} | {"broker": running.cpu_s()}
    rss = {label: rss_mb(pid) for label, pid in pids.items()}
    return {"at": time.time(), "cpu": cpu, "rss": rss, "ends": ends, "bytes": size}


def _size(log: Path, topic: str) -> int:
    return sum(
        path.stat().st_size
        for number in range(PARTITIONS)
        for path in (log / f"{topic}-{number}").glob("*.log")
    )


async def _uncommitted(running: broker.Broker, name: str) -> dict[str, float]:
    async with broker.admin(running) as client:
        topics = [each for each in await client.list_topics() if each.startswith(f"{name}.")]
        ends = await end_offsets(running, topics)
        groups = [
            each[0] for each in await client.list_consumer_groups() if each[0].startswith(name)
        ]
        lag: dict[str, float] = {}
        for group in groups:
            done = await client.list_consumer_group_offsets(group)
            for tp, at in done.items():
                topic = tp.topic.split(".", 1)[1]
                key = f"{group.split('.', 1)[1]} on {topic}"
                lag[key] = lag.get(key, float(ends.get(topic, 0))) - at.offset
    return lag


async def _waits(
    outputs: broker.Outputs, run: _Run, first: int, rate: float, began_s: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers = {f"tx-{event.number:08d}": event.number for event in run.events}
    at: dict[int, int] = {}
    async for records in outputs.read():
        for record in records:
            number = numbers[json.loads(record.value)["event_id"]]
            at.setdefault(number, record.timestamp)
    wanted = np.arange(run.warm, len(run.events))
    due = began_s * 1000 + (wanted - first) / rate * 1000
    return np.array([at[number] for number in wanted.tolist()], np.float64) - due


def main() -> None:
    """Measure all that is asked for, and write it after every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".bench/unit-costs.json"))
    parser.add_argument("--models", type=Path, default=Path(".bench/models"))
    parser.add_argument("--rates", type=float, nargs="+", default=[200.0, 2000.0, 10000.0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--backlog", type=int, metavar="EVENTS", help="at load, instead")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    files = prepared(given.models)
    samples: list[Sample] = []
    every = [Sample(s, w, r) for s in given.shapes for w in given.layouts for r in given.rates]
    with (
        TemporaryDirectory(prefix="anabranch-bench-") as folder,
        broker.running(Path(folder)) as running,
    ):
        if given.backlog:
            loads = [
                asdict(each)
                for shape in given.shapes
                for each in asyncio.run(backlog(running, files, shape, given.backlog, print))
            ]
            content = {"machine": machine.described(), "at_load": loads}
            given.out.write_text(json.dumps(content, indent=1) + "\n")
            return
        for number, found in enumerate(every):
            asyncio.run(sample(running, Path(folder) / "log", files, found, number))
            samples.append(found)
            waits = found.latency_ms
            print(
                f"{found.shape} {found.layout} {found.rate:g}/s: p50 {waits['p50']:.1f} ms, "
                f"p99 {waits['p99']:.1f} ms", flush=True,
            )  # fmt: skip
            content = {"machine": machine.described(), "samples": [asdict(s) for s in samples]}
            given.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
