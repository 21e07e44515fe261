"""The rollout protocol: a changed pipeline takes the place of the one that runs, and gives it back.

This is all of it; the modules that play a part in it refer to here. *Before* is the pipeline that
is there, *after* the changed one. It has a name of its own, so all its topics, groups and partition
counts are its own: features, windows, stages and partitions may differ.

*An event is known by where its producer wrote it.* A copy on the other pipeline's events topic says
so in the header `x-origin`; a decision about a copy names it as `origin`. So whichever pipeline has
decided an event, consumers and `compare` know it by the same coordinates.

*Copying* (`copier`). One process copies what stands on before's events and outcomes, from as far
back as after's topics keep records, and goes on with what comes: after is filled and then decides
everything beside before. It also copies, the other way, what producers write to after themselves.
So each pipeline decides every event, wherever it was written, at any time: producers may move one
by one, in either direction, and nothing is lost. Only what a producer wrote is copied back, so
nothing goes in circles. A copy and the position behind it are written in one transaction: a copier
that is killed goes on where it ended, and one that a successor has replaced writes nothing more.

*Comparing* (`comparison`). What both have decided of the same events.

*Switching* (here). Whose decision counts is a record, `rollout`, on before's control topic: a
list of turns, each with the offsets, by events topic and partition, from which on another pipeline
is in service (`topics.records.rollout`). A turn is written so:

1. The pipeline that is to take over is well, and close behind.
2. The weighing agents of both are ended, and their groups are empty: nothing is decided.
3. The ends of both events topics are read. All that has been decided lies before them. They are the
   turn's offsets.
4. The record is written, and read back by a consumer that reads what is committed.
5. The weighing agents are started again. What lies before the offsets is still for the one that was
   in service to decide, so it goes on.

Consumers read the control topic to its end after each fetch of decisions, before they count them
(`deploy/consuming.md`). Every decision about what lies behind the offsets, by either pipeline, is
written after step 4, so whoever has fetched it reads the record too: nobody has counted one of the
pipeline that was in service, nor passed over one of the other. Hence every event counts for exactly
one pipeline, and for the same one to everybody. Going back is another turn: the same steps, the
other way.

Whatever is killed where: before the record is committed nothing has changed, and behind that all
has; the same command again does what is left to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from agents.broker import end_offsets
from agents.control import ControlTopic, now, now_ms, user
from agents.rollout.errors import (
    AlreadyInService,
    DecidedMeanwhile,
    GroupsUnknown,
    NotInService,
    NotReady,
    SamePipeline,
    StillDecides,
)
from agents.status import PipelineStatus, StatusReader
from topics.kafka import client_options
from topics.pipeline import WEIGH, Pipeline, Topology
from topics.records import ROLLOUT, AuditEntry, Rollout, Turn
from topics.settings import BrokerSettings

_LOOK_S, _PATIENCE_S = 0.5, 20.0
_SILENT_S = 60.0
"""A copier that is as silent as that does not run; its clock may be off by as much, less 5 s."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Two pipelines of which one is in service, as before's control topic says."""

    settings: BrokerSettings
    before: Pipeline
    after: Pipeline
    control: ControlTopic
    """Of *before*."""

    def __post_init__(self) -> None:
        """Raises SamePipeline."""
        if self.before.name == self.after.name:
            raise SamePipeline(self.before.name)

    @property
    def rollout(self) -> Rollout:
        """What the control topic says, as far as it is read; a rollout without turns before that.

        One with another pipeline, which has ended with this one in service, is no part of it.
        Raises NotInService.
        """
        pipelines, state = [self.before.name, self.after.name], self.control.state.rollout
        if state is None:
            return Rollout(pipelines=pipelines)
        if state.pipelines != pipelines:
            if state.in_service != self.before.name:
                raise NotInService(self.before.name, state.in_service)
            return Rollout(pipelines=pipelines)
        return state

    async def to(
        self,
        pipeline: Pipeline,
        *,
        reason: str = "",
        most_behind: int,
        wait_s: float,
        tell: Callable[[str], None],
    ) -> Turn:
        """Put *pipeline*, one of the two, into service; the turn that was written.

        *tell* is told what is waited for. Raises NotInService, AlreadyInService, NotReady when it
        is more than *most_behind* records behind, StillDecides after *wait_s*, ChangedMeanwhile,
        DecidedMeanwhile.
        """
        rollout = self.rollout
        if rollout.in_service == pipeline.name:
            raise AlreadyInService(pipeline.name)
        await self._check_ready(pipeline, most_behind)
        await self._wait_for_weighing_agents(wait_s, tell)
        turn = Turn(in_service=pipeline.name, since=await self._ends(), at=now())
        entry = AuditEntry(
            action="switch", what=pipeline.name, version=None, before=None, by=user(),
            reason=reason, at=turn.at,
        )  # fmt: skip
        wanted = rollout.model_copy(update={"turns": [*rollout.turns, turn]})
        await self.control.change({ROLLOUT: wanted}, entry)
        while (
            turn not in self.rollout.turns
        ):  # committed, but not readable yet: markers come behind
            await self.control.more()
        if deciding := await self._deciding():
            raise DecidedMeanwhile(deciding)
        return turn

    async def _check_ready(self, pipeline: Pipeline, most_behind: int) -> None:
        other = Topology.of(self.after if pipeline is self.before else self.before)
        left, silent_s = await self._copying(other)
        if silent_s > _SILENT_S:
            raise NotReady(pipeline.name, "nobody copies: `anabranch rollout copy` has to run")
        if left > most_behind:
            raise NotReady(pipeline.name, f"{left:,} events of {other.events} are not copied yet")
        for name, worker in (await self._status(pipeline)).workers.items():
            for state in ("down", "starting"):
                if those := worker.those(state):
                    raise NotReady(pipeline.name, f"{name} is {state} on {len(those)} partitions")
            lag = max((each.lag or 0 for each in worker.partitions), default=0)
            if lag > most_behind:
                raise NotReady(pipeline.name, f"{name} is {lag:,} records behind")

    async def _copying(self, source: Topology) -> tuple[int, float]:
        """How many events of *source* are not copied yet, and for how long no copier was heard."""
        wanted = [TopicPartition(source.events, p) for p in range(source.partitions)]
        ends = await end_offsets(self.settings, wanted)
        group = Topology.of(self.after).copier
        committed = await self._answer(
            lambda admin: admin.list_consumer_group_offsets(group, partitions=wanted)
        )
        said = [committed.get(tp) for tp in wanted]
        if any(each is None or each.offset < 0 for each in said):
            return sum(ends.values()), inf
        left = sum(max(0, ends[tp] - committed[tp].offset) for tp in wanted)
        newest_ms = max(int(each.metadata or 0) for each in said if each is not None)
        return left, (now_ms() - newest_ms) / 1000

    async def _wait_for_weighing_agents(self, wait_s: float, tell: Callable[[str], None]) -> None:
        until, told = time.monotonic() + wait_s, False
        while deciding := await self._deciding():
            if time.monotonic() > until:
                raise StillDecides(deciding, wait_s)
            if not told:
                tell(f"end the weighing agents of {self.before.name} and {self.after.name} now")
                told = True
            await asyncio.sleep(_LOOK_S)

    async def _deciding(self) -> list[str]:
        """Those of the two pipelines whose weighing agent runs."""
        both = (self.before, self.after)
        if self.settings.embedded:  # it tells nobody who is in a group
            return [each.name for each in both if (await self._status(each)).workers[WEIGH].alive]
        return [each.name for each in both if await self._members(Topology.of(each).group(WEIGH))]

    async def _members(self, group: str) -> int:
        # One group at a time: aiokafka cannot read an answer about two.
        answers = await self._answer(lambda admin: admin.describe_consumer_groups([group]))
        return sum(len(each["members"]) for each in answers[0].to_object()["groups"])

    async def _answer(self, ask: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> Any:
        """What the broker answers, asked again while it cannot. Raises GroupsUnknown."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                async with _admin(self.settings) as admin:
                    return await ask(admin)
            except (KafkaError, AttributeError) as exc:  # aiokafka looks for what some errors lack
                if time.monotonic() > until:
                    raise GroupsUnknown(self.settings.broker, exc) from exc
            await asyncio.sleep(_LOOK_S)

    async def _status(self, pipeline: Pipeline) -> PipelineStatus:
        async with ControlTopic(self.settings, Topology.of(pipeline)) as control:
            return await StatusReader(pipeline, self.settings, control).first()

    async def _ends(self) -> dict[str, list[int]]:
        """The next offsets of both events topics, by partition."""
        of = [Topology.of(pipeline) for pipeline in (self.before, self.after)]
        wanted = [TopicPartition(each.events, p) for each in of for p in range(each.partitions)]
        ends = await end_offsets(self.settings, wanted)
        return {
            each.events: [ends[TopicPartition(each.events, p)] for p in range(each.partitions)]
            for each in of
        }


@asynccontextmanager
async def _admin(settings: BrokerSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
