"""The records of a topic from some offsets on to what is its end now, decoded while more come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.structs import TopicPartition

from agents.broker import MOST_EMPTY_FETCHES, LogReader, RecordBatch, Unreadable

Progress = Callable[[int, int], None]
"""Told how many offsets are read, of how many."""


class PartitionRecords(NamedTuple):
    """Some records of a partition, in order: with offset, timestamp, key, value and headers."""

    partition: int
    records: Sequence[Any]


async def topic_records(
    reader: LogReader, topic: str, starts: Mapping[int, int], *,
    stops: Mapping[int, int] | None = None, progress: Progress | None = None,
) -> AsyncIterator[PartitionRecords]:  # fmt: skip
    """The records of *topic*, of each partition from its start on, and before its stop.

    The next ones are fetched meanwhile. Raises TopicMissing, KafkaError, Unreadable.
    """
    await reader.partitions(topic)
    positions = {TopicPartition(topic, number): start for number, start in starts.items()}
    ends = await reader.bounds(positions, "end")
    if stops is not None:
        ends = {tp: min(end, stops[tp.partition]) for tp, end in ends.items()}
    total = sum(max(0, ends[tp] - start) for tp, start in positions.items())
    waiting, nothing = _unread(positions, ends), 0
    fetching = asyncio.ensure_future(reader.fetch(waiting)) if waiting else None
    try:
        while fetching is not None:
            fetched, brought = await fetching, list[tuple[TopicPartition, list[RecordBatch]]]()
            for tp, result in fetched.items():
                if result.dropped:  # by retention, since we have asked
                    positions[tp] = (await reader.bounds([tp], "first"))[tp]
                elif result.batches:
                    brought.append((tp, result.batches))
            before = {tp: positions[tp] for tp, _ in brought}
            positions |= {tp: batches[-1].next_offset for tp, batches in brought}
            nothing = 0 if brought else nothing + 1
            waiting = _unread(positions, ends)
            if waiting and nothing > MOST_EMPTY_FETCHES:
                tp, position = next(iter(waiting.items()))
                raise Unreadable(tp, position, ends[tp])
            fetching = asyncio.ensure_future(reader.fetch(waiting)) if waiting else None
            for tp, batches in brought:
                yield PartitionRecords(
                    tp.partition,
                    await asyncio.to_thread(_decoded, batches, before[tp], ends[tp]),
                )
            if progress is not None:
                left = sum(ends[tp] - position for tp, position in waiting.items())
                progress(total - left, total)
    finally:
        if fetching is not None:
            fetching.cancel()


def _unread(
    positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    return {tp: position for tp, position in positions.items() if position < ends[tp]}


def _decoded(batches: Sequence[RecordBatch], start: int, end: int) -> list[Any]:
    return [
        record for batch in batches for record in batch.records() if start <= record.offset < end
    ]
