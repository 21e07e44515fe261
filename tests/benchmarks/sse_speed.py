"""What streams of decisions cost the pipeline: `python -m tests.benchmarks.sse_speed`.

Apache Kafka, a worker with all of card-fraud and a gateway, each in a process of its own; events
are published at a constant rate, first without any reader of the stream, then beside so many, in
a process of their own, who connect again with their last id when they were sent away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from aiokafka.structs import TopicPartition

from agents.broker import end_offsets
from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import Trained, publish, simulated, trained_small, worker_process
from tests.kafka_nodes import one_broker
from topics.pipeline import Topology
from topics.settings import BrokerSettings

_WARM_UP_S = 5.0
_STILL = 10
"""Readers that have read nothing for so many seconds have read all they will."""


class Reader(asyncio.Protocol):
    """One reader of the stream: counts its events and keeps the last id."""

    events = shed = connections = 0
    """Of all of them."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._address, self._path = (host, port), path
        self._tail = self._last_id = b""

    async def connect(self) -> None:
        """Connect, or connect again."""
        await asyncio.get_running_loop().create_connection(lambda: self, *self._address)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Reader.connections += 1
        last = b"last-event-id: %b\r\n" % self._last_id if self._last_id else b""
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (self._path.encode(), last))

    def data_received(self, data: bytes) -> None:
        Reader.events += data.count(b"\nevent: decision\n")
        Reader.shed += data.count(b"\nevent: shed\n")
        ids = (self._tail + data).rsplit(b"\nid: ", 1)
        if len(ids) == 2 and (end := ids[1].find(b"\n")) >= 0:
            self._last_id = ids[1][:end]
        self._tail = data[-200:]

    def connection_lost(self, exc: Exception | None) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(2.0, lambda: loop.create_task(self.connect()))


async def read_streams(url: str, path: str, count: int) -> None:
    """Read for ever; say every second how far all have come."""
    host, port = url.removeprefix("http://").split(":")
    for _ in range(count):
        await Reader(host, int(port), path).connect()
    while True:
        print(json.dumps([Reader.events, Reader.shed, Reader.connections]), flush=True)
        await asyncio.sleep(1)


@contextmanager
def readers(gateway: RunningGateway, path: str, count: int) -> Iterator[subprocess.Popen[str]]:
    """*count* readers in one process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.sse_speed", "--read", gateway.url, "--path", path,
         "--clients", str(count)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()  # all are connected
        yield process
    finally:
        process.kill()
        process.wait()


def read_by(reading: subprocess.Popen[str], each: int) -> tuple[int, int, int]:
    """Events, shed streams and connections of all readers, once they have read *each* event."""
    assert reading.stdout is not None
    still, before = 0, (-1, 0, 0)
    for line in reading.stdout:
        events, shed, connections = json.loads(line)
        still = still + 1 if events == before[0] else 0
        before = (events, shed, connections)
        if events >= each * connections or (events and still > _STILL):
            break
    return before


async def measure(
    trained: Trained, broker: BrokerSettings, events: list[tuple[bytes, bytes]], rate: float,
    processes: dict[str, int],
) -> dict[str, Any]:  # fmt: skip
    """Publish *events* at *rate*; decisions a second meanwhile, processor seconds by process."""
    topology = Topology.of(trained.pipeline)
    partitions = [TopicPartition(topology.decisions, p) for p in range(topology.partitions)]

    async def decided() -> int:
        return sum((await end_offsets(broker, partitions)).values())

    def cpu() -> dict[str, float]:
        times = {name: psutil.Process(pid).cpu_times() for name, pid in processes.items()}
        return {name: each.user + each.system for name, each in times.items()}

    before, cpu_before, began = await decided(), cpu(), time.monotonic()
    await publish(broker, trained.pipeline, events, rate)
    published_s = time.monotonic() - began
    at_end = await decided() - before
    while (count := await decided() - before) < len(events):
        assert time.monotonic() - began < 60 + 20 * published_s, f"{count} of {len(events)} decided"
        await asyncio.sleep(0.05)
    took_s, used = time.monotonic() - began, cpu()
    return {
        "published_eps": round(len(events) / published_s, 1),
        "decided_eps": round(len(events) / took_s, 1),
        "behind_at_end": len(events) - at_end,
        "cpu_s": {name: round(used[name] - cpu_before[name], 2) for name in processes},
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5000.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--path", default="/decisions/stream", help="with filters")
    parser.add_argument("--read", metavar="URL", help="be the readers of that gateway")
    words = parser.parse_args()
    if words.read:
        asyncio.run(read_streams(words.read, words.path, words.clients))
        return
    with TemporaryDirectory() as folder:
        trained = trained_small("card-fraud", Path(folder), rows=20_000, trees=30)
        warm_up, n = int(words.rate * _WARM_UP_S), int(words.rate * words.seconds)
        # None of them twice: an event of the past again is one more for all windows behind it.
        events = simulated(trained.pipeline, warm_up + 2 * n)
        with (
            one_broker(Path(folder)) as broker,
            worker_process(trained, broker) as worker,
            gateway_process(trained, broker) as gateway,
        ):
            processes = {"worker": worker.pid, "gateway": gateway.process.pid}
            report = {"rate": words.rate, "clients": words.clients, "path": words.path}
            asyncio.run(measure(trained, broker, events[:warm_up], words.rate, processes))
            report["without"] = asyncio.run(
                measure(trained, broker, events[warm_up : warm_up + n], words.rate, processes)
            )
            with readers(gateway, words.path, words.clients) as reading:
                processes["readers"] = reading.pid
                beside = asyncio.run(
                    measure(trained, broker, events[warm_up + n :], words.rate, processes)
                )
                read, shed, connections = read_by(reading, n)
            metrics = gateway.get("/metrics").text
            gone = re.search(
                r"^anabranch_gateway_shed_events_total\S* (\S+)", metrics, re.MULTILINE
            )
            report["beside"] = {
                **beside, "events_read": read, "streams_shed": shed, "connections": connections,
                "events_shed": float(gone[1]) if gone else None,
            }  # fmt: skip
    print(json.dumps({**report, "load_average": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
