"""What the topics hold of a range of events, side by side: block after block of one partition.

A block is some source records in order, with what each component wrote of them and how they ended.
All of it stands on the events' partition in the events' order, so the topics are read side by side,
each as far as the block reaches, and no more is held than what has come ahead of it. Of an event
that a stage tells of twice the first record counts, as it does for joins; there is one decision.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.explanations import first_reaching
from agents.join import Reason, StageRows, aligned
from agents.replay.log_cursor import LogCursor, OffsetOf, open_logs, source_offset
from agents.workers import TailReader
from topics.errors import WireError
from topics.pipeline import Topology
from topics.records import (
    ATTEMPT_HEADER,
    Ints,
    StageBatch,
    buried_offset,
    decided_offset,
    decode,
    heartbeat_of,
)
from topics.settings import BrokerSettings

BLOCK_ROWS = 2048
"""More of them, with their decisions twice, are more than a processor's cache holds."""


class SourceRange(NamedTuple):
    """Events of one partition: those with offsets in [start, end)."""

    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class RecordedBlock:
    """Some events of a partition, and all that is recorded of them."""

    partition: int
    start: int
    """The first source offset that it is about; no record need have it."""
    events: Sequence[ConsumerRecord]
    """The source records (N)."""
    offsets: Ints
    """Theirs (N,)."""
    stages: Mapping[str, Sequence[StageBatch]]
    """Component → what it wrote of these events, as it was batched; lanes in any order."""
    decisions: Mapping[int, ConsumerRecord]
    """Source offset → the decision of the first attempt at the event."""
    dead_letters: Mapping[int, ConsumerRecord]
    """Source offset → the dead letter of the first attempt."""
    repeated: Sequence[tuple[int, ConsumerRecord]] = ()
    """Source offset, and a further decision of that first attempt."""
    misplaced: Sequence[tuple[int, ConsumerRecord]] = ()
    """Source offset, and a decision that stands behind those of later events."""
    foreign: int = 0
    """Records among the decisions that are about no event of the partition."""
    has_later_attempts: bool = False
    """There are decisions about redriven events among them, whichever these are."""
    is_passed: bool = False
    """Later events than these are decided: each of these has come to its end."""

    def __len__(self) -> int:
        return len(self.events)

    def stage_rows(self, name: str, unanswered: Reason = "unknown") -> StageRows:
        """What component *name* wrote, row by row (N)."""
        return aligned([*self.stages[name]], self.offsets, unanswered)


@dataclass(slots=True)
class _Stage:
    """A component's topic: batches, and how far each of its lanes has come."""

    log: LogCursor
    name: str
    source: TopicPartition
    frontiers: dict[int | None, int]
    _held: list[StageBatch] = field(default_factory=list)

    async def up_to(self, offset: int) -> list[StageBatch]:
        """What was written of events up to *offset* and was not given before."""
        while min(self.frontiers.values()) < offset:
            record = await self.log.next()
            if record is None:
                break
            self._take(record)
        given, kept = list[StageBatch](), list[StageBatch]()
        for batch in self._held:
            n = int(batch.rows.offsets.searchsorted(offset, "right"))
            if n:
                given.append(batch[:n])
            if n < len(batch):
                kept.append(batch[n:])
        self._held = kept
        return given

    def _take(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        try:
            if heartbeat_of(record.value, headers) is not None:
                return
            batch = decode(record.value, headers)
        except WireError:  # others' records: joins pass over them, too
            return
        known = self.frontiers.get(batch.lane)
        about = (batch.component, batch.topic, batch.partition)
        if known is None or about != (self.name, self.source.topic, self.source.partition):
            return
        seen = int(batch.rows.offsets.searchsorted(known, "right"))
        self.frontiers[batch.lane] = max(known, batch.covers_to)
        if seen < len(batch):
            self._held.append(batch[seen:])


class PartitionRecord:
    """Reads one partition's range."""

    def __init__(
        self, of: SourceRange, events: LogCursor, stages: Sequence[_Stage], decisions: LogCursor,
        dead_letters: LogCursor,
    ) -> None:  # fmt: skip
        self.range = of
        self._decided_offset = _decided_offset_of(stages[0].source)
        self._events, self._stages = events, stages
        self._decisions, self._dead_letters = decisions, dead_letters
        self._next = of.start

    async def block(self, rows: int = BLOCK_ROWS) -> RecordedBlock | None:
        """The next block, of so many events at most; None behind the range."""
        events = await self._events.some(rows, self.range.end)
        if not events:
            return None
        start, last = self._next, int(events[-1].offset)
        self._next = last + 1
        offsets = np.fromiter((record.offset for record in events), np.int64, len(events))
        stages = {stage.name: await stage.up_to(last) for stage in self._stages}
        end = self._events.end
        decided = await self._decisions.up_to(last, self._decided_offset, end)
        dead = await self._dead_letters.up_to(last, buried_offset, end)
        there = set(offsets.tolist())
        decisions = {about: record for about, record in decided.first.items() if about in there}
        others = [each for each in decided.first.items() if each[0] not in there]
        misplaced = [each for each in (*others, *decided.repeated)
                     if self.range.start <= each[0] < start]  # fmt: skip
        repeated = [each for each in decided.repeated if each[0] in there]
        gaps = sum(about >= start for about, _ in others)
        return RecordedBlock(
            self.range.partition, start, events, offsets, stages, decisions, dead.first, repeated,
            misplaced, decided.foreign + gaps, decided.later_attempts > 0, decided.goes_on,
        )  # fmt: skip


@asynccontextmanager
async def recorded_ranges(
    settings: BrokerSettings, topology: Topology, ranges: Sequence[SourceRange], tail: TailReader
) -> AsyncIterator[list[PartitionRecord]]:
    """Readers of *ranges*, one for each, on one connection outside any group.

    Raises BrokerError.
    """
    ends = await tail.ends([topology.events, *_written(topology)], topology.partitions)
    starts = {of.partition: await _starts(tail, topology, of) for of in ranges}
    positions = {tp: at for of in starts.values() for tp, at in of.items()}
    async with open_logs(settings, positions, ends) as logs:
        yield [_partition(topology, of, logs) for of in ranges]


def _decided_offset_of(source: TopicPartition) -> OffsetOf:
    """Like `decided_offset`, of the events of *source* alone; quick for records as we write them.

    Raises KeyError or ValueError for any other record.
    """
    prefix = f"{source.topic}/{source.partition}/".encode()

    def decided(record: ConsumerRecord) -> int | None:
        headers = record.headers
        name, value = headers[0] if headers else ("", b"")
        is_ours = name == "ce_id" and value is not None and value.startswith(prefix)
        # No dict: each name of each record would be hashed.
        if is_ours and ATTEMPT_HEADER not in [name for name, _ in headers]:
            return int(value[len(prefix) :])
        if not (dict(headers)["ce_id"] or b"").startswith(prefix):
            raise ValueError("about another partition's event")
        return decided_offset(record)

    return decided


def _partition(
    topology: Topology, of: SourceRange, logs: Mapping[TopicPartition, LogCursor]
) -> PartitionRecord:
    def log(topic: str) -> LogCursor:
        return logs[TopicPartition(topic, of.partition)]

    source = TopicPartition(topology.events, of.partition)
    stages = [
        _Stage(
            log(topology.stage(name)), name, source,
            dict.fromkeys(_lanes(topology, name), of.start - 1),
        )
        for name in topology.components
    ]  # fmt: skip
    return PartitionRecord(
        of, log(topology.events), stages, log(topology.decisions), log(topology.dead_letters)
    )


def _lanes(topology: Topology, name: str) -> Sequence[int | None]:
    return range(topology.partitions) if name in topology.repartitioned else [None]


def _written(topology: Topology) -> list[str]:
    stages = [topology.stage(name) for name in topology.components]
    return [*stages, topology.decisions, topology.dead_letters]


async def _starts(
    tail: TailReader, topology: Topology, of: SourceRange
) -> dict[TopicPartition, int]:
    """Where each topic is to be read from for all that it holds of the range."""
    starts = {TopicPartition(topology.events, of.partition): of.start}
    for name in topology.components:
        topic = topology.stage(name)
        lanes = [
            await first_about(tail, topic, of, _covering(topology.events, of, lane))
            for lane in _lanes(topology, name)
        ]
        starts[TopicPartition(topic, of.partition)] = min(lanes)
    for topic, offset_of in (
        (topology.decisions, decided_offset), (topology.dead_letters, buried_offset),
    ):  # fmt: skip
        starts[TopicPartition(topic, of.partition)] = await first_about(tail, topic, of, offset_of)
    return starts


async def first_about(tail: TailReader, topic: str, of: SourceRange, offset_of: OffsetOf) -> int:
    """The offset of the first record about the range's events; the end where there is none."""

    def reaches(record: ConsumerRecord) -> bool | None:
        about = source_offset(record, offset_of)
        return None if about is None else about >= of.start

    first, end = await tail.bounds(topic, of.partition)
    if of.start == 0:
        return first
    record = await first_reaching(tail, topic, of.partition, first, reaches)
    return end if record is None else int(record.offset)


def _covering(events: str, of: SourceRange, lane: int | None) -> OffsetOf:
    """Up to which source offset a stage batch of that lane answers."""

    def covers_to(record: ConsumerRecord) -> int | None:
        headers = dict(record.headers)
        try:
            if heartbeat_of(record.value, headers) is not None:
                return None
            batch = decode(record.value, headers)
        except WireError:
            return None
        known = (batch.topic, batch.partition, batch.lane) == (events, of.partition, lane)
        return batch.covers_to if known else None

    return covers_to
