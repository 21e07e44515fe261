"""Signs of life on a component's topic: heartbeats where nothing else has been written for long."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from agents.workers.app import StageApp
from topics.records import AwaitedInput, Heartbeat, PartitionStatus, State

WORKER_RUN = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
"""This process: one that is started again is another, though it may have the same number."""


WORKER_ENDED = "WorkerEnded"
"""The error of a row at which workers end, see `agents.recovery.poison_rows`."""


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    """How a worker gets on with a partition."""

    state: State
    waiting_for: Mapping[str, AwaitedInput] = field(default_factory=dict)
    rows: int = 0
    oldest_ms: int | None = None

    @property
    def down(self) -> bool:
        """Something that it waits for is down."""
        return any(awaited.down for awaited in self.waiting_for.values())

    def status(self, partition: int) -> PartitionStatus:
        """The same as people are told it."""
        return PartitionStatus(
            partition=partition, state=self.state, waiting_for=dict(self.waiting_for),
            rows=self.rows, oldest_ms=self.oldest_ms,
        )  # fmt: skip


@dataclass(slots=True)
class _LastSign:
    """What was last said of a source partition, and when (monotonic seconds)."""

    at: float = float("-inf")
    about: tuple[State, bool] = ("starting", False)
    frontier: int = -1


class StagePulse:
    """What a component says on its topic, by source partition, and lane if it has lanes."""

    def __init__(self, app: StageApp, component: str, topic: str) -> None:
        self._app = app
        self._component = component
        self._topic = topic
        self._last_signs: dict[tuple[int, int | None], _LastSign] = {}

    def opened(self, partition: int, frontier: int) -> None:
        """It is known how far the topic's answers reach, for whoever owns the partition now."""
        self._last_signs[partition, None] = _LastSign(frontier=frontier)

    def wrote(self, partition: int, lane: int | None, frontier: int) -> None:
        """Rows up to source offset *frontier* are answered."""
        sign = self._last_signs.setdefault((partition, lane), _LastSign())
        sign.at, sign.about = time.monotonic(), ("working", False)
        sign.frontier = max(sign.frontier, frontier)

    def reached(self, partition: int, lane: int, frontier: int) -> None:
        """Rows up to source offset *frontier* were answered by whoever had the lane before."""
        sign = self._last_signs.setdefault((partition, lane), _LastSign())
        sign.frontier = max(sign.frontier, frontier)

    async def beat(
        self, partition: int, health: PartitionHealth, interval_s: float, lane: int | None = None
    ) -> None:
        """Write a heartbeat if nothing was written for *interval_s*, or what it says is new."""
        sign = self._last_signs.setdefault((partition, lane), _LastSign())
        about = (health.state, health.down)
        is_news = about != sign.about and "waiting" not in (health.state, sign.about[0])
        due = time.monotonic() - sign.at >= interval_s
        if due or is_news or health.down != sign.about[1]:
            await self._write(partition, lane, health, sign)

    async def tries(self, partition: int, first: int, last: int, lane: int | None = None) -> None:
        """Say that these source offsets are about to be run on: should it end, that is known."""
        sign = self._last_signs.setdefault((partition, lane), _LastSign())
        await self._write(partition, lane, PartitionHealth("working"), sign, tried=(first, last))

    async def _write(
        self, partition: int, lane: int | None, health: PartitionHealth, sign: _LastSign,
        tried: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        sign.at, sign.about = time.monotonic(), (health.state, health.down)
        starting = health.state == "starting"
        heartbeat = Heartbeat(
            component=self._component, partition=partition, lane=lane, worker=WORKER_RUN,
            state=health.state, frontier=-1 if starting else sign.frontier,
            waiting_for=[*health.waiting_for], down=health.down, tried=tried,
        )  # fmt: skip
        await self._app.writer.write(
            self._topic, partition, [heartbeat.record(int(time.time() * 1000))]
        )
