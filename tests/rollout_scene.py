"""Two pipelines, producers that move from one to the other, and the consumer of the page.

Producers and consumer are processes' or clients' own: they share no code with what is under test.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from aiokafka import AIOKafkaProducer

from tests.integration.harness import PATIENCE_S, Trained, worker_process
from tests.page_consumer import program
from topics.pipeline.topology import WEIGH, Topology
from topics.settings import BrokerSettings

_RUN = """
import asyncio, sqlite3, sys
from page import consume
pipeline, database, broker = sys.argv[1:]
asyncio.run(consume(
    pipeline, f"{pipeline}.consumer.ledger", sqlite3.connect(database), bootstrap_servers=broker,
    check_crcs=False, session_timeout_ms=6000,
))
"""


@dataclass
class Producer:
    """Publishes events by key at a steady rate, to the topic that it is told."""

    kafka: AIOKafkaProducer
    topic: str
    events: Iterator[tuple[bytes, bytes]]
    sent: list[str] = field(default_factory=list)
    """Ids of events that the broker has confirmed."""

    async def send(self, count: int, rate: float) -> None:
        """So many events; each is confirmed before the next one goes."""
        began = time.monotonic()
        for number in range(count):
            key, value = next(self.events)
            await self.kafka.send_and_wait(self.topic, value, key)
            self.sent.append(json.loads(value)["transaction_id"])
            await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))

    @asynccontextmanager
    async def sending(self, rate: float) -> AsyncIterator[None]:
        """Events go on until the body ends."""
        ending = asyncio.Event()

        async def go_on() -> None:
            while not ending.is_set():
                await self.send(5, rate)

        task = asyncio.create_task(go_on())
        try:
            yield
        finally:
            ending.set()
            await task


@dataclass
class Scene:
    """What runs in a rollout, and how it is looked at."""

    before: Trained
    after: Trained
    broker: BrokerSettings
    folder: Path
    stack: ExitStack
    weighing: dict[str, ExitStack] = field(default_factory=dict)

    def start(self, own: Trained) -> None:
        """All components of a pipeline, the weighing agent in a process of its own."""
        others = [spec.name for spec in own.pipeline.components]
        self.stack.enter_context(worker_process(own, self.broker, *others))
        self.start_weighing(own)

    def start_weighing(self, own: Trained) -> None:
        """Start the pipeline's weighing agent."""
        weighing = self.weighing[own.pipeline.name] = self.stack.enter_context(ExitStack())
        process = weighing.enter_context(worker_process(own, self.broker, WEIGH))
        weighing.callback(_end, process)

    def end_weighing(self, own: Trained) -> None:
        """End it by SIGTERM, and wait for its end."""
        self.weighing.pop(own.pipeline.name).close()

    def command(self, *words: str) -> list[str]:
        """A command of the rollout; the two pipelines are added to the first word."""
        name, *options = words
        paths = [str(self.after.file.path), "--from", str(self.before.file.path)]
        return [sys.executable, "-m", "agents", "rollout", name, *paths, *options]

    @property
    def environment(self) -> dict[str, str]:
        """How commands find the broker."""
        return {
            **os.environ, "ANABRANCH_BROKER": self.broker.broker,
            "ANABRANCH_EMBEDDED": str(self.broker.embedded).lower(),
            "ANABRANCH_HOME": str(self.folder),
        }  # fmt: skip

    async def run(self, *words: str, code: int = 0) -> Any:
        """A command's JSON, once it has ended with *code*."""
        done = await asyncio.to_thread(
            subprocess.run, self.command(*words, "--json"), env=self.environment,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if done.stdout else done.stderr

    @contextmanager
    def copying(self) -> Iterator[subprocess.Popen[bytes]]:
        """The copier, as a process; killed in the end."""
        with TemporaryFile() as said:
            process = subprocess.Popen(
                self.command("copy"), env=self.environment, stderr=said, stdout=said
            )
            try:
                yield process
                assert process.poll() in (None, -signal.SIGKILL), "the copier has ended by itself"
            finally:
                process.kill()
                process.wait()
                said.seek(0)
                print("copier:", said.read().decode())

    @asynccontextmanager
    async def asked(self, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """`rollout switch` or `back`, once it asks for the end of the weighing agents.

        While it says that the other pipeline is not ready, it is run again.
        """
        async with asyncio.timeout(PATIENCE_S):
            while True:
                process = await asyncio.create_subprocess_exec(
                    *self.command(name, "--json"), env=self.environment,
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                )  # fmt: skip
                assert process.stderr is not None
                said = (await process.stderr.readline()).decode()
                if "end the weighing agents of" in said:
                    yield process
                    return
                said += (await process.stderr.read()).decode()
                assert "is not ready to take over" in said, said
                await process.wait()

    async def turn(self, name: str) -> Any:
        """`rollout switch` or `back`: the weighing agents end when it says so, and start again."""
        async with self.asked(name) as process:
            for own in (self.before, self.after):
                await asyncio.to_thread(self.end_weighing, own)
            output, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()
        for own in (self.before, self.after):
            self.start_weighing(own)
        return json.loads(output)

    async def compared(self, events: int) -> Any:
        """What `compare` says once both have decided so many events."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                done = await asyncio.to_thread(
                    subprocess.run, self.command("compare", "--json", "--last", "100000"),
                    env=self.environment, capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert done.stdout, done.stderr
                if (content := json.loads(done.stdout))["compared"] >= events:
                    return content
                await asyncio.sleep(1)

    @contextmanager
    def consuming(self) -> Iterator[Ledger]:
        """The consumer of the page, as a process that starts again whenever it has ended."""
        (self.folder / "page.py").write_text(program())
        (self.folder / "run.py").write_text(_RUN)
        ledger = Ledger(self)
        ledger.start()
        try:
            yield ledger
        finally:
            ledger.end()


@dataclass
class Ledger:
    """What the page's consumer has counted."""

    scene: Scene
    process: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> Path:
        """Its database."""
        return self.scene.folder / "decisions.db"

    def start(self) -> None:
        """Start it, at its last commit."""
        name = self.scene.before.pipeline.name
        self.process = subprocess.Popen(
            [sys.executable, str(self.scene.folder / "run.py"), name, str(self.path),
             self.scene.broker.broker],
        )  # fmt: skip

    def end(self) -> None:
        """Kill it, wherever it is."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def rows(self) -> list[tuple[str, str, str, int]]:
        """(event id, pipeline, topic where the producer wrote it, attempt), as counted so far."""
        with suppress(sqlite3.OperationalError):  # no table yet
            database = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
            try:
                rows: list[tuple[str, str, str, int]] = database.execute(
                    "SELECT event_id, pipeline, topic, attempt FROM decision"
                ).fetchall()
                return rows
            finally:
                database.close()
        return []

    async def has(self, count: int) -> None:
        """Wait until so many events are counted; starts the consumer again if it has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while (counted := len(self.rows())) < count:
            assert time.monotonic() < deadline, f"{counted} of {count} events are counted"
            if self.process is not None and self.process.poll() is not None:
                self.start()
            await asyncio.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=PATIENCE_S)


def topic_of(own: Trained) -> str:
    """Where producers of a pipeline publish."""
    return Topology.of(own.pipeline).events


@asynccontextmanager
async def plain_producer(broker: BrokerSettings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer as others have it."""
    kafka = AIOKafkaProducer(bootstrap_servers=broker.broker, acks="all", enable_idempotence=True)
    await kafka.start()
    try:
        yield kafka
    finally:
        await kafka.stop()
