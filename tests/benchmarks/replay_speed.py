"""Events a second of `anabranch replay` and of the run that it replays, W1 on one machine.

    python -m tests.benchmarks.replay_speed

Apache Kafka in a process of its own. One worker runs all of W1 under load, as in `make bench`; then
all that it has decided is replayed, in one process, while the worker has nothing to do. The
replay's time is that of reading and deciding again; beside it that of the command, its start
included. Processor time tells them apart where others use the machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import broker as benchmark_broker
from tests.benchmarks import peer_commands, workload
from tests.benchmarks.contest import commands_of
from tests.benchmarks.model_files import prepared
from tests.benchmarks.processes import Command
from tests.benchmarks.session import Bench, session
from tests.benchmarks.throughput import measured


class Round(NamedTuple):
    """One run, and its replay."""

    live: float
    """Events a second."""
    replay: float
    command: float
    events: int
    live_cpu_us: float
    """Processor time of the worker for an event, microseconds."""
    replay_cpu_us: float


async def measured_round(bench: Bench) -> Round:
    """W1 live, and all of it replayed. Raises RuntimeError where that is not the same."""
    folders: list[Path] = []
    ours = commands_of(peer_commands.ANABRANCH)

    def commands(run: peer_commands.Run) -> list[Command]:
        folders.append(run.folder)
        return list(ours(run))

    async with session(bench, workload.card_fraud(bench.files), "replayed", commands) as peer:
        live = await measured(peer, await peer.warmed_up(None))
        began, cpu_s = time.perf_counter(), _cpu_s()
        (folder,) = folders
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "agents", "replay", str(folder / "pipeline.yaml"), "--json"],
            stdout=subprocess.PIPE, check=False,
            env={
                **os.environ, "ANABRANCH_BROKER": bench.broker.address,
                "ANABRANCH_HOME": str(folder),
            },
        )  # fmt: skip
        seconds, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_s
    report = json.loads(done.stdout)
    events = report["events"]
    if done.returncode or report["recomputed"] != events:
        raise RuntimeError(f"the replay is not the same: {report}")
    return Round(
        live.events_per_s, events / report["seconds"], events / seconds, events, live.cpu_us,
        cpu_s / events * 1e6,
    )  # fmt: skip


def _cpu_s() -> float:
    """Processor time of the processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print each round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of load in each round")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with benchmark_broker.running(folder / "kafka") as broker:
            bench = Bench(broker, prepared(folder / "models"), target_s=given.seconds)
            rounds = []
            for _ in range(given.repeats):
                rounds.append(asyncio.run(measured_round(bench)))
                live, replay, command, events, live_cpu_us, replay_cpu_us = rounds[-1]
                print(
                    f"{events:,} events: live {live:,.0f}/s, replay {replay:,.0f}/s "
                    f"({replay / live:.2f} times), the command {command:,.0f}/s; processor time an "
                    f"event: live {live_cpu_us:.0f} us, replay {replay_cpu_us:.0f} us and start",
                    flush=True,
                )  # fmt: skip
    ratios = [each.replay / each.live for each in rounds]
    print(
        f"median: live {statistics.median(each.live for each in rounds):,.0f}/s, replay "
        f"{statistics.median(each.replay for each in rounds):,.0f}/s, "
        f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
