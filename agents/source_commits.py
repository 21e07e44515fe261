"""How far a pipeline has read its events, as its consumer groups have committed it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from topics.connection import client_options
from topics.settings import BrokerSettings
from topics.topology import WEIGH, Topology

_STILL_S = 3.0


class SourceCommits:
    """The furthest commit of any group of the pipeline, and for how long it has stood."""

    def __init__(self, settings: BrokerSettings, topology: Topology) -> None:
        self._settings = settings
        self._topology = topology
        self._still_s = max(_STILL_S, 2 * settings.commit_interval_s)
        self._stood: dict[int, tuple[int, float]] = {}
        """Partition → the next offset to be read, and since when that is so."""
        self.known = True
        """Whether we may see commits, and there are any."""

    async def look(self, partitions: Iterable[int]) -> None:
        """Ask how far *partitions* of the events topic were read."""
        now, asked = time.monotonic(), list(partitions)
        try:
            furthest = await self._furthest(asked)
        except KafkaError:  # most often that we may not: then nothing is claimed
            self.known = False
            return
        self.known = bool(furthest)
        for partition in asked:
            offset = furthest.get(partition, 0)
            if self._stood.get(partition, (-1, 0.0))[0] != offset:
                self._stood[partition] = offset, now

    def read_to(self, partition: int) -> int | None:
        """Events from here on were not read by anybody; None when that is not known (yet)."""
        if not self.known or partition not in self._stood:
            return None
        return self._stood[partition][0]

    def waits(self, partitions: Iterable[int]) -> bool:
        """A worker may have read more than it has committed: look again in a moment."""
        now = time.monotonic()
        since = [self._stood[p][1] for p in partitions if p in self._stood]
        return self.known and any(now - at < self._still_s for at in since)

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
