"""What an audit has to say besides its numbers: sentences, with what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agents.audit.identity_sample import Mismatch
from agents.broker import topic_settings
from topics.pipeline import Topology
from topics.settings import BrokerSettings

_ANEW = (
    "delete the pipeline's other topics and its consumer groups too, or give the pipeline a new "
    "name"
)


def partition_findings(topology: Topology, counts: Mapping[str, int]) -> Iterator[str]:
    """About topics with other partition counts than the pipeline file says."""
    for topic, count in counts.items():
        if count != topology.partitions:
            unread = (
                f"no worker reads its partitions from {topology.partitions} on, and keys have moved"
                if topic == topology.events and count > topology.partitions
                else "every topic of a pipeline needs the same count"
            )
            yield (
                f"{topic} has {count} partitions, the pipeline file says {topology.partitions}: "
                f"{unread}; make a pipeline of a new name with as many, and publish there what "
                "has no end here"
            )


def identity_findings(
    topology: Topology, far: Mapping[int, int], ends: Mapping[int, int], others: Iterable[Mismatch]
) -> Iterator[str]:
    """About ends of events that are not the ones at their coordinates.

    *far* is the highest source offset with an end, by partition, where the events end before that.
    """
    for partition, offset in far.items():
        yield (
            f"{topology.decisions}[{partition}] or {topology.dead_letters}[{partition}] says how "
            f"offset {offset} ended, but {topology.events}[{partition}] ends at {ends[partition]}: "
            f"the events topic was deleted and made anew, or this is no end of ours; {_ANEW}"
        )
    first: dict[int, Mismatch] = {}
    for other in others:
        first.setdefault(other.partition, other)
    for partition, other in first.items():
        yield (
            f"{topology.decisions}[{partition}]@{other.decision} decides another event than is at "
            f"{topology.events}[{partition}]@{other.source} ({other.reason}): the events topic was "
            f"deleted and made anew, and its events are taken for those of before; {_ANEW}"
        )


def anew_finding(topic: str, partition: int) -> str:
    """About a partition that ends before what was read of it."""
    return (
        f"{topic}[{partition}] ends before what was read of it: it was deleted and made anew, or "
        f"its broker has lost records; it is not read on. Start the audit again; {_ANEW}"
    )


def removal_findings(
    removed: Mapping[str, int], compacted: Iterable[str], lost: int
) -> Iterator[str]:
    """About topics in whose middle records are missing: the likely reason for what is lost."""
    compacted = set(compacted)
    for topic, number in removed.items():
        if topic in compacted and (number or lost):
            yield (
                f"{topic} is compacted (cleanup.policy=compact): Kafka has deleted {number:,} of "
                f"its records, those that a later one with the same key replaces, and {lost:,} "
                "events that count as lost may have had their end there; set cleanup.policy=delete"
            )
        elif number:
            yield (
                f"{topic} lacks {number:,} offsets in its middle: somebody has deleted records, or "
                f"the topic was compacted for a while; {lost:,} events that count as lost may have "
                "had their end there"
            )


def unjudged_note(topology: Topology, unjudged: int) -> str:
    """About offsets that nobody can say anything of."""
    return (
        f"{unjudged:,} offsets cannot be judged: their end, if they had one, may have been on "
        f"{topology.decisions} or {topology.dead_letters} before the first record that is still "
        f"there, or they were none of {topology.events}'s records but its transactions' markers"
    )


async def compacted_topics(settings: BrokerSettings, topics: Iterable[str]) -> set[str]:
    """Those of *topics* whose settings say that they are compacted; none where we may not ask."""
    by_topic = await topic_settings(settings, topics)
    return {topic for topic, given in by_topic.items() if "compact" in given["cleanup.policy"]}
