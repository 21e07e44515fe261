"""The events of a world, published at so many seconds a day, and what is known of them later."""

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
    outcomes: int = 0
    unknown: int = 0
    """Events whose outcome nobody will know: they were declined."""
    _waiting: deque[tuple[float, LabelledEvent]] = field(default_factory=deque)

    async def run(self, seconds_a_day: float) -> None:
        """Publish all, at *seconds_a_day* or slower, as fast as it is decided."""
        topology, key = Topology.of(self.pipeline), self.pipeline.event.key
        delay_days = duration_ms(self.pipeline.outcomes.delay) / 86_400_000
        started, chunk = time.monotonic(), list[tuple[bytes, bytes]]()
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
                await self._paced(started, seconds_a_day)
            if chunk:
                await publishing.publish_chunk(kafka, topology.events, topology.partitions, chunk)

    async def _paced(self, started: float, seconds_a_day: float) -> None:
        """Wait until more is due, and what is published is decided."""
        due = started + self.day * seconds_a_day
        while time.monotonic() < due or self._ahead > _AHEAD:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    @property
    def _ahead(self) -> int:
        return len(self.truth) - len(self.witness.decided)

    def _known(self) -> list[tuple[bytes, bytes]]:
        """Outcomes that are known by now: of what was declined only where that was explored."""
        fields, known = outcome_fields(self.pipeline), []
        while self._waiting and self._waiting[0][0] <= self.day:
            _, each = self._waiting.popleft()
            decision = self.witness.decided.get(str(each.event["transaction_id"]))
            if decision is None or decision.action == "decline":
                self.unknown += 1
                continue
            said = orjson.dumps(outcome_of(fields, each.event, label=each.label))
            known.append((str(each.event[self.pipeline.event.key]).encode(), said))
        self.outcomes += len(known)
        return known
