"""What the topics say after a fault, read by a plain consumer and judged without our audit."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.broker.log_follower import follower
from tests.integration.harness import Trained, records_of
from topics.pipeline.fields import EVENTS
from topics.pipeline.topology import WEIGH, Topology
from topics.records.wire import decode
from topics.settings import BrokerSettings

Reference = Mapping[str, Mapping[str, float]]
"""Event id → stage → signal, as one process computes them without any broker."""

Source = tuple[int, int]
"""Partition and offset of an event."""


@dataclass(frozen=True)
class Verdict:
    """How the events of one run have ended."""

    events: int
    lost: int
    """Event ids that neither a decision nor a dead letter is about."""
    duplicated: int
    """Ends of an event id beyond its first."""
    dead: int
    """Dead letters."""
    wrong: int
    """Decisions that are not what one process says of the same events without any broker."""
    degraded: int
    disordered: int
    """Decisions that are behind a later event's in their partition."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Stage and why it is missing → how many decisions lack it."""

    @property
    def passed(self) -> bool:
        """Every event got one decision, in order, and as it does without faults."""
        return not (self.lost or self.duplicated or self.dead or self.wrong or self.degraded
                    or self.disordered)  # fmt: skip


async def judged(trained: Trained, broker: BrokerSettings, reference: Reference | None) -> Verdict:
    """The verdict on all that the pipeline's topics hold.

    Without a *reference* any signals are right: more than one model has decided.
    """
    topology = Topology.of(trained.pipeline)
    identity = trained.pipeline.event.id
    events = {_id(record, identity) for record in await records_of(broker, topology.events)}
    decisions = [json.loads(r.value) for r in await records_of(broker, topology.decisions)]
    decided = [(d["source"]["partition"], d["source"]["offset"]) for d in decisions]
    dead = [_id(record, identity) for record in await records_of(broker, topology.dead_letters)]
    ends = Counter([*(decision["event_id"] for decision in decisions), *dead])
    return Verdict(
        events=len(events),
        lost=len(events - ends.keys()),
        duplicated=sum(n - 1 for n in ends.values()) + len(ends.keys() - events),
        dead=len(dead),
        wrong=sum(not _is_right(decision, reference) for decision in decisions),
        degraded=sum(decision["degraded"] for decision in decisions),
        disordered=_disordered(decided),
        missing=Counter(
            f"{stage} {why}"
            for decision in decisions
            for stage, why in decision["missing_because"].items()
        ),
    )


def _id(record: ConsumerRecord, field: str) -> str:
    """The id that the event itself says; an invalid event's coordinates, if it says none."""
    headers = dict(record.headers)
    try:
        return str(json.loads(record.value or b"")[field])
    except (ValueError, KeyError, TypeError):
        partition = int(headers.get("x-error-partition", record.partition))
        return f"{partition}@{int(headers.get('x-error-offset', record.offset))}"


def _source_of_letter(record: ConsumerRecord) -> Source:
    headers = dict(record.headers)
    return int(headers["x-error-partition"]), int(headers["x-error-offset"])


def _is_right(decision: Mapping[str, object], reference: Reference | None) -> bool:
    contributions: dict[str, dict[str, float]] = decision["contributions"]  # type: ignore[assignment]
    signals = {stage: said["signal"] for stage, said in contributions.items()}
    score = sum(said["weight"] * said["signal"] for said in contributions.values())
    wanted = signals if reference is None else reference[str(decision["event_id"])]
    # What is there is right; one that lacks a stage says so.
    right = signals.items() <= wanted.items() and (
        signals == wanted or decision["degraded"] is True
    )
    return right and abs(score - float(str(decision["score"]))) < 1e-6


def _disordered(decided: Sequence[Source]) -> int:
    by_partition: dict[int, list[int]] = defaultdict(list)
    for partition, offset in decided:
        by_partition[partition].append(offset)
    return sum(
        later < earlier for offsets in by_partition.values() for earlier, later in pairwise(offsets)
    )


async def check_commits(
    trained: Trained, broker: BrokerSettings, components: Sequence[str]
) -> None:
    """No component has committed an offset behind which a row is without its output."""
    topology = Topology.of(trained.pipeline)
    outputs = _outputs(topology, components)
    # First what is committed, then what is written: others go on writing meanwhile.
    committed = {group: await _committed(broker, group) for group in outputs}
    topics = {topic for written in outputs.values() for topic in written}
    topics |= {tp.topic for found in committed.values() for tp in found}
    records = {topic: await records_of(broker, topic) for topic in topics}
    for group, written in outputs.items():
        done = {row for topic in written for r in records[topic] for row in _rows_in(topology, r)}
        for tp, offset in committed[group].items():
            passed = {
                row
                for record in records[tp.topic]
                if record.partition == tp.partition and record.offset < offset
                for row in _rows_in(topology, record)
            }
            assert passed <= done, f"{group} has committed {tp} {offset}: {passed - done} not done"


async def behind(trained: Trained, broker: BrokerSettings) -> dict[str, dict[str, int]]:
    """Consumer group → topic[partition] → records that it has not dealt with, if there are any."""
    topology, found = Topology.of(trained.pipeline), dict[str, dict[str, int]]()
    async with follower(broker, (topology.events,), topology.partitions, from_start=True) as client:
        for group in _outputs(topology, [*topology.components, WEIGH]):
            committed = await _committed(broker, group)
            ends = await client.end_offsets(list(committed))
            found[group] = {
                f"{tp.topic}[{tp.partition}]": ends[tp] - offset
                for tp, offset in committed.items()
                if ends[tp] > offset
            }
    return found


def _outputs(topology: Topology, components: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Consumer group → the topics that it writes."""
    groups: dict[str, tuple[str, ...]] = {}
    for name in components:
        if name == WEIGH:
            groups[topology.group(name)] = (topology.decisions, topology.dead_letters)
            continue
        groups[topology.group(name)] = (topology.stage(name),)
        if name in topology.repartitioned:
            groups[topology.group(f"{name}.keyed")] = (topology.keyed(name),)
    return groups


async def _committed(broker: BrokerSettings, group: str) -> Mapping[TopicPartition, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {tp: about.offset for tp, about in found.items() if about.offset > 0}


def _rows_in(topology: Topology, record: ConsumerRecord) -> set[Source]:
    """The events that a record of any of the pipeline's topics is about."""
    if record.topic == topology.events:
        return {(record.partition, record.offset)}
    if record.topic == topology.decisions:
        source = json.loads(record.value)["source"]
        return {(source["partition"], source["offset"])}
    if record.topic == topology.dead_letters:
        return {_source_of_letter(record)}
    if record.topic == topology.outcomes:
        return set()
    batch = decode(record.value, dict(record.headers))
    if not batch.topic.endswith(f".{EVENTS}"):
        return set()
    return {(batch.partition, offset) for offset in batch.rows.offsets.tolist()}
