"""Double-entry bookkeeping of source records: each must end once, in a decision or dead letter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.audit.ledger_chunks import (
    DEAD,
    DECIDED,
    ENTERED,
    SIZE,
    Chunks,
    Counts,
    Rows,
    segment_counts,
)

Ranges = Sequence[tuple[int, int]]
"""[start, end) of source offsets."""


@dataclass(frozen=True, slots=True)
class Account:
    """How the source records of one partition (or all) ended."""

    inputs: int = 0
    decided: int = 0
    dead: int = 0
    in_flight: int = 0
    """No end yet, but behind the last decision in source order."""
    lost: int = 0
    """No end, though a later record of the partition has a decision."""
    duplicated: int = 0
    """Ends beyond the first; of a redriven record, beyond one for each attempt and one decision."""
    redriven: int = 0
    """Records that were dead and went through the pipeline again: decided or dead by that."""
    expired: int = 0
    """Offsets whose record is gone, and that have an end: all is well."""
    expired_unread: int = 0
    """Offsets whose record is gone, and that have no end, though that could be seen."""
    unjudged: int = 0
    """Offsets of which nobody can say: the end, if there was one, may be gone."""

    @property
    def unaccounted(self) -> int:
        """Source records without an end."""
        return self.in_flight + self.lost

    def __add__(self, other: Account) -> Account:
        return Account(*(a + b for a, b in zip(self.row(), other.row(), strict=True)))

    def row(self) -> tuple[int, ...]:
        """The numbers, in the order of the fields."""
        return astuple(self)

    def more(self, **numbers: int) -> Account:
        """The account with so many more."""
        return replace(self, **{name: getattr(self, name) + n for name, n in numbers.items()})


@dataclass(frozen=True, slots=True)
class PartitionView:
    """What can be seen of a partition; without more, all of it."""

    gone: Ranges = ()
    """Source offsets that were gone before they could be read: each may have been a record."""
    unseen: Ranges = ()
    """Source offsets whose ends may be gone."""
    ends_gone: int | None = None
    """So many ends are gone, at most: of more offsets than that the ends were never there."""
    gaps: bool = False
    """Not every offset was a record: transactions were used."""
    read_to: int | None = None
    """Records from here on were not read by the pipeline; None where nobody knows."""
    ended_to: int = -1
    """What is gone before this has an end by now, or will have none, also behind the last decision:
    a dead letter of a later record is old enough."""


class Ledger:
    """Counts, per source partition and offset, one entry and its ends.

    Memory is for what stands otherwise than its neighbours, however many offsets there are.

    >>> ledger = Ledger()
    >>> ledger.enter(0, [0, 1, 2])
    >>> ledger.decide(0, [0, 2, 2])
    >>> ledger.total()  # doctest: +ELLIPSIS
    Account(inputs=3, decided=2, dead=0, in_flight=0, lost=1, duplicated=1, redriven=0, ...)
    """

    def __init__(self) -> None:
        self._chunks: dict[int, Chunks] = {}
        self._last_decided: dict[int, int] = {}
        self._again: dict[int, dict[int, tuple[tuple[int, bool], ...]]] = {}
        """Partition → source offset → later attempts that ended, and which in a decision."""
        self.decisions = 0
        """Decision records seen, duplicates included."""
        self.dead_letters = 0
        """Dead letters seen, duplicates included."""

    def enter(self, partition: int, offsets: Iterable[int]) -> None:
        """Source records exist at *offsets*."""
        chunks = self._chunks_of(partition)
        if isinstance(offsets, range) and offsets.step == 1:
            chunks.enter(offsets.start, offsets.stop)
        else:
            chunks.count(ENTERED, _array(offsets))

    def decide(self, partition: int, offsets: Iterable[int]) -> None:
        """Decisions were written about the source records at *offsets*."""
        at = _array(offsets)
        self._chunks_of(partition).count(DECIDED, at)
        self.decisions += len(at)
        last = self._last_decided.get(partition, -1)
        self._last_decided[partition] = max(last, int(at.max(initial=-1)))

    def bury(self, partition: int, offsets: Iterable[int]) -> None:
        """Dead letters were written about the source records at *offsets*."""
        at = _array(offsets)
        self._chunks_of(partition).count(DEAD, at)
        self.dead_letters += len(at)

    def end_again(self, partition: int, offset: int, attempt: int, *, decided: bool) -> None:
        """A later attempt at the source record, which had a dead letter, has ended."""
        again = self._again.setdefault(partition, {})
        again[offset] = (*again.get(offset, ()), (attempt, decided))

    def last_decided(self, partition: int) -> int:
        """The highest source offset with a decision; -1 for none."""
        return self._last_decided.get(partition, -1)

    def account(self, partition: int, view: PartitionView | None = None) -> Account:
        """The state of one partition, as far as it can be seen."""
        chunks = self._chunks.get(partition, Chunks())
        segments = _Segments(view or PartitionView(), self.last_decided(partition))
        account, open_there, open_gone = Account(), 0, 0
        for at, counts in enumerate(segment_counts(chunks, segments.cuts)):
            segment = segments.account(at, counts)
            account += segment
            if segments.has_passed(at):
                open_there += counts.open
                open_gone += segment.unjudged - counts.open
        for (_, offset), number in chunks.beyond.items():
            if segments.is_gone(offset) or _column(chunks, offset)[ENTERED]:
                account = account.more(duplicated=number)
        change = self._redriven(partition, chunks, segments)
        account += change
        if view is None or view.ends_gone is None:
            return account
        # No more ends can be gone than there were: pigeons and their holes.
        surplus = open_there + open_gone + change.unjudged - view.ends_gone
        if surplus <= 0:
            return account
        unread = min(surplus, open_gone)
        return account.more(unjudged=-surplus, expired_unread=unread, lost=surplus - unread)

    def partitions(self) -> list[int]:
        """The partitions that the ledger knows."""
        return sorted({*self._chunks, *self._again})

    def total(self) -> Account:
        """The state of all partitions together."""
        return sum((self.account(partition) for partition in self.partitions()), Account())

    def _chunks_of(self, partition: int) -> Chunks:
        return self._chunks.setdefault(partition, Chunks())

    def _redriven(self, partition: int, chunks: Chunks, segments: _Segments) -> Account:
        """What later attempts change in the account."""
        change = Account()
        number, rows = -1, np.zeros((3, 0), np.uint8)
        for offset, attempts in sorted(self._again.get(partition, {}).items()):
            if offset // SIZE != number:
                number = offset // SIZE
                rows = chunks.rows(number)
            change += _changed(rows[:, offset % SIZE], attempts, segments, offset)
        return change


def _changed(
    column: Rows, attempts: Sequence[tuple[int, bool]], segments: _Segments, offset: int
) -> Account:
    """What later attempts at one record change in the account."""
    entered, decided, dead = (int(count) for count in column)
    change = Account()
    if not (entered or segments.is_gone(offset)):
        return change
    if not (decided or dead):
        change = change.more(**{segments.standing(offset, there=bool(entered)): -1})
        if not entered:
            change = change.more(expired=1)
    if entered:
        by_decision = any(is_decision for _, is_decision in attempts)
        change = change.more(redriven=1, duplicated=_too_many(decided, attempts))
        if by_decision:
            change = change.more(decided=int(not decided), dead=-int(bool(dead)))
        elif not decided and not dead:
            change = change.more(dead=1)
    return change


class _Segments:
    """Stretches of source offsets that are judged alike."""

    def __init__(self, view: PartitionView, last_decided: int) -> None:
        edges = {edge for ranges in (view.gone, view.unseen) for one in ranges for edge in one}
        self.cuts = sorted({0, last_decided + 1, *edges, view.read_to or 0, max(view.ended_to, 0)})
        self._view = view
        self._last_decided = last_decided

    def account(self, at: int, counts: Counts) -> Account:
        """The account of the stretch from a cut on."""
        first = self.cuts[at]
        account = Account(
            inputs=counts.entered, decided=counts.decided, dead=counts.dead,
            duplicated=counts.duplicated,
        ).more(**{self.standing(first, there=True): counts.open})  # fmt: skip
        if not self.is_gone(first):
            return account
        width = self.cuts[at + 1] - first  # a stretch that is gone has an end
        missing = width - counts.entered - counts.ended_alone
        return account.more(
            expired=counts.ended_alone, duplicated=counts.duplicated_alone,
            **{self.standing(first, there=False): missing},
        )  # fmt: skip

    def has_passed(self, at: int) -> bool:
        """Every record of the stretch from a cut on must have ended, and only ends may be gone."""
        first, view = self.cuts[at], self._view
        may_be_none = self.is_gone(first) and view.gaps
        return first <= self._last_decided and _within(view.unseen, first) and not may_be_none

    def is_gone(self, offset: int) -> bool:
        """Its record, if there was one, was gone before it could be read."""
        return _within(self._view.gone, offset)

    def standing(self, offset: int, *, there: bool) -> str:
        """What a source offset without an end is, whose record is *there* or gone."""
        view = self._view
        if _within(view.unseen, offset) or (not there and view.gaps):
            return "unjudged"
        if offset <= self._last_decided:
            return "lost" if there else "expired_unread"
        if there:
            return "in_flight"
        if offset < view.ended_to:
            return "expired_unread"
        if view.read_to is None:
            return "unjudged"
        return "in_flight" if offset < view.read_to else "expired_unread"


def _within(ranges: Ranges, offset: int) -> bool:
    return any(start <= offset < end for start, end in ranges)


def _column(chunks: Chunks, offset: int) -> Rows:
    return chunks.rows(offset // SIZE)[:, offset % SIZE]


def _too_many(decisions: int, later: Sequence[tuple[int, bool]]) -> int:
    """Ends beyond one for each later attempt, and attempts beyond the one that is decided."""
    attempts = {attempt for attempt, _ in later}
    decided = {attempt for attempt, by_decision in later if by_decision}
    return len(later) - len(attempts) + max(0, min(decisions, 1) + len(decided) - 1)


def _array(offsets: Iterable[int]) -> NDArray[np.int64]:
    return offsets if isinstance(offsets, np.ndarray) else np.fromiter(offsets, np.int64)
