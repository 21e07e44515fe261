"""Which worker of a group owns which partition: all topics of one partition number go together.

A join needs partition p of all its inputs. Kafka's range assignor deals out each topic by itself
among those who subscribe to it: while workers of two versions of a pipeline file run side by side,
which read different topics, it gives one partition number to two of them, and both would decide.
Here a partition number has one owner. Of the topics with that number it gets those that it reads;
what only others read waits, at its committed offset, for an owner that reads it too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)


class PartitionNumberAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # it has no types
    """Deals out partition numbers in runs, in the order of member ids."""

    name = "anabranch"
    version = 0

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Each member's topics and partitions."""
        read = {
            member: sorted(set(metadata.subscription))
            for member, metadata in sorted(members.items())
        }
        numbers = {topic: set(cluster.partitions_for_topic(topic) or ())
                   for topics in read.values() for topic in topics}  # fmt: skip
        owners = owners_of({member: set().union(*(numbers[topic] for topic in topics))
                            for member, topics in read.items()})  # fmt: skip
        owned: dict[str, dict[str, list[int]]] = defaultdict(dict)
        for number, member in sorted(owners.items()):
            for topic in read[member]:
                if number in numbers[topic]:
                    owned[member].setdefault(topic, []).append(number)
        return {
            member: ConsumerProtocolMemberAssignment(
                cls.version, sorted(owned[member].items()), b""
            )
            for member in members
        }

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What a member says when it joins."""
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Nothing is remembered from one assignment to the next."""


def owners_of(readable: Mapping[str, set[int]]) -> dict[int, str]:
    """Partition number → the one member that owns it, among those that can read it.

    >>> owners_of({"old": {0, 1, 2}, "new": {0, 1, 2}})
    {0: 'new', 1: 'new', 2: 'old'}
    """
    every = sorted(set().union(*readable.values()))
    owners: dict[int, str] = {}
    for place, number in enumerate(every):
        able = sorted(member for member, numbers in readable.items() if number in numbers)
        owners[number] = able[place * len(able) // len(every)]
    return owners
