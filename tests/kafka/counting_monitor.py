"""A monitor that only counts, as a process of its own which tests freeze and kill.

    python -m tests.kafka.counting_monitor PIPELINE FOLDER [--dies-after-findings]

It says on stdout, a word a line, whether it is `active` or stands `by`. With
`--dies-after-findings` it ends itself by SIGKILL once the broker has findings of it, and before it
writes the snapshot that covers them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
from aiokafka import AIOKafkaProducer

from agents.monitor import monitor_writer
from agents.monitor.watcher import Finding, MonitorContext, MonitorTime
from agents.process import monitor_process
from models.registry.registry import Registry
from tests.integration.test_monitor import Counter, pipeline
from topics.kafka.batches import Headers, Record, write_batches
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings


class Teller(Counter):
    """Says what it has counted, once, and who it is."""

    name = "teller"

    @classmethod
    def of(cls, _: MonitorContext) -> Teller:
        return cls()

    def tick(self, now: MonitorTime) -> Sequence[Finding]:
        if self.said == self.sums:
            return []
        self.said = dict(self.sums)
        value = {"kind": "count", "by": os.getpid(), **self.sums}
        return [Finding("count", "count/all", orjson.dumps(value))]

    def snapshot(self) -> bytes:
        return orjson.dumps([self.sums, self.said])

    def restore(self, state: bytes) -> None:
        self.sums, self.said = orjson.loads(state)


def die_after_findings(topology: Topology) -> None:
    """Have this process end between findings and their snapshot."""
    confirmed = 0

    async def write(
        producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record],
        headers: Headers | None = None,
    ) -> list[tuple[int, int]]:  # fmt: skip
        nonlocal confirmed
        if topic == topology.monitor_state and confirmed:
            os.kill(os.getpid(), signal.SIGKILL)
        written = await write_batches(producer, topic, partition, records, headers)
        confirmed += len(written) if topic == topology.monitor else 0
        return written

    monitor_writer.write_batches = write  # type: ignore[attr-defined]  # it is what it calls


async def main() -> None:
    """Count until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dies-after-findings", action="store_true")
    options = parser.parse_args()
    file = replace(load_pipeline(find_pipeline("card-fraud")), pipeline=pipeline(options.name))
    if options.dies_after_findings:
        die_after_findings(Topology.of(file.pipeline))
    monitor_process.WATCHERS = (Teller.of,)
    await monitor_process.run_monitor(
        file, Registry(options.folder / "registry"), BrokerSettings(), options.folder,
        asyncio.Event(), up=lambda is_active: print("active" if is_active else "by", flush=True),
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
