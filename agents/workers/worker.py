"""What every worker does: own partitions, and remember how far it got in each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.workers.attended_clock import AttendedClock
from agents.workers.signs_of_life import SignsOfLife
from agents.workers.stage_pulse import PartitionHealth, StagePulse
from agents.workers.topic_tail import TailReader
from agents.workers.wiring import Wiring
from topics.errors import LeaseLost
from topics.records import HEARTBEAT_HEADER, PartitionStatus
from topics.transport import Fetch

log = logging.getLogger(__name__)

State = TypeVar("State")

_OPEN_AGAIN_S = 1.0


class Redrive(Protocol):
    """What a worker does about the redrive topic, see `agents.redrive.component_redrive`."""

    @property
    def waits(self) -> bool:
        """Some redrive record cannot be dealt with yet."""

    def forget(self) -> None:
        """Partitions may have new owners: what was read is read again."""

    async def deal(
        self, fetched: Mapping[TP, Sequence[ConsumerRecord]], *, events_flow: bool
    ) -> None:
        """Deal with records of the redrive topic, for a share of the time while events flow."""


class Worker(Generic[State]):
    """Keeps one `State` per source partition, opened from what the broker already holds.

    A partition is this worker's while *all* of its `sources` are assigned to it: with workers of
    another version of the pipeline file beside it some may be read by nobody for a time.
    """

    redrive: Redrive | None = None

    def __init__(self, wiring: Wiring, sources: Sequence[str]) -> None:
        self.wiring = wiring
        self.topology = wiring.topology
        self.tail = TailReader(wiring.settings)
        self.sources = sources
        self.stall_timeout_s = wiring.pipeline.weighting.stall_timeout_s
        deaf_after_s = wiring.settings.session_timeout_s / 3
        self.clock = AttendedClock(lambda: wiring.app.batches.silent_s > deaf_after_s)
        self._states: dict[int, State] = {}
        self._generation: int | None = None
        self.owned: list[int] = []
        """The partitions that are this worker's, ascending."""
        self.steps = 0
        """Fetches that it has begun to deal with, and portions of these that are dealt with."""
        self._signs = SignsOfLife(self)

    def _assigned(self) -> list[int]:
        """The partitions of which every source is assigned to this worker, ascending."""
        assigned = self.wiring.app.batches.assignment()
        return [
            partition
            for partition in range(self.topology.partitions)
            if all(TP(topic, partition) in assigned for topic in self.sources)
        ]

    async def handle(self, fetch: Fetch) -> None:
        """Deal with one fetch; returns when its output is on the broker."""
        if fetch.generation != self._generation:
            self._states.clear()
            self._generation = fetch.generation
            self.owned = self._assigned()
            # At once: others may be back before it has opened what it owns, and decide without it.
            await self._signs.give()
            self._leave_alone_what_is_not_owned()
            if self.redrive is not None:
                self.redrive.forget()
        self.steps += 1
        # Also those that nothing has come for: what they are silent about is known of all others.
        for partition in self.owned:
            await self.state(partition)
        redriven = {
            tp: records
            for tp, records in fetch.records.items()
            if tp.topic == self.topology.redrive
        }
        others = {
            tp: records
            for tp, records in fetch.records.items()
            if tp not in redriven and tp.partition in self._states
        }
        if others or not redriven:
            await self.process(Fetch(others, fetch.generation))
        if self.redrive is not None and (redriven or self.redrive.waits):
            await self.redrive.deal(redriven, events_flow=_has_rows(others))
        redrive_waits = self.redrive is not None and self.redrive.waits
        self.wiring.app.batches.wants_ticks = redrive_waits or self.waits()

    def _leave_alone_what_is_not_owned(self) -> None:
        """Members of earlier versions deal out each topic by itself."""
        batches = self.wiring.app.batches
        batches.pause_only(
            {tp for tp in batches.assignment()
             if tp.topic in self.sources and tp.partition not in self.owned},
            reader="owner",
        )  # fmt: skip

    async def process(self, fetch: Fetch) -> None:
        """The worker's own part of `handle`."""
        raise NotImplementedError

    def waits(self) -> bool:
        """Time alone may give this worker something to do: it gets ticks while nothing comes."""
        return False

    async def open_state(self, partition: int) -> State:
        """The state of a source partition that this worker has just been given."""
        raise NotImplementedError

    async def state(self, partition: int) -> State:
        """The state of a source partition."""
        while partition not in self._states:
            try:
                self._states[partition] = await self.open_state(partition)
            except KafkaError as exc:
                if not exc.retriable:
                    raise
                if not self.is_current:  # another generation has begun, and opens it itself
                    app = self.wiring.app
                    raise LeaseLost(app.conf.id, app.batches.silent_s) from exc
                # A broker that is away comes back, or its silence ends the process.
                log.warning("partition %d is not open yet, tried again: %s", partition, exc)
                await asyncio.sleep(_OPEN_AGAIN_S)
        return self._states[partition]

    def states(self) -> list[tuple[int, State]]:
        """All open states, by partition."""
        return sorted(self._states.items(), key=lambda item: item[0])

    # -- what it says of itself, see `SignsOfLife`

    def pulses(self) -> Sequence[StagePulse]:
        """The topics that it writes, for signs of life; none for what writes no stage topic."""
        return ()

    def health(self, partition: int) -> PartitionHealth:
        """What is to be said of one of its partitions."""
        return PartitionHealth("working" if partition in self._states else "starting")

    def status(self) -> list[PartitionStatus]:
        """What there is to say of each partition that this worker owns."""
        return [
            self.health(partition).status(partition)
            for partition in (self.owned if self.is_current else ())
        ]

    @property
    def is_current(self) -> bool:
        """It knows of its last assignment; what it says otherwise may be another's by now."""
        return self._generation == self.wiring.app.consumer_generation_id

    def lag(self) -> dict[int, int]:
        """Each partition that this worker owns → records left to do, of all its topics."""
        consumer = self.wiring.app.batches
        behind = dict.fromkeys(self.owned, 0)
        for tp in consumer.assignment():
            if tp.partition in behind:
                behind[tp.partition] += consumer.lag_of(tp)
        return behind

    async def beat(self) -> None:
        """Give a sign of life for every partition, whenever one is due, for ever."""
        await self._signs.beat()

    async def give_signs(self, interval_s: float) -> None:
        """Write a heartbeat wherever nothing was written for *interval_s*, or something is new."""
        await all_done([
            pulse.beat(partition, self.health(partition), interval_s)
            for partition in self.owned
            for pulse in self.pulses()
        ])  # fmt: skip


def _has_rows(records: Mapping[TP, Sequence[ConsumerRecord]]) -> bool:
    """Some are events or rows: heartbeats alone also come where nothing flows."""
    return any(
        all(name != HEARTBEAT_HEADER for name, _ in record.headers)
        for fetched in records.values()
        for record in fetched
    )


async def all_done(jobs: Sequence[Awaitable[None]]) -> None:
    """Wait for all, also when one fails: no partition is still written when that is told."""
    if len(jobs) == 1:  # no task for it: most of a quiet stream's fetches are of one partition
        await jobs[0]
        return
    for result in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
