"""How the redriven events of a partition have ended: what makes each attempt end once.

The redrive topic has an ending record of each, and now and then a summary of them. After a start
these are read from the end of the partition; ends that a crash has left without a record are found
on the decisions and dead-letters topics, see `topics.redrive.record`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from contextlib import aclosing, suppress
from dataclasses import dataclass

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.workers import TailReader
from topics.errors import WireError
from topics.kafka import Record
from topics.pipeline import Topology
from topics.records import Ints, attempt_at
from topics.redrive import (
    MOST_ENDINGS,
    Ending,
    Endings,
    EndingSummary,
    RedriveBatch,
    RedrivenEvent,
    decode_redrive,
    decode_summary,
    encode_summary,
    is_summary,
    next_component,
)

log = logging.getLogger(__name__)

SUMMARY_AFTER = 2000
"""So many ending records are summed up."""
_SLACK_MS = 60_000
"""The clocks of workers may differ by so much."""


@dataclass(slots=True)
class _Segment:
    """A summary that is on the topic."""

    ends: Endings
    previous: int
    position: int | None
    """Its offset; None until it has been read back."""


class AttemptEndings:
    """The ends of one partition's redriven events; arrays, but for the latest."""

    def __init__(self) -> None:
        self._segments: list[_Segment] = []
        self._latest: defaultdict[int, dict[int, Ending]] = defaultdict(dict)
        """Source offset → attempt → end, of those that are in no summary."""
        self._on_topic: set[tuple[int, int]] = set()
        """Source offset and attempt of those of the latest that the redrive topic tells of."""
        self._unfinished = False
        """The last summary has not taken in all that stands before it."""

    @classmethod
    async def read(
        cls, tail: TailReader, topology: Topology, partition: int, since_ms: int
    ) -> AttemptEndings:
        """What has ended; before *since_ms* none that may come has ended without a record."""
        self = cls()
        latest_ms = await self._read_ending_records(tail, topology.redrive, partition)
        since_ms = max(since_ms, latest_ms) - _SLACK_MS
        await self._read_written(tail, topology.decisions, partition, since_ms, "decision")
        await self._read_written(tail, topology.dead_letters, partition, since_ms, "dead-letter")
        return self

    async def _read_ending_records(self, tail: TailReader, topic: str, partition: int) -> int:
        """Read summaries, and the ending records behind the last; when the last was written."""
        last: tuple[int, EndingSummary] | None = None
        latest_ms = -(2**62)
        async with aclosing(tail.backwards(topic, partition)) as spans:
            async for start, end in spans:
                endings_behind: list[RedriveBatch] = []
                async with aclosing(tail.between_chunks(topic, partition, start, end)) as chunks:
                    async for records in chunks:
                        for record in records:
                            if (summary := _complete_summary(record)) is not None:
                                last, endings_behind = (record.offset, summary), []
                            elif (endings := _ending_record(record)) is not None:
                                endings_behind.append(endings)
                                latest_ms = max(latest_ms, record.timestamp)
                for endings in endings_behind:
                    self._add_told(endings)
                if last is not None:
                    break
        while last is not None:
            position, summary = last
            self._segments.insert(0, _Segment(summary.ends, summary.previous, position))
            last = await _summary_at(tail, topic, partition, summary.previous, position)
        return latest_ms

    async def _read_written(
        self, tail: TailReader, topic: str, partition: int, since_ms: int, end: Ending
    ) -> None:
        """Take in the later attempts' ends among what was written since then."""
        start = await tail.since(topic, partition, since_ms)
        async with aclosing(tail.chunks(topic, partition, start)) as chunks:
            async for records in chunks:
                for record in records:
                    with suppress(KeyError, ValueError):  # others' records
                        offset, attempt = attempt_at(record, is_decision=end == "decision")
                        if attempt > 1:
                            self._add_written(offset, attempt, end)

    def _add_told(self, endings: RedriveBatch) -> None:
        if endings.end is not None:
            for event in endings.events:
                self.add(event, endings.end)
                self.add_ending_record(event)

    def _add_written(self, offset: int, attempt: int, end: Ending) -> None:
        ends = self._latest[offset]
        if attempt not in ends:
            ends[attempt] = end

    def of(self, offsets: Ints) -> list[dict[int, Ending]]:
        """Attempt → end of the event at each source offset (N,)."""
        by_place: list[dict[int, Ending]] = [{} for _ in offsets]
        for segment in self._segments:
            ends = segment.ends
            left = ends.offsets.searchsorted(offsets)
            right = ends.offsets.searchsorted(offsets, "right")
            for place in np.flatnonzero(left < right).tolist():
                for at in range(int(left[place]), int(right[place])):
                    end: Ending = "decision" if ends.decided[at] else "dead-letter"
                    by_place[place][int(ends.attempts[at])] = end
        for place, offset in enumerate(offsets.tolist()):
            if offset in self._latest:
                by_place[place] |= self._latest[offset]
        return by_place

    def add(self, event: RedrivenEvent, end: Ending) -> None:
        """An attempt is ending."""
        self._latest[event.offset][event.attempt] = end

    def has_ending_record(self, event: RedrivenEvent) -> bool:
        """The redrive topic tells of the attempt's end."""
        if (event.offset, event.attempt) in self._on_topic:
            return True
        return event.attempt not in self._latest.get(event.offset, {})

    def add_ending_record(self, event: RedrivenEvent) -> None:
        """The redrive topic is about to tell of the attempt's end."""
        self._on_topic.add((event.offset, event.attempt))

    def summary(self, now_ms: int) -> Record | None:
        """A summary of the latest ending records, to be written behind them when it is time.

        It takes in smaller ones before it: so they stay few.
        """
        unplaced = any(segment.position is None for segment in self._segments)
        if unplaced or not (len(self._on_topic) >= SUMMARY_AFTER or self._unfinished):
            return None
        some = list(self._on_topic)[:MOST_ENDINGS]
        self._on_topic.difference_update(some)
        self._unfinished = bool(self._on_topic)
        ends = Endings.of([
            (offset, attempt, self._latest[offset].pop(attempt) == "decision")
            for offset, attempt in some
        ])  # fmt: skip
        for offset, _ in some:
            if not self._latest[offset]:
                del self._latest[offset]
        while self._segments and len(self._segments[-1].ends) <= min(
            len(ends), MOST_ENDINGS - len(ends)
        ):
            ends = ends.merged(self._segments.pop().ends)
        before = self._segments[-1].position if self._segments else None
        previous = -1 if before is None else before
        self._segments.append(_Segment(ends, previous, None))
        return encode_summary(EndingSummary(ends, previous, complete=not self._unfinished), now_ms)

    def read_back(self, record: ConsumerRecord) -> None:
        """A summary has come, mostly one's own: now its place is known."""
        with suppress(WireError):
            summary = decode_summary(record.value, record.headers)
            last = self._segments[-1] if self._segments else None
            same = last is not None and (
                (summary.previous, len(summary.ends)) == (last.previous, len(last.ends))
            )
            if last is not None and last.position is None and same:
                last.position = record.offset


def _complete_summary(record: ConsumerRecord) -> EndingSummary | None:
    """The summary of a record; None for any other, and for one that more follow."""
    if not is_summary(record.headers):
        return None
    try:
        summary = decode_summary(record.value, record.headers)
    except WireError as exc:
        log.warning("%s[%d]@%d: %s", record.topic, record.partition, record.offset, exc)
        return None
    return summary if summary.complete else None


def _ending_record(record: ConsumerRecord) -> RedriveBatch | None:
    """What an ending record says; None for others, most of which are told by their address."""
    if next_component(record.headers) is not None:
        return None
    with suppress(WireError):
        return decode_redrive(record.key, record.value, record.headers, outputs=False)
    return None


async def _summary_at(
    tail: TailReader, topic: str, partition: int, position: int, behind: int
) -> tuple[int, EndingSummary] | None:
    """The summary at an offset before that of the one that names it."""
    if not 0 <= position < behind:
        return None
    for record in await tail.between(topic, partition, position, position + 1):
        try:
            return position, decode_summary(record.value, record.headers)
        except WireError as exc:
            log.warning("%s[%d]@%d: %s", topic, partition, position, exc)
    return None  # retention has deleted it, and the letters that it is about
