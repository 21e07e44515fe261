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

WORKER = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
"""This process: one that is started again is another, though it may have the same number."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a worker stands with a partition."""

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
class _Spoken:
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
        self._spoken: dict[tuple[int, int | None], _Spoken] = {}

    def opened(self, partition: int, frontier: int) -> None:
        """It is known how far the topic's answers reach, for whoever owns the partition now."""
        self._spoken[partition, None] = _Spoken(frontier=frontier)

    def wrote(self, partition: int, lane: int | None, frontier: int) -> None:
        """Rows up to source offset *frontier* are answered."""
        spoken = self._spoken.setdefault((partition, lane), _Spoken())
        spoken.at, spoken.about = time.monotonic(), ("working", False)
        spoken.frontier = max(spoken.frontier, frontier)

    def reached(self, partition: int, lane: int, frontier: int) -> None:
        """Rows up to source offset *frontier* were answered by whoever had the lane before."""
        spoken = self._spoken.setdefault((partition, lane), _Spoken())
        spoken.frontier = max(spoken.frontier, frontier)

    async def beat(
        self, partition: int, standing: Standing, interval_s: float, lane: int | None = None
    ) -> None:
        """Write a heartbeat if nothing was written for *interval_s*, or what it says is new."""
        spoken = self._spoken.setdefault((partition, lane), _Spoken())
        about = (standing.state, standing.down)
        is_news = about != spoken.about and "waiting" not in (standing.state, spoken.about[0])
        due = time.monotonic() - spoken.at >= interval_s
        if due or is_news or standing.down != spoken.about[1]:
            await self._write(partition, lane, standing, spoken)

    async def tries(self, partition: int, first: int, last: int, lane: int | None = None) -> None:
        """Say that these source offsets are about to be run on: should it end, that is known."""
        spoken = self._spoken.setdefault((partition, lane), _Spoken())
        await self._write(partition, lane, Standing("working"), spoken, tried=(first, last))

    async def _write(
        self, partition: int, lane: int | None, standing: Standing, spoken: _Spoken,
        tried: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        spoken.at, spoken.about = time.monotonic(), (standing.state, standing.down)
        starting = standing.state == "starting"
        heartbeat = Heartbeat(
            component=self._component, partition=partition, lane=lane, worker=WORKER,
            state=standing.state, frontier=-1 if starting else spoken.frontier,
            waiting_for=[*standing.waiting_for], down=standing.down, tried=tried,
        )  # fmt: skip
        await self._app.writer.write(
            self._topic, partition, [heartbeat.record(int(time.time() * 1000))]
        )
