"""Whether the topics of a pipeline are still those that its workers started with.

A topic can be deleted and made anew, or get more partitions, while workers read and write it. They
would go on without a word: with offsets that mean other records, or without the added partitions.
So the broker is asked again and again, and workers that see such a thing end.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.identity.source_identity import TopicReader
from topics.errors import TopicMismatch, TopicMissing, TopicRecreated
from topics.kafka import TopicIdentity
from topics.pipeline import Topology

log = logging.getLogger(__name__)

LOOK_EVERY_S = 20.0
"""With the time that workers take to end, they have ended within a minute."""

_LAST = 8


class _LastRecord(NamedTuple):
    """The newest record of a source partition when it was last looked at."""

    offset: int
    published_ms: int
    checksum: int


class TopicWatch:
    """Compares the topics of a pipeline with what they were when it was made."""

    def __init__(
        self, tail: TopicReader, topology: Topology, known: Mapping[str, TopicIdentity | None]
    ) -> None:
        self._tail = tail
        self._topology = topology
        self._known = {topic: identity for topic, identity in known.items() if identity is not None}
        self._missing: set[str] = set()
        self._last: dict[TP, _LastRecord] = {}

    @classmethod
    async def begin(
        cls, tail: TopicReader, topology: Topology, earlier: Mapping[str, str] | None = None
    ) -> TopicWatch:
        """Remember the topics as they are now.

        *earlier* has the ids of those that the last worker has dealt with. Raises TopicRecreated,
        TopicMismatch.
        """
        watch = cls(tail, topology, await tail.identities(topology.of_deciding))
        watch._check_still(earlier or {})
        await watch.look()
        return watch

    @property
    def ids(self) -> dict[str, str]:
        """Topic → its id, of those that the broker tells the ids of."""
        return {
            topic: identity.id for topic, identity in self._known.items() if identity.id is not None
        }

    def _check_still(self, earlier: Mapping[str, str]) -> None:
        """Refuse what was made anew while no worker ran, whatever is on it now."""
        topology = self._topology
        snapshots = (topology.state(name) for name in topology.stateful)
        # What is lost with these is lost, and no offset of theirs is known anywhere else.
        may_be_new = {topology.control, topology.redrive, topology.reports, *snapshots}
        for topic, current in self.ids.items():
            if topic not in may_be_new and earlier.get(topic, current) != current:
                self._refuse(
                    topic,
                    f"{topic} has the id {current}, but the workers of {topology.pipeline} dealt "
                    f"with the topic of that name with the id {earlier[topic]}",
                )

    @property
    def known(self) -> Mapping[str, TopicIdentity]:
        """The topics as workers have dealt with them."""
        return self._known

    async def look(self) -> None:
        """Raise TopicRecreated, TopicMismatch or TopicMissing when a topic is not as it was."""
        identities = await self._tail.identities(self._topology.of_deciding)
        for topic, identity in identities.items():
            if identity is None:
                self._miss(topic)
                continue
            self._missing.discard(topic)
            if identity.partitions != self._topology.partitions:
                raise TopicMismatch(topic, identity.partitions, self._topology.partitions)
            before = self._known.setdefault(topic, identity)
            if before.id != identity.id and None not in (before.id, identity.id):
                self._refuse(topic, f"{topic} had the id {before.id}, and has {identity.id} now")
        for source in self._topology.sources:
            identity = identities.get(source)
            if identity is not None and identity.id is None:
                for partition in range(identity.partitions):
                    await self._compare(TP(source, partition))

    def _miss(self, topic: str) -> None:
        """A broker that has just started may not know of a topic: it has to be gone twice."""
        if topic in self._known and topic in self._missing:
            raise TopicMissing(topic)
        self._missing.add(topic)

    async def _compare(self, tp: TP) -> None:
        """Look at the record that was the newest the last time, where there are no ids."""
        first, end = await self._tail.bounds(tp.topic, tp.partition)
        last = self._last.get(tp)
        if last is not None:
            if end <= last.offset:
                self._refuse(
                    tp.topic,
                    f"{tp.topic}[{tp.partition}] had a record at offset {last.offset}, and ends at "
                    f"{end} now",
                )
            for now in await self._records(tp, last.offset, last.offset + 1):
                if (now.timestamp, _checksum(now)) != (last.published_ms, last.checksum):
                    self._refuse(
                        tp.topic,
                        f"{tp.topic}[{tp.partition}]@{last.offset} is another record than before",
                    )
        newest = await self._records(tp, max(first, end - _LAST), end)
        if newest:
            record = newest[-1]
            self._last[tp] = _LastRecord(record.offset, record.timestamp, _checksum(record))

    async def _records(self, tp: TP, start: int, end: int) -> list[ConsumerRecord]:
        return await self._tail.between(tp.topic, tp.partition, start, end)

    def _refuse(self, topic: str, evidence: str) -> NoReturn:
        raise TopicRecreated(topic, evidence, self._topology.pipeline)


def _checksum(record: ConsumerRecord) -> int:
    return zlib.crc32(record.value or b"", zlib.crc32(record.key or b""))


async def raise_changed(watch: TopicWatch, every_s: float = LOOK_EVERY_S) -> None:
    """Look again and again. Raises TopicRecreated, TopicMismatch or TopicMissing."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await watch.look()
        except KafkaError as exc:  # a broker that is away is told of by others
            log.info("the topics could not be looked at: %s", exc)
