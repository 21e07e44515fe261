"""Which of several monitors of a pipeline is the active one: the one that has waited longest.

Monitors form a consumer group, and whoever is given partition 0 of `<pipeline>.monitor.state` is
active; the others stand by, and one of them goes on when it is gone. Partitions are dealt out by
seniority, so one that joins takes nothing away; one that was frozen, and is back, is the eldest. On
a cluster that is not all: a new active one fences what the one before writes
(`agents.monitor.monitor_writer`), which may not have noticed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import aiokafka
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from agents.monitor.errors import MonitorStopped
from topics.kafka import client_options, close_client
from topics.pipeline import MONITOR, Topology
from topics.settings import BrokerSettings

STATE_PARTITION = 0
"""Of `<pipeline>.monitor.state`: all that is written there is on it."""
_POLL_MS = 500


class SeniorityAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # it has no types
    """Gives all partitions to the member that says to have been there for longest."""

    name = "anabranch-seniority"
    version = 0
    since = b"%020d" % time.time_ns()
    """When this process began."""

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Each member's topics and partitions."""
        eldest = min(members, key=lambda member: (members[member].user_data, member))
        of_eldest = [
            (topic, sorted(cluster.partitions_for_topic(topic) or ()))
            for topic in sorted(members[eldest].subscription)
        ]
        return {
            member: ConsumerProtocolMemberAssignment(
                cls.version, of_eldest if member == eldest else [], b""
            )
            for member in members
        }

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What a member says when it joins."""
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), cls.since)

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Nothing is remembered from one assignment to the next."""


class Election(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Whether this process is the active monitor."""

    def __init__(self, state: TopicPartition) -> None:
        self._state = state
        self._won, self._lost = asyncio.Event(), asyncio.Event()
        self._next_turn = asyncio.Event()
        self.turn = 0
        """How often it was said who is the active one."""

    @property
    def is_won(self) -> bool:
        """This process is the active one."""
        return self._won.is_set()

    async def won(self) -> None:
        """Wait until this process is the active one."""
        await self._won.wait()

    async def lost(self) -> None:
        """Wait until another one may be."""
        await self._lost.wait()

    async def turn_after(self, turn: int) -> None:
        """Wait until it is said again who is the active one: this process, or another."""
        while self.turn == turn:
            await self._next_turn.wait()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """What this process is given, all at once."""
        self.turn += 1
        self._next_turn.set()
        self._next_turn = asyncio.Event()
        if self._state in assigned:
            self._lost.clear()
            self._won.set()
        else:
            self._won.clear()
            self._lost.set()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Nothing: nobody else is given anything before it is known who gets what now."""


@asynccontextmanager
async def election(settings: BrokerSettings, topology: Topology) -> AsyncIterator[Election]:
    """Take part in the election meanwhile. Raises MonitorStopped."""
    consumer = aiokafka.AIOKafkaConsumer(
        **client_options(settings), group_id=topology.group(MONITOR), enable_auto_commit=False,
        session_timeout_ms=int(settings.session_timeout_s * 1000),
        partition_assignment_strategy=(SeniorityAssignor,),
    )  # fmt: skip
    taking_part = Election(TopicPartition(topology.monitor_state, STATE_PARTITION))
    await consumer.start()
    polling: asyncio.Task[None] | None = None
    try:
        consumer.subscribe([topology.monitor_state], listener=taking_part)
        polling = asyncio.create_task(_stay(consumer, topology.group(MONITOR)))
        yield taking_part
        if polling.done():
            polling.result()
    finally:
        if polling is not None:
            polling.cancel()
        await close_client(consumer)


async def _stay(consumer: aiokafka.AIOKafkaConsumer, group: str) -> None:
    """Say again and again that this process is there; of the topic nothing is read this way."""
    try:
        while True:
            consumer.pause(*consumer.assignment())
            await consumer.getmany(timeout_ms=_POLL_MS)
    except KafkaError as exc:
        raise MonitorStopped(group, exc) from exc
