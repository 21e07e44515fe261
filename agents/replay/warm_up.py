"""From where on events and outcomes are to be read, so that windows are what they were.

Windows are made of what is read: from the first event on that any window of the range reaches back
to, or from what is left of it. Records of a partition are nearly in the order of event time, so
that place is found by bisection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.explanations import first_reaching
from agents.replay.recorded_range import RecordedBlock, SourceRange
from agents.workers import TailReader
from models.features import WindowPlan
from topics.events import SourceDecoder
from topics.pipeline import Pipeline, Topology
from topics.records import outcome_schema


class WarmUp(NamedTuple):
    """Where reading begins."""

    positions: Mapping[TopicPartition, int]
    """Of the sources that windows need."""
    whole: frozenset[tuple[str, int]]
    """Topic and partition of those that are read from their very beginning."""

    @property
    def partitions(self) -> set[int]:
        """Of the sources."""
        return {tp.partition for tp in self.positions}


async def warm_up_of(
    tail: TailReader, pipeline: Pipeline, first: Mapping[int, RecordedBlock | None],
    ranges: Sequence[SourceRange],
) -> WarmUp:  # fmt: skip
    """What the windows of *ranges* need, whose *first* blocks are given by partition."""
    topology = Topology.of(pipeline)
    starts = {of.partition: of.start for of in ranges}
    keyed = bool(topology.repartitioned)
    windowed = bool(topology.stateful)
    partitions = range(topology.partitions) if keyed else starts
    needed_ms = _needed_ms(pipeline, first.values())
    positions: dict[TopicPartition, int] = {}
    whole: set[tuple[str, int]] = set()
    for topic in topology.sources if keyed else (topology.events,):
        for partition in partitions if windowed else ():
            begin, end = await tail.bounds(topic, partition)
            until = starts.get(partition, end) if topic == topology.events else end
            position = begin
            if needed_ms is not None and until > begin:
                position = min(until, await _first_since(
                    tail, pipeline, topic, partition, begin, needed_ms
                ))  # fmt: skip
            positions[TopicPartition(topic, partition)] = position
            if position == 0:
                whole.add((topic, partition))
    if not windowed:
        whole = {(topology.events, partition) for partition in starts}
    return WarmUp(positions, frozenset(whole))


def _needed_ms(pipeline: Pipeline, blocks: Iterable[RecordedBlock | None]) -> int | None:
    """The event time from which on windows need all events; None where nobody knows."""
    decoder = SourceDecoder(pipeline.event, pipeline.partitions)
    plans = [WindowPlan(pipeline, spec.name) for spec in pipeline.components if spec.windowed]
    if not plans:
        return None
    reach_ms = max(plan.memory_ms + 2 * plan.lateness_ms for plan in plans)
    firsts = []
    for block in blocks:
        decoded = None if block is None else decoder.decode(block.events)
        if decoded is not None and len(decoded.valid):
            firsts.append(int(decoded.times_ms[decoded.valid].min()))
    return min(firsts) - reach_ms if firsts else None


async def _first_since(
    tail: TailReader, pipeline: Pipeline, topic: str, partition: int, begin: int, time_ms: int
) -> int:
    """The first offset with an event time from *time_ms* on."""
    is_events = topic == Topology.of(pipeline).events
    schema = pipeline.event if is_events else outcome_schema(pipeline)
    decoder = SourceDecoder(schema, pipeline.partitions)

    def reaches(record: ConsumerRecord) -> bool | None:
        decoded = decoder.decode([record])
        return bool(decoded.times_ms[0] >= time_ms) if len(decoded.valid) else None

    record = await first_reaching(tail, topic, partition, begin, reaches)
    if record is None:
        return begin
    return int(record.offset)
