"""A pipeline under load in processes of its own, to which things happen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka.structs import TopicPartition

from agents.broker.log_follower import follower
from agents.broker.reach import ensure_topics
from models.simulators import LabelledEvent
from tests.faults.verdict import behind
from tests.integration.harness import Trained
from tests.integration.test_windows import CHUNK, publish_with_outcomes
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

LOOK_S = 0.1
PATIENCE_S = 240.0
"""For so long nothing may end before a test gives up: how fast it goes is the machine's affair."""


@dataclass
class Workers:
    """Components in one process, which a supervisor starts again when it ends."""

    trained: Trained
    broker: BrokerSettings
    components: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)
    """Other than those that ship: none, but for the tests that say why."""
    words: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    code: Path | None = None
    """Of another version of Anabranch; None for this one."""
    process: subprocess.Popen[bytes] | None = None
    said: Path | None = None
    exits: list[int] = field(default_factory=list)
    """Exit codes so far."""

    def start(self) -> None:
        """Start the process."""
        settings = {"broker": self.broker.broker, "home": str(self.trained.home), **self.settings}
        named = [word for name in self.components for word in ("--component", name)]
        self.said = self.trained.home / f"said-{'-'.join(self.components)}-{id(self)}.txt"
        with self.said.open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agents", "run", str(self.trained.file.path), *named,
                 *self.words],
                env={
                    **os.environ, **self.environment,
                    **({"PYTHONPATH": str(self.code)} if self.code else {}),
                    **{f"ANABRANCH_{k.upper()}": v for k, v in settings.items()},
                },
                cwd=self.code, stderr=said, start_new_session=True,
            )  # fmt: skip

    async def up(self) -> None:
        """Wait until its components own partitions."""
        while self.said is None or "running on" not in self.said.read_text():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)

    def signal(self, number: signal.Signals) -> None:
        """Send *number* to the process."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    async def ended(self, timeout_s: float) -> int:
        """Wait until the process ends; its exit code."""
        assert self.process is not None
        code = await asyncio.to_thread(self.process.wait, timeout_s)
        self.exits.append(code)
        return code

    async def killed(self) -> None:
        """Kill it in whatever it does."""
        self.signal(signal.SIGKILL)
        await self.ended(10)

    async def supervised(self) -> None:
        """Start it again each time it ends by itself, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.process is not None and self.process.poll() is not None:
                self.exits.append(self.process.returncode)
                self.start()

    @asynccontextmanager
    async def supervision(self) -> AsyncIterator[None]:
        """A supervisor meanwhile, as a deployment has one."""
        supervisor = asyncio.create_task(self.supervised())
        try:
            yield
        finally:
            supervisor.cancel()


class Progress(NamedTuple):
    """How far the events have come, by partition."""

    published: Sequence[int]
    ended: Sequence[int]


@dataclass
class Scene:
    """Events that flow, and how far they have come."""

    trained: Trained
    broker: BrokerSettings
    events: int
    may_degrade: bool = False
    """Decisions without a stage are no fault here."""
    invalid: int = 0
    """Events that cannot be valid: a dead letter is their right end."""
    progress: Progress = Progress((), ())  # noqa: RUF009  # it is immutable
    recoveries: list[float] = field(default_factory=list)
    """Seconds until an event that was published after the fault had ended, in every partition."""
    _workers: list[Workers] = field(default_factory=list)

    def workers(
        self, *components: str, words: Sequence[str] = (), of: Trained | None = None,
        environment: Mapping[str, str] | None = None, code: Path | None = None, **settings: str,
    ) -> Workers:  # fmt: skip
        """Start components in a process of their own, which ends with the scene.

        They are those of the scene's pipeline file, or of another version *of* it.
        """
        made = Workers(
            of or self.trained,
            self.broker,
            components,
            settings,
            words,
            environment or {},
            code,
        )
        made.start()
        self._workers.append(made)
        return made

    def end(self) -> None:
        """End every process; what each has said is shown with a failure of the test."""
        for each in self._workers:
            if each.process is not None:
                each.signal(signal.SIGCONT)
                each.process.kill()
                each.process.wait()
            if each.said is not None:
                print(f"{each.components} ended {each.exits}:", each.said.read_text()[-2000:])

    async def published(self, count: int) -> None:
        """Wait until *count* events are published."""
        await self._until(lambda: sum(self.progress.published) >= count, f"{count} published")

    async def ended(self, count: int) -> None:
        """Wait until *count* events have ended."""
        await self._until(lambda: sum(self.progress.ended) >= count, f"{count} ended")

    async def recovered(self) -> None:
        """Wait until what is published from now on ends again, and note how long that took."""
        began, before = time.monotonic(), self.progress.published
        if sum(before) >= self.events:  # nothing flows any more: what there is has to end
            await self.ended(self.events)
            self.recoveries.append(time.monotonic() - began)
            return
        await self._until(
            lambda: all(n > m for n, m in zip(self.progress.ended, before, strict=True)),
            f"more than {before} ended",
        )
        self.recoveries.append(time.monotonic() - began)

    async def _until(self, reached: Callable[[], bool], wanted: str) -> None:
        ended, deadline = self.progress.ended, time.monotonic() + PATIENCE_S
        while not reached():
            if self.progress.ended != ended:
                ended, deadline = self.progress.ended, time.monotonic() + PATIENCE_S
            if time.monotonic() > deadline:
                left = await behind(self.trained, self.broker)
                pytest.fail(f"{self.progress}, but there should be {wanted}; behind are {left}")
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def streaming(
    trained: Trained,
    broker: BrokerSettings,
    labelled: Sequence[LabelledEvent],
    *,
    rate: float,
    most: int = CHUNK,
    replication: int = 1,
) -> AsyncIterator[Scene]:
    """Publish *labelled* at *rate* meanwhile, *most* at once; in the end all of it must end."""
    topology = Topology.of(trained.pipeline)
    await ensure_topics(broker, topology, replication=replication)
    scene = Scene(trained, broker, len(labelled))
    publishing = asyncio.create_task(
        publish_with_outcomes(broker, trained.pipeline, labelled, rate, most=most)
    )
    watching = asyncio.create_task(_watch(scene, topology))
    try:
        yield scene
        await publishing
        await scene.ended(len(labelled))
    finally:
        scene.end()
        for task in (publishing, watching):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _watch(scene: Scene, topology: Topology) -> None:
    """Note again and again how many events there are, and how many have ended."""
    partitions = range(topology.partitions)
    topics = (topology.events, topology.decisions, topology.dead_letters)
    async with follower(scene.broker, topics, topology.partitions, from_start=False) as consumer:
        every = [TopicPartition(topic, p) for topic in topics for p in partitions]
        while True:
            with suppress(Exception):  # brokers are away: that is what this is about
                ends = await consumer.end_offsets(every)
                at = {(tp.topic, tp.partition): end for tp, end in ends.items()}
                published = [at[topology.events, p] for p in partitions]
                ended = [sum(at[topic, p] for topic in topics[1:]) for p in partitions]
                scene.progress = Progress(published, ended)
            await asyncio.sleep(LOOK_S)
