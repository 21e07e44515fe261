"""Latency and processor time of questions over HTTP: `python -m tests.benchmarks.gateway_speed`.

Apache Kafka, a worker with all of card-fraud and a gateway, each in a process of its own; requests
come at a constant rate, whether those before are answered or not, over 512 connections that stay
open. A latency counts from when its request was due. Then as many events are published without a
gateway, by aiokafka, at the same rate: the processor time of that, and how long their decisions
take by what they say themselves.

    python -m tests.benchmarks.gateway_speed                       # 500 requests/s of one event
    python -m tests.benchmarks.gateway_speed --rate 100 --events 20
    python -m tests.benchmarks.gateway_speed --fuse risk-linear,risk-forest,decision
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiokafka
import numpy as np
import orjson
import psutil

from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import (
    Trained,
    decisions_of,
    simulated,
    trained_small,
    worker_process,
)
from tests.kafka_nodes import one_broker
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

Words = tuple[float, float]
"""Rate and seconds."""

_WARM_UP_S = 5.0
_CONNECTIONS = 512


class Connection:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, body: bytes) -> int:
        """POST /predict; the status."""
        head = (
            "POST /predict?deadline_ms=60000 HTTP/1.1\r\nhost: x\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        await self._reader.readexactly(int(length.partition(b":")[2]))
        return int(answer[9:12])


async def measure(
    gateway: RunningGateway, bodies: list[bytes], rate: float, seconds: float
) -> tuple[list[float], float]:
    """Latencies (milliseconds) after the warm-up, and the gateway's processor seconds meanwhile."""
    idle, latencies = asyncio.Queue[Connection](), list[float]()
    for _ in range(_CONNECTIONS):
        idle.put_nowait(Connection(*await asyncio.open_connection("127.0.0.1", gateway.port)))
    process = psutil.Process(gateway.process.pid)
    cpu_before, cpu = 0.0, 0.0

    async def one(number: int, due: float) -> None:
        connection = await idle.get()
        status = await connection.ask(bodies[number])
        assert status == 200, status
        idle.put_nowait(connection)
        if due >= _WARM_UP_S:
            latencies.append((time.monotonic() - began - due) * 1000)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int((_WARM_UP_S + seconds) * rate)):
            due = number / rate
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
            if due >= _WARM_UP_S and not cpu_before:
                cpu_before = sum(process.cpu_times()[:2])
            group.create_task(one(number, due))
    cpu = sum(process.cpu_times()[:2]) - cpu_before
    return latencies, cpu


async def publish_directly(
    broker: BrokerSettings, topic: str, values: list[bytes], rate: float, seconds: float
) -> float:
    """Publish lists of events at *rate*, each record by itself: processor seconds, without JSON."""
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=broker.broker, enable_idempotence=True, acks="all"
    )
    chunks = [[(each["customer_id"].encode(), orjson.dumps(each)) for each in as_list(value)]
              for value in values]  # fmt: skip
    process, waiting, cpu = psutil.Process(), deque[asyncio.Future[object]](), 0.0
    await producer.start()
    began = time.monotonic()
    for number in range(int((_WARM_UP_S + seconds) * rate)):
        due = number / rate
        await asyncio.sleep(max(0.0, began + due - time.monotonic()))
        if due >= _WARM_UP_S and not cpu:
            cpu = sum(process.cpu_times()[:2])
        for key, value in chunks[number]:
            waiting.append(await producer.send(topic, value, key))
        while waiting and waiting[0].done():
            waiting.popleft().result()
    for future in waiting:
        await future
    cpu = sum(process.cpu_times()[:2]) - cpu
    await producer.stop()
    return cpu


def as_list(value: bytes) -> list[dict[str, Any]]:
    content = orjson.loads(value)
    return content if isinstance(content, list) else [content]


def directly(broker: BrokerSettings, topic: str, values: list[bytes], words: Words) -> float:
    """`publish_directly`, in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_directly, broker, topic, values, *words).result()


def _directly(
    broker: BrokerSettings, topic: str, values: list[bytes], rate: float, seconds: float
) -> float:
    return asyncio.run(publish_directly(broker, topic, values, rate, seconds))


async def own_latencies_ms(broker: BrokerSettings, trained: Trained, since: str) -> list[float]:
    """What decisions that were made *since* an RFC 3339 time say of theirs."""
    made: list[Any] = await decisions_of(broker, trained.pipeline)
    return [each["latency_ms"] for each in made if each["decided_at"] > since]


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--events", type=int, default=1, help="of a request")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--fuse", metavar="A,B", help="components that one worker runs")
    words = parser.parse_args()
    with TemporaryDirectory() as folder:
        fuse = [words.fuse.split(",")] if words.fuse else []
        trained = trained_small(
            "card-fraud", Path(folder), rows=20_000, trees=30,
            edit=lambda content: content.update(fuse=fuse),
        )  # fmt: skip
        asked = int((_WARM_UP_S + words.seconds) * words.rate)
        # None of them twice: an event of the past again is one more for all windows behind it.
        values = [value for _, value in simulated(trained.pipeline, 2 * asked * words.events)]
        if words.events > 1:
            starts = range(0, len(values), words.events)
            chunks = [values[at : at + words.events] for at in starts]
            values = [b"[" + b",".join(chunk) + b"]" for chunk in chunks]
        with (
            one_broker(Path(folder)) as broker,
            worker_process(trained, broker),
            gateway_process(trained, broker) as gateway,
        ):
            latencies, cpu = asyncio.run(
                measure(gateway, values[:asked], words.rate, words.seconds)
            )
            topic = Topology.of(trained.pipeline).events
            time.sleep(_WARM_UP_S)
            since = datetime.now(UTC).isoformat()
            direct_cpu = directly(broker, topic, values[asked:], (words.rate, words.seconds))
            time.sleep(1)
            own = asyncio.run(own_latencies_ms(broker, trained, since))
    events = len(latencies) * words.events
    print(json.dumps({
        "rate": words.rate, "events_a_request": words.events, "requests": len(latencies),
        "p50_ms": round(float(np.percentile(latencies, 50)), 1),
        "p99_ms": round(float(np.percentile(latencies, 99)), 1),
        "gateway_cpu_ms_a_request": round(cpu * 1000 / len(latencies), 3),
        "gateway_cpu_us_an_event": round(cpu * 1e6 / events, 1),
        "direct_cpu_us_an_event": round(direct_cpu * 1e6 / events, 1),
        "gateway_to_direct_cpu": round(cpu / direct_cpu, 2),
        "own_p50_ms": round(float(np.percentile(own, 50)), 1),
        "own_p99_ms": round(float(np.percentile(own, 99)), 1),
        "load_average": os.getloadavg()[0],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
