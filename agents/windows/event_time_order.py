"""Rows of several source partitions, put back into the order of event time.

A source partition is in order by itself, but one may be read ahead of another. A row waits
until every source has come as far as it has, or has nothing more to give: then its past is
complete, and the same whichever worker was faster. There is no clock but one: a source that has
more, but has given nothing for the stall time-out, nor has its reader a sign of life, is down. What
is let go without it is early, and marked so.

How far a source has come its rows' event times say, or when they were published where that was
earlier: one event that is ahead of its time holds nobody up.

What waits is bounded in bytes. Beyond them what a source gives is left in the log, unless others
wait for that very source; when they do, the log is to be read again from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from topics.events import progress_ms
from topics.records import Bools, Ints, StageBatch

MAX_BYTES = 64 * 2**20
"""Of batches that wait, all of a worker's partitions of a key together."""
BEGINNING = -(2**60)
END = 2**60


@dataclass(slots=True)
class _WaitingBatch:
    batch: StageBatch
    clocks_ms: Ints
    """Of each row: how far its source has come with it."""
    position: int
    nbytes: int
    """Of the batch as it came: rows of it that are left keep all of it in memory."""


@dataclass(slots=True)
class _Source:
    """One partition of a source topic."""

    offset: int
    """The last that has come."""
    clock_ms: int
    behind_since: float | None = None
    """Since when it has been known to have more to give without giving anything."""
    reader: str | None = None
    """The worker that has given a sign of life for it since it last gave anything."""
    heard_at: float = float("-inf")
    """When that worker last did."""
    at_end: bool = False
    """It had nothing more to give when its end was last asked for."""
    is_down: bool = False
    """It had more to give then, and had given nothing for too long."""
    left_at: int | None = None
    """Where in the log the first batch is that was left there; all behind it are too."""
    held: deque[_WaitingBatch] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class DueRows:
    """Rows of one source partition whose turn has come."""

    batch: StageBatch
    clocks_ms: Ints
    position: int
    """Where the batch is in the log."""
    early: int
    """Of its rows, the last so many were let go without a source that is down."""

    def early_rows(self) -> Bools:
        """Which of the rows (N,) these are."""
        return np.arange(len(self.batch)) >= len(self.batch) - self.early


class EventTimeOrder:
    """Holds the rows of all source partitions until their turn in event time.

    `partitions` is how many event sources there are; with `outcome_delay_ms`, there are as
    many of outcomes, which an event that much later waits for. Rows that wait have `max_bytes`,
    and as much more as one fetch of the source that is waited for; then those of one time do not
    wait for each other any more, and are early.
    """

    def __init__(
        self, partitions: int, *, outcome_delay_ms: int | None, stall_timeout_s: float,
        max_bytes: int = MAX_BYTES,
    ) -> None:  # fmt: skip
        self._events = [_Source(-1, BEGINNING) for _ in range(partitions)]
        outcome_sources = 0 if outcome_delay_ms is None else partitions
        self._outcomes = [_Source(-1, BEGINNING) for _ in range(outcome_sources)]
        self._delay_ms = outcome_delay_ms or 0
        self._stall_timeout_s = stall_timeout_s
        self._max_bytes = max_bytes
        self.nbytes = 0
        """Of the batches that wait."""

    def start_after(self, partition: int, offset: int, clock_ms: int, *, outcomes: bool) -> None:
        """Continue a source that has come to *offset* already."""
        source = (self._outcomes if outcomes else self._events)[partition]
        source.offset, source.clock_ms = offset, clock_ms

    def offset(self, partition: int, *, outcomes: bool) -> int:
        """How far a source has come."""
        return (self._outcomes if outcomes else self._events)[partition].offset

    def push(self, batch: StageBatch, position: int, nbytes: int = 0) -> None:
        """Take in a batch of events; rows that were seen before are dropped.

        Or leave it in the log, where there are no *nbytes* for it: see `read_again`.
        """
        source = self._events[batch.partition]
        if batch.covers_to <= source.offset:
            return  # it came before, whole
        is_full = self.nbytes > 0 and self.nbytes + nbytes > self._max_bytes
        if source.left_at is None and is_full and not self._is_waited_for(source):
            source.left_at = position
        if source.left_at is not None:
            source.behind_since, source.at_end, source.is_down = None, False, False  # it gives
            return
        batch = self._unseen(source, batch)
        progress = np.where(batch.present, _progress_ms(batch), BEGINNING)
        clocks = np.maximum.accumulate(np.maximum(progress, source.clock_ms)).astype(np.int64)
        source.held.append(_WaitingBatch(batch, clocks, position, nbytes))
        self.nbytes += nbytes
        self._come(source, batch)

    @property
    def is_full(self) -> bool:
        """More waits than may: the ends of the sources are to be asked for now."""
        return self.nbytes > self._max_bytes

    @property
    def left_at(self) -> int | None:
        """Where in the log the first batch is that was left there; None if none was."""
        left = [source.left_at for source in self._events if source.left_at is not None]
        return min(left, default=None)

    def read_again(self) -> int | None:
        """From where on the log is to be read again: others wait for what was left, or it has room.

        What had been taken in is known when it comes again.
        """
        start = self.left_at
        has_room = self.nbytes <= self._max_bytes // 2
        waited_for = (
            source.left_at is not None and self._is_waited_for(source) for source in self._events
        )
        if start is None or not (has_room or any(waited_for)):
            return None
        for source in self._events:
            source.left_at = None
        return start

    def _is_waited_for(self, source: _Source) -> bool:
        """No other source that has more to give, and is not down, has come less far."""
        return source.clock_ms - 1 <= min(
            come for come, of in self._coming() if of is source or not (of.at_end or of.is_down)
        )

    def _coming(self) -> Iterator[tuple[int, _Source]]:
        """The event time of events that each source has come to."""
        for sources, delay_ms in ((self._events, 0), (self._outcomes, self._delay_ms)):
            for source in sources:
                yield source.clock_ms - 1 + delay_ms, source  # more of the same time may come

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
    ) -> list[DueRows]:
        """What need not wait any more, by source in order; *now* in attended seconds.

        `ends` are the next offsets to be written of all sources, events and outcomes, asked
        for after the last push: a source that has come to its end holds nobody up.
        """
        reached, limit = self._reached(now, ends)
        released: list[DueRows] = []
        for source in self._events:
            while source.held:
                head = source.held[0]
                n = int(np.searchsorted(head.clocks_ms, limit, side="right"))
                if n or not len(head.batch):
                    clocks = head.clocks_ms[:n]
                    early = n - int(np.searchsorted(clocks, reached, side="right"))
                    released.append(DueRows(head.batch[:n], clocks, head.position, early))
                if n < len(head.batch):
                    head.batch, head.clocks_ms = head.batch[n:], head.clocks_ms[n:]
                    break
                self.nbytes -= source.held.popleft().nbytes
        return released

    def note_ends(self, now: float, ends: tuple[Mapping[int, int], Mapping[int, int]]) -> None:
        """Take note of which sources have more to give, and since when."""
        for sources, offsets in zip((self._events, self._outcomes), ends, strict=True):
            for partition, source in enumerate(sources):
                if partition not in offsets:
                    continue
                source.at_end = source.offset >= offsets[partition] - 1 and source.left_at is None
                if source.at_end or source.left_at is not None:
                    source.behind_since = None
                elif source.behind_since is None:
                    source.behind_since = now
                source.is_down = self._is_silent(source, now)

    def behind_s(self, partition: int, now: float) -> float:
        """For how long an event source has had more to give, and has given nothing."""
        since = self._events[partition].behind_since
        return 0.0 if since is None else now - since

    def lagging(self, now: float) -> float:
        """The longest that any source has had more to give, and has given nothing."""
        known = [s.behind_since for s in (*self._events, *self._outcomes)]
        return max((now - since for since in known if since is not None), default=0.0)

    def hear(self, partition: int, worker: str, now: float) -> None:
        """Who reads a source for us lives: it is slow, not down.

        Until the source gives something one worker is believed: a second one that comes instead
        shows that the first has ended, and the third may end at the same record.
        """
        for source in (self._events[partition], *self._outcomes[partition : partition + 1]):
            if source.reader in (None, worker):
                source.reader, source.heard_at = worker, now
                source.is_down = False

    def is_down(self, partition: int, now: float) -> bool:
        """Whether an event source is not waited for any more."""
        return self._is_silent(self._events[partition], now)

    def any_down(self, now: float) -> bool:
        """Whether any source is not waited for any more."""
        return any(self._is_silent(source, now) for source in (*self._events, *self._outcomes))

    def _is_silent(self, source: _Source, now: float) -> bool:
        since = source.behind_since
        return since is not None and now - max(since, source.heard_at) > self._stall_timeout_s

    def _reached(
        self, now: float, ends: tuple[Mapping[int, int], Mapping[int, int]] | None
    ) -> tuple[int, int]:
        """The event time that all sources have come to, and the one that those not down have."""
        if ends is not None:
            self.note_ends(now, ends)
        reached, limit = END, END
        for come, source in self._coming():
            if ends is not None and source.at_end:
                continue
            reached = min(reached, come)
            if ends is None or not source.is_down:
                limit = min(limit, come)
        # What is waited for may be more of one time, without end.
        return reached, limit + 1 if self.is_full else limit

    @staticmethod
    def _unseen(source: _Source, batch: StageBatch) -> StageBatch:
        seen = int(np.searchsorted(batch.rows.offsets, source.offset, side="right"))
        return batch[seen:] if seen else batch

    @staticmethod
    def _come(source: _Source, batch: StageBatch) -> None:
        if batch.covers_to > source.offset:
            source.offset, source.behind_since = batch.covers_to, None
            source.at_end = source.is_down = False
            source.reader = None
        valid = _progress_ms(batch)[batch.present]
        source.clock_ms = max(source.clock_ms, int(valid.max(initial=BEGINNING)))


def _progress_ms(batch: StageBatch) -> Ints:
    """How far its source has come by each row of a batch (N,), see `progress_ms`."""
    return progress_ms(batch.rows.event_time_ms, batch.rows.published_ms)
