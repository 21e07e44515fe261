"""How far a pipeline has come with its events, where some of them are gone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from topics.kafka import client_options
from topics.pipeline import WEIGH, Topology
from topics.settings import BrokerSettings

_STILL_S = 3.0


class _State(NamedTuple):
    read_to: int | None
    """The next event that would be read, of the group that is furthest; None where that is not
    known: we may not see it, or no group has committed."""
    last_end: int
    """The last source offset with a decision or a dead letter."""


class SourceCommits:
    """How far a pipeline is with partitions of which events are gone, and whether it moves.

    An event that is gone may be in a worker's hand, with more to come. Once neither commits nor
    ends have moved for longer than a worker takes from the one to the other, it is not.
    """

    def __init__(self, settings: BrokerSettings, topology: Topology) -> None:
        self._settings = settings
        self._topology = topology
        self._still_s = max(_STILL_S, 2 * settings.commit_interval_s)
        self._states: dict[int, tuple[_State, float]] = {}

    async def look(self, last_ends: Mapping[int, int]) -> None:
        """Look at these partitions of the events topic; with the last end of each."""
        try:
            furthest = await self._furthest(list(last_ends)) if last_ends else {}
        except KafkaError:  # most often that we may not: then nothing is claimed
            furthest = {}
        now = time.monotonic()
        for partition, last_end in last_ends.items():
            # No group has read of this one, if any has of another.
            state = _State(furthest.get(partition, 0) if furthest else None, last_end)
            known = self._states.get(partition)
            if known is None or known[0] != state:
                self._states[partition] = state, now
        for partition in self._states.keys() - last_ends.keys():
            del self._states[partition]

    def moves(self) -> bool:
        """Whether a partition has moved a moment ago: what is gone there may be in flight."""
        return any(self._moves(partition) for partition in self._states)

    def _moves(self, partition: int) -> bool:
        return time.monotonic() - self._states[partition][1] < self._still_s

    def standing(self, partition: int, first: int) -> tuple[int | None, int]:
        """`read_to` and `ended_to` of a view of the partition, whose first event is at *first*."""
        if partition not in self._states:
            return None, -1
        if self._moves(partition):
            return first, -1  # all that is gone may be in flight
        read_to, last_end = self._states[partition][0]
        return read_to, last_end

    async def _furthest(self, partitions: list[int]) -> dict[int, int]:
        names = (*self._topology.components, WEIGH)
        wanted = [TopicPartition(self._topology.events, partition) for partition in partitions]
        furthest: dict[int, int] = {}
        admin = AIOKafkaAdminClient(**client_options(self._settings))
        await admin.start()
        try:
            groups = {self._topology.group(name) for name in names}
            with suppress(KafkaError):  # the embedded broker lists none
                prefix = f"{self._topology.pipeline}."
                listed = [group for group, *_ in await admin.list_consumer_groups()]
                groups.update(group for group in listed if group.startswith(prefix))
            for group in sorted(groups):
                committed = await admin.list_consumer_group_offsets(group, partitions=wanted)
                for tp, about in committed.items():
                    if about.offset >= 0:
                        furthest[tp.partition] = max(furthest.get(tp.partition, 0), about.offset)
        finally:
            await admin.close()
        return furthest
