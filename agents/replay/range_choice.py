"""Which events a replay is of: from words of people to source offsets."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from aiokafka.structs import ConsumerRecord

from agents.explanations import first_reaching
from agents.replay.errors import BadRange, NothingRecorded, RangeGone
from agents.replay.log_cursor import OffsetOf, source_offset
from agents.replay.recorded_range import SourceRange
from agents.workers import TailReader
from topics.errors import WireError
from topics.pipeline import Topology, instant
from topics.records import decided_offset, decode, heartbeat_of

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_OFFSET = re.compile(r"\d{1,9}/\d{1,18}", re.ASCII)

Edge = Mapping[int, int] | datetime | None
"""Where a range begins, or ends: source offset by partition, a time of publishing, or as far as
the topics reach."""


def edge_of(words: Sequence[str]) -> Edge:
    """What is meant by one time, or by PARTITION/OFFSET for some partitions.

    A date is where it begins, in UTC. Raises BadRange.

    >>> edge_of(["0/12", "3/900"])
    {0: 12, 3: 900}
    >>> edge_of(["2026-01-31"]).isoformat()
    '2026-01-31T00:00:00+00:00'
    >>> edge_of([]) is None
    True
    """
    if not words:
        return None
    if len(words) == 1 and "/" not in words[0]:
        try:
            if _DATE.fullmatch(words[0]):  # as a time it would be the day's end
                return datetime.fromisoformat(words[0]).replace(tzinfo=UTC)
            return instant(words[0])
        except ValueError as exc:
            raise BadRange(words[0], "no time, such as 2026-01-31T12:00:00Z") from exc
    offsets: dict[int, int] = {}
    for word in words:
        if not _OFFSET.fullmatch(word):
            raise BadRange(word, "neither a time nor PARTITION/OFFSET, such as 2/17")
        partition, _, offset = word.partition("/")
        if int(partition) in offsets:
            raise BadRange(word, f"partition {int(partition)} has another offset already")
        offsets[int(partition)] = int(offset)
    return offsets


async def chosen_ranges(
    tail: TailReader, topology: Topology, start: Edge, end: Edge,
    partitions: Collection[int] | None = None,
) -> list[SourceRange]:  # fmt: skip
    """The events from *start* on and before *end*, of some partitions, or of all.

    Raises BadRange, RangeGone and NothingRecorded.
    """
    for edge in (start, end):
        for partition in edge if isinstance(edge, Mapping) else ():
            _check(partition, topology)
    for partition in partitions or ():
        _check(partition, topology)
    _check_order(start, end)
    wanted = range(topology.partitions) if partitions is None else sorted({*partitions})
    ranges = [await _range(tail, topology, partition, start, end) for partition in wanted]
    if not any(of.end > of.start for of in ranges):
        raise NothingRecorded(topology.events)
    return [of for of in ranges if of.end > of.start]


def _check_order(start: Edge, end: Edge) -> None:
    """Raise BadRange for edges of which the end is not behind the start."""
    if isinstance(start, datetime) and isinstance(end, datetime) and start >= end:
        raise BadRange(start.isoformat(), f"it is not before the end, {end.isoformat()}")
    if isinstance(start, Mapping) and isinstance(end, Mapping):
        for partition in sorted({*start} & {*end}):
            if start[partition] >= end[partition]:
                word = f"{partition}/{start[partition]}"
                raise BadRange(word, f"it is not before the end, {partition}/{end[partition]}")


def _check(partition: int, topology: Topology) -> None:
    if partition >= topology.partitions:
        why = f"the pipeline has {topology.partitions} partitions, from 0 on"
        raise BadRange(str(partition), why)


async def _range(
    tail: TailReader, topology: Topology, partition: int, start: Edge, end: Edge
) -> SourceRange:
    first, last = await tail.bounds(topology.events, partition)
    begin, stop = first, last
    if isinstance(end, datetime):
        stop = await _since(tail, topology.events, partition, end)
    elif end is not None:
        stop = min(last, end.get(partition, last))
    is_asked_for = start is not None
    if isinstance(start, datetime):
        begin = await _since(tail, topology.events, partition, start)
    elif start is not None:
        is_asked_for = partition in start
        begin = start.get(partition, first)
    if begin < first:
        raise RangeGone(topology.events, partition, begin, first)
    for topic, earliest in (await _earliest(tail, topology, partition)).items():
        if earliest > begin and begin < stop:
            if is_asked_for:
                raise RangeGone(topic, partition, begin, earliest)
            begin = earliest
    return SourceRange(partition, begin, stop)


async def _since(tail: TailReader, topic: str, partition: int, time: datetime) -> int:
    """The first offset that was published at *time* or later."""
    time_ms = math.ceil(time.timestamp() * 1000)
    first = await tail.since(topic, partition, time_ms)
    # The embedded broker knows no times, and says its first offset; a record knows its own.
    if any(r.timestamp >= time_ms for r in await tail.between(topic, partition, first, first + 1)):
        return first
    record = await first_reaching(
        tail, topic, partition, first, lambda record: bool(record.timestamp >= time_ms)
    )
    _, end = await tail.bounds(topic, partition)
    return end if record is None else int(record.offset)


async def _earliest(tail: TailReader, topology: Topology, partition: int) -> dict[str, int]:
    """Topic that has lost records → the first source offset that it tells everything of."""
    earliest: dict[str, int] = {}
    topics: dict[str, OffsetOf] = {topology.decisions: decided_offset}
    topics |= dict.fromkeys(map(topology.stage, topology.components), _covered_from)
    for topic, offset_of in topics.items():
        first, _ = await tail.bounds(topic, partition)
        if first:
            earliest[topic] = await _first_told_of(tail, topic, partition, first, offset_of)
    return earliest


async def _first_told_of(
    tail: TailReader, topic: str, partition: int, start: int, offset_of: OffsetOf
) -> int:
    chunks = tail.chunks(topic, partition, start)
    async with aclosing(chunks):
        async for records in chunks:
            for record in records:
                if (about := source_offset(record, offset_of)) is not None:
                    return about
    return 0


def _covered_from(record: ConsumerRecord) -> int | None:
    headers = dict(record.headers)
    try:
        if heartbeat_of(record.value, headers) is not None:
            return None
        return decode(record.value, headers).covers_from
    except WireError:
        return None
