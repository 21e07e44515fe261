"""What every worker does: remember how far it got in each partition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.app import StageApp
from agents.in_step import InStep
from agents.stage_metrics import StageMetrics
from agents.tail import TailReader
from topics.fetch import Fetch
from topics.pipeline import Pipeline
from topics.settings import BrokerSettings
from topics.stage_batch import Bools, Ints
from topics.status import PartitionStatus
from topics.topology import Topology

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a worker is connected to."""

    pipeline: Pipeline
    app: StageApp
    settings: BrokerSettings
    metrics: StageMetrics
    in_step: InStep = field(default_factory=InStep)
    """Shared by the components of a process."""

    @property
    def topology(self) -> Topology:
        """The pipeline's topic names."""
        return Topology.of(self.pipeline)

    def observed_by(self, metrics: StageMetrics) -> Wiring:
        """The same, with the metrics of one of the worker's components."""
        return replace(self, metrics=metrics)


class Errands(Protocol):
    """What a worker does about the redrive topic, see `agents.errands`."""

    @property
    def waits(self) -> bool:
        """Some errand cannot be dealt with yet."""

    def forget(self) -> None:
        """Partitions may have new owners: what was read is read again."""

    async def deal(
        self, fetched: Mapping[TP, Sequence[ConsumerRecord]], *, events_flow: bool
    ) -> None:
        """Deal with records of the redrive topic, for a share of the time while events flow."""


class Worker(Generic[State]):
    """Keeps one `State` per source partition, opened from what the broker already holds."""

    errands: Errands | None = None

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.topology = wiring.topology
        self.tail = TailReader(wiring.settings)
        self._states: dict[int, State] = {}
        self._generation: int | None = None

    async def handle(self, fetch: Fetch) -> None:
        """Deal with one fetch; returns when its output is on the broker."""
        if fetch.generation != self._generation:
            self._states.clear()
            self._generation = fetch.generation
            if self.errands is not None:
                self.errands.forget()
        redriven = {tp: it for tp, it in fetch.records.items() if tp.topic == self.topology.redrive}
        if redriven:
            others = {tp: it for tp, it in fetch.records.items() if tp not in redriven}
            fetch = Fetch(others, fetch.generation)
        if fetch.records or not redriven:
            await self.process(fetch)
        if self.errands is not None and (redriven or self.errands.waits):
            await self.errands.deal(redriven, events_flow=bool(fetch.records))
        errand_waits = self.errands is not None and self.errands.waits
        self.wiring.app.batches.wants_ticks = errand_waits or self.waits()

    async def process(self, fetch: Fetch) -> None:
        """The worker's own part of `handle`."""
        raise NotImplementedError

    def waits(self) -> bool:
        """Time alone may give this worker something to do: it gets ticks while nothing comes."""
        return False

    def status(self) -> list[PartitionStatus]:
        """What there is to say of each partition that this worker owns."""
        return [PartitionStatus(partition=p, state="working") for p, _ in self.states()]

    async def open_state(self, partition: int) -> State:
        """The state of a source partition that this worker has just been given."""
        raise NotImplementedError

    async def state(self, partition: int) -> State:
        """The state of a source partition."""
        if partition not in self._states:
            self._states[partition] = await self.open_state(partition)
        return self._states[partition]

    def states(self) -> list[tuple[int, State]]:
        """All open states, by partition."""
        return sorted(self._states.items(), key=lambda item: item[0])


async def all_done(jobs: Sequence[Awaitable[None]]) -> None:
    """Wait for all, also when one fails: no partition is still written when that is told."""
    if len(jobs) == 1:  # no task for it: most of a quiet stream's fetches are of one partition
        await jobs[0]
        return
    for result in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def is_backlog(published_ms: Ints, deadline_ms: int) -> Bools:
    """Which rows are already older than the deadline as the pipeline reads them."""
    return np.asarray(published_ms < time.time() * 1000 - deadline_ms)
