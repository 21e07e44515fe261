"""How the redriven events of a partition have ended: what makes each attempt end once.

The redrive topic has a note of each end, and from time to time a summary of the notes. After a
start these are read from the end of the partition; what was written but not noted before a crash
is found on the decisions and dead-letters topics, where nothing older than the last note need be
read.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.workers import TailReader
from topics.errors import WireError
from topics.kafka import Record
from topics.pipeline import Topology
from topics.records import attempt_at
from topics.redrive import MOST, About, End, Ends, Summary, about_of, decoded, is_summary, next_of
from topics.redrive.ends_summary import encoded

log = logging.getLogger(__name__)

SUMMARY_AFTER = 2000
"""So many notes are summed up."""
_SLACK_MS = 60_000
"""The clocks of workers may differ by so much."""


@dataclass(slots=True)
class _Segment:
    """A summary that is on the topic."""

    ends: Ends
    previous: int
    position: int | None
    """Its offset; None until it has been read back."""


class EndedAttempts:
    """The ends of one partition's redriven events; arrays, but for the latest."""

    def __init__(self) -> None:
        self._segments: list[_Segment] = []
        self._latest: defaultdict[int, dict[int, End]] = defaultdict(dict)
        """Source offset → attempt → end, of those that are in no summary."""
        self._noted: set[tuple[int, int]] = set()
        """Source offset and attempt of those of the latest that the redrive topic tells of."""
        self._unfinished = False
        """The last summary has not taken in all that stands before it."""

    @classmethod
    async def read(
        cls, tail: TailReader, topology: Topology, partition: int, since_ms: int
    ) -> EndedAttempts:
        """What has ended; none of those that may come now has ended before *since_ms* unnoted."""
        self = cls()
        noted_ms = await self._read_notes(tail, topology.redrive, partition)
        since_ms = max(since_ms, noted_ms) - _SLACK_MS
        await self._read_written(tail, topology.decisions, partition, since_ms, "decision")
        await self._read_written(tail, topology.dead_letters, partition, since_ms, "dead-letter")
        return self

    async def _read_notes(self, tail: TailReader, topic: str, partition: int) -> int:
        """Read summaries, and the notes behind the last; when the last note was written."""
        last: tuple[int, Summary] | None = None
        noted_ms = -(2**62)
        async with aclosing(tail.backwards(topic, partition)) as spans:
            async for start, end in spans:
                notes: list[About] = []
                async with aclosing(tail.between_chunks(topic, partition, start, end)) as chunks:
                    async for records in chunks:
                        for record in records:
                            if (summary := _complete_summary(record)) is not None:
                                last, notes = (record.offset, summary), []
                            elif (about := _note(record)) is not None:
                                notes.append(about)
                                noted_ms = max(noted_ms, record.timestamp)
                for about in notes:
                    if about.end is not None:
                        self.add(about, about.end)
                        self.note(about)
                if last is not None:
                    break
        while last is not None:
            position, summary = last
            self._segments.insert(0, _Segment(summary.ends, summary.previous, position))
            last = await _summary_at(tail, topic, partition, summary.previous, position)
        return noted_ms

    async def _read_written(
        self, tail: TailReader, topic: str, partition: int, since_ms: int, end: End
    ) -> None:
        """Take in the later attempts' ends among what was written since then."""
        start = await tail.since(topic, partition, since_ms)
        async with aclosing(tail.chunks(topic, partition, start)) as chunks:
            async for records in chunks:
                for record in records:
                    with suppress(KeyError, ValueError):  # others' records
                        offset, attempt = attempt_at(record, is_decision=end == "decision")
                        if attempt > 1:
                            self._written(offset, attempt, end)

    def _written(self, offset: int, attempt: int, end: End) -> None:
        ends = self._latest[offset]
        if attempt not in ends:
            ends[attempt] = end

    def of(self, abouts: Sequence[About]) -> list[dict[int, End]]:
        """Attempt → end of the event of each (N)."""
        found: list[dict[int, End]] = [{} for _ in abouts]
        offsets = np.array([about.source.offset for about in abouts], np.int64)
        for segment in self._segments:
            ends = segment.ends
            left = ends.offsets.searchsorted(offsets)
            right = ends.offsets.searchsorted(offsets, "right")
            for place in np.flatnonzero(left < right).tolist():
                for at in range(int(left[place]), int(right[place])):
                    end: End = "decision" if ends.decided[at] else "dead-letter"
                    found[place][int(ends.attempts[at])] = end
        for place, offset in enumerate(offsets.tolist()):
            if offset in self._latest:
                found[place] |= self._latest[offset]
        return found

    def add(self, about: About, end: End) -> None:
        """An attempt is ending."""
        self._latest[about.source.offset][about.attempt] = end

    def is_noted(self, about: About) -> bool:
        """The redrive topic tells of the attempt's end."""
        at = about.source.offset, about.attempt
        if at in self._noted:
            return True
        return about.attempt not in self._latest.get(about.source.offset, {})

    def note(self, about: About) -> None:
        """The redrive topic is about to tell of the attempt's end."""
        self._noted.add((about.source.offset, about.attempt))

    def summary(self, now_ms: int) -> Record | None:
        """A summary of the latest notes, to be written behind them, when it is time for one.

        It takes in smaller ones before it: so they stay few.
        """
        unplaced = any(segment.position is None for segment in self._segments)
        if unplaced or not (len(self._noted) >= SUMMARY_AFTER or self._unfinished):
            return None
        some = list(self._noted)[:MOST]
        self._noted.difference_update(some)
        self._unfinished = bool(self._noted)
        ends = Ends.of([
            (offset, attempt, self._latest[offset].pop(attempt) == "decision")
            for offset, attempt in some
        ])  # fmt: skip
        for offset, _ in some:
            if not self._latest[offset]:
                del self._latest[offset]
        while self._segments and len(self._segments[-1].ends) <= min(len(ends), MOST - len(ends)):
            ends = ends.merged(self._segments.pop().ends)
        before = self._segments[-1].position if self._segments else None
        previous = -1 if before is None else before
        self._segments.append(_Segment(ends, previous, None))
        return encoded(Summary(ends, previous, complete=not self._unfinished), now_ms)

    def read_back(self, record: ConsumerRecord) -> None:
        """A summary has come, mostly one's own: now its place is known."""
        with suppress(WireError):
            summary = decoded(record.value, record.headers)
            last = self._segments[-1] if self._segments else None
            same = last is not None and (
                (summary.previous, len(summary.ends)) == (last.previous, len(last.ends))
            )
            if last is not None and last.position is None and same:
                last.position = record.offset


def _complete_summary(record: ConsumerRecord) -> Summary | None:
    """The summary of a record; None for any other, and for one that more follow."""
    if not is_summary(record.headers):
        return None
    try:
        summary = decoded(record.value, record.headers)
    except WireError as exc:
        log.warning("%s[%d]@%d: %s", record.topic, record.partition, record.offset, exc)
        return None
    return summary if summary.complete else None


def _note(record: ConsumerRecord) -> About | None:
    """What a note says; None for any other record, most of which are told by their address."""
    if next_of(record.headers) is not None:
        return None
    with suppress(WireError):
        about = about_of(record.headers)
        return about if about.end is not None else None
    return None


async def _summary_at(
    tail: TailReader, topic: str, partition: int, position: int, behind: int
) -> tuple[int, Summary] | None:
    """The summary at an offset before that of the one that names it."""
    if not 0 <= position < behind:
        return None
    for record in await tail.between(topic, partition, position, position + 1):
        try:
            return position, decoded(record.value, record.headers)
        except WireError as exc:
            log.warning("%s[%d]@%d: %s", topic, partition, position, exc)
    return None  # retention has deleted it, and the letters that it is about
