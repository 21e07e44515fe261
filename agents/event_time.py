"""Rows of several source partitions, put back into the order of event time.

A source partition is in order by itself, but one may be read ahead of another. A row waits
until every source has come as far as it has, or has nothing more to give: then its past is
complete, and the same whichever worker was faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from topics.stage_batch import Ints, StageBatch

BEGINNING = -(2**60)
END = 2**60


@dataclass(slots=True)
class _Held:
    batch: StageBatch
    clocks_ms: Ints
    """Of each row: the highest event time of its source up to it."""
    position: int
    arrived_at: float


@dataclass(slots=True)
class _Source:
    """One partition of a source topic."""

    offset: int
    """The last that has come."""
    clock_ms: int
    behind_since: float | None = None
    """Since when it has been known to have more to give without giving anything."""
    held: deque[_Held] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Released:
    """Rows of one source partition whose turn has come."""

    batch: StageBatch
    clocks_ms: Ints
    position: int
    """Where the batch is in the log."""
    early: int
    """Of its rows, the last so many were let go before every source had come as far as they."""


class EventTimeOrder:
    """Holds the rows of all source partitions until their turn in event time.

    `partitions` is how many event sources there are; with `outcome_delay_ms`, there are as
    many of outcomes, which an event that much later waits for.
    """

    def __init__(
        self, partitions: int, *, outcome_delay_ms: int | None, hold_s: float,
        stall_timeout_s: float,
    ) -> None:  # fmt: skip
        self._events = [_Source(-1, BEGINNING) for _ in range(partitions)]
        outcome_sources = 0 if outcome_delay_ms is None else partitions
        self._outcomes = [_Source(-1, BEGINNING) for _ in range(outcome_sources)]
        self._delay_ms = outcome_delay_ms or 0
        self._hold_s = hold_s
        self._stall_timeout_s = stall_timeout_s

    def start_after(self, partition: int, offset: int, clock_ms: int, *, outcomes: bool) -> None:
        """Continue a source that has come to *offset* already."""
        source = (self._outcomes if outcomes else self._events)[partition]
        source.offset, source.clock_ms = offset, clock_ms

    def push(self, batch: StageBatch, position: int, now: float) -> None:
        """Take in a batch of events; rows that were seen before are dropped."""
        source = self._events[batch.partition]
        batch = self._unseen(source, batch)
        times = np.where(batch.present, batch.rows.event_time_ms, BEGINNING)
        clocks = np.maximum.accumulate(np.maximum(times, source.clock_ms)).astype(np.int64)
        source.held.append(_Held(batch, clocks, position, now))
        self._come(source, batch)

    def note_outcomes(self, batch: StageBatch) -> StageBatch:
        """Outcomes have come; those of them that were not seen before."""
        source = self._outcomes[batch.partition]
        batch = self._unseen(source, batch)
        self._come(source, batch)
        return batch

    @property
    def first_held(self) -> int | None:
        """Where the log is to be read again from for all that is held; None if nothing is."""
        return min((s.held[0].position for s in self._events if s.held), default=None)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(len(held.batch) for source in self._events for held in source.held)

    def pop(
        self, now: float, ends: tuple[Mapping[int, int], Mapping[int, int]] | None = None
    ) -> list[Released]:
        """What need not wait any more, by source in order.

        `ends` are the next offsets to be written of all sources, events and outcomes, asked
        for after the last push: a source that has come to its end holds nobody up.
        """
        reached = self._reached(now, ends)
        limit = max(reached, self._held_long_enough(now))
        released: list[Released] = []
        for source in self._events:
            while source.held:
                head = source.held[0]
                n = int(np.searchsorted(head.clocks_ms, limit, side="right"))
                if n or not len(head.batch):
                    clocks = head.clocks_ms[:n]
                    early = n - int(np.searchsorted(clocks, reached, side="right"))
                    released.append(Released(head.batch[:n], clocks, head.position, early))
                if n < len(head.batch):
                    head.batch, head.clocks_ms = head.batch[n:], head.clocks_ms[n:]
                    break
                source.held.popleft()
        return released

    def _reached(self, now: float, ends: tuple[Mapping[int, int], Mapping[int, int]] | None) -> int:
        """The event time that all sources have come to."""
        events, outcomes = ends or ({}, {})
        limits = [self._limit(s, events.get(p), now) for p, s in enumerate(self._events)]
        for partition, source in enumerate(self._outcomes):
            limits.append(self._limit(source, outcomes.get(partition), now) + self._delay_ms)
        return min(limits)

    def _limit(self, source: _Source, end: int | None, now: float) -> int:
        """Before which time nothing more is to be expected; more of the same time may come."""
        if end is not None:
            if source.offset >= end - 1:
                source.behind_since = None
                return END
            if source.behind_since is None:
                source.behind_since = now
            if now - source.behind_since > self._stall_timeout_s:
                return END
        return source.clock_ms - 1

    def _held_long_enough(self, now: float) -> int:
        """Rows that were not late when they were read wait no longer than this, come what may."""
        limit = BEGINNING
        for source in self._events:
            for held in source.held:
                if held.arrived_at + self._hold_s > now:
                    break
                live = np.flatnonzero(~held.batch.rows.backlog)
                if len(live):
                    limit = max(limit, int(held.clocks_ms[live[-1]]))
        return limit

    @staticmethod
    def _unseen(source: _Source, batch: StageBatch) -> StageBatch:
        seen = int(np.searchsorted(batch.rows.offsets, source.offset, side="right"))
        return batch[seen:] if seen else batch

    @staticmethod
    def _come(source: _Source, batch: StageBatch) -> None:
        if batch.covers_to > source.offset:
            source.offset, source.behind_since = batch.covers_to, None
        valid = batch.rows.event_time_ms[batch.present]
        source.clock_ms = max(source.clock_ms, int(valid.max(initial=BEGINNING)))
