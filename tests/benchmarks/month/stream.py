"""The events of a world, published at so many seconds a day, and what is known of them later.

Days before day 0 are published as fast as they are decided. Afterwards none is shorter than that,
also where some before took longer; and event time waits while a trainer prepares its challengers,
which takes minutes, and no days.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import orjson

from agents.publish import publisher as publishing
from models.simulators.scenario import LabelledEvent
from tests.benchmarks.month.witness import Witness
from tests.benchmarks.month.world import World
from topics.pipeline import Pipeline, Topology, duration_ms
from topics.records import outcome_fields, outcome_of
from topics.settings import BrokerSettings

_CHUNK = 50
_AHEAD = 500
"""Events without a decision: more wait, so that event time is not ahead of what is decided."""
_AHEAD_BEFORE = 4000
"""The same before day 0, where nothing is judged: a few days of events."""
_PREPARED_S = 300.0
"""A trainer is waited for so long at most: it may have ended for good."""
_LOOK_S = 0.05


@dataclass(slots=True)
class Stream:
    """Publishes, and remembers what is true."""

    world: World
    pipeline: Pipeline
    settings: BrokerSettings
    witness: Witness
    truth: dict[str, tuple[float, bool]] = field(default_factory=dict)
    """Event id → its day, and whether it is fraud."""
    day: float = 0.0
    """How far event time has come."""
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Day 0 has come, and all before it is decided."""
    told: dict[str, bool] = field(default_factory=dict)
    """Event id → its outcome, as far as it was published."""
    unknown: int = 0
    """Events whose outcome nobody will know: they were declined."""
    _waiting: deque[tuple[float, LabelledEvent]] = field(default_factory=deque)

    async def run(self, seconds_a_day: float) -> None:
        """Publish all, at *seconds_a_day* or slower, as fast as it is decided."""
        topology, key = Topology.of(self.pipeline), self.pipeline.event.key
        delay_days = duration_ms(self.pipeline.outcomes.delay) / 86_400_000
        chunk, before = list[tuple[bytes, bytes]](), 0.0
        async with publishing.producer(self.settings) as kafka:
            for each in self.world.events():
                name = str(each.event["transaction_id"])
                self.day = self.world.day_of(str(each.event["occurred_at"]))
                self.truth[name] = (self.day, each.label)
                self._waiting.append((self.day + delay_days, each))
                chunk.append(publishing.encoded(each.event, key))
                if len(chunk) < _CHUNK:
                    continue
                await publishing.publish_chunk(kafka, topology.events, topology.partitions, chunk)
                chunk = []
                known = self._known()
                if known:
                    await publishing.publish_chunk(
                        kafka, topology.outcomes, topology.partitions, known
                    )
                if self.day < 0:
                    await self._decided_but(_AHEAD_BEFORE)
                    continue
                if not self.has_begun.is_set():
                    await self._decided_but(0)
                    self.has_begun.set()
                await self._paced((self.day - before) * seconds_a_day)
                before = self.day
            if chunk:
                await publishing.publish_chunk(kafka, topology.events, topology.partitions, chunk)

    async def _paced(self, least_s: float) -> None:
        """Wait so long, until what is published is decided, and challengers are there."""
        until = time.monotonic() + _PREPARED_S
        await asyncio.sleep(least_s)
        while self.witness.prepares_renewal and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        await self._decided_but(_AHEAD)

    async def _decided_but(self, events: int) -> None:
        """Wait until all but so many are decided."""
        while self._ahead > events:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    @property
    def _ahead(self) -> int:
        return len(self.truth) - len(self.witness.decided)

    def _known(self) -> list[tuple[bytes, bytes]]:
        """Outcomes that are known by now: of what was declined only where that was explored."""
        fields, known = outcome_fields(self.pipeline), []
        while self._waiting and self._waiting[0][0] <= self.day:
            at, each = self._waiting.popleft()
            name = str(each.event["transaction_id"])
            decision = self.witness.decided.get(name)
            if decision is None or decision.action == "decline":
                self.unknown += 1
                continue
            # By its own word: its record's time is of a day that takes seconds.
            known_at = self.world.time_of(at).strftime("%Y-%m-%dT%H:%M:%SZ")
            said = orjson.dumps(outcome_of(fields, each.event, label=each.label, known_at=known_at))
            self.told[name] = each.label
            known.append((str(each.event[self.pipeline.event.key]).encode(), said))
        return known
