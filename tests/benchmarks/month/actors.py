"""The processes of a month: workers, trainer, monitor; started again, and killed at random."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from topics.settings import BrokerSettings

_LOOK_S = 0.5


@dataclass(slots=True)
class Actor:
    """A process that a supervisor starts again whenever it has ended."""

    name: str
    words: Sequence[str]
    home: Path
    settings: BrokerSettings
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0
    exits: Counter[int] = field(default_factory=Counter)

    def start(self) -> None:
        """Start it."""
        environment = {
            **os.environ,
            "ANABRANCH_HOME": str(self.home),
            "ANABRANCH_BROKER": self.settings.broker,
            "ANABRANCH_CREATE_TOPICS": "true",
        }
        with (self.home / f"{self.name}.log").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agents", *self.words],
                env=environment, stdout=said, stderr=said,
            )  # fmt: skip

    def kill(self) -> None:
        """End it in whatever it does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.kills += 1

    def look(self) -> None:
        """Start it again if it has ended."""
        if self.process is not None and (code := self.process.poll()) is not None:
            self.exits[code] += 1
            self.start()

    def end(self) -> None:
        """End it for good."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


async def supervised(
    actors: Sequence[Actor], begun: asyncio.Event, *, kill_every_s: float | None, seed: int
) -> None:
    """Start them, start them again, and once it has *begun* kill one now and then; for ever.

    Each is killed once before any is killed again, in an order that is drawn anew each time.
    """
    rng, victims = random.Random(seed), list[Actor]()
    for actor in actors:
        actor.start()
    loop = asyncio.get_running_loop()
    due: float | None = None
    try:
        while True:
            await asyncio.sleep(_LOOK_S)
            for actor in actors:
                actor.look()
            if kill_every_s is None or not begun.is_set():
                continue
            if due is not None and loop.time() >= due:
                victims = victims or rng.sample(actors, len(actors))
                victims.pop().kill()
                due = None
            if due is None:
                due = loop.time() + rng.uniform(0.5, 1.5) * kill_every_s
    finally:
        for actor in actors:
            actor.end()
