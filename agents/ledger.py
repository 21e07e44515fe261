"""Double-entry bookkeeping of source records: each must end once, in a decision or dead letter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray


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

    @property
    def unaccounted(self) -> int:
        """Source records without an end."""
        return self.in_flight + self.lost

    def __add__(self, other: Account) -> Account:
        return Account(*(a + b for a, b in zip(self.row(), other.row(), strict=True)))

    def row(self) -> tuple[int, ...]:
        """The numbers, in the order of the fields."""
        return tuple(asdict(self).values())


class Ledger:
    """Counts, per source partition and offset, one entry and its ends.

    >>> ledger = Ledger()
    >>> ledger.enter(0, [0, 1, 2])
    >>> ledger.decide(0, [0, 2, 2])
    >>> ledger.total()
    Account(inputs=3, decided=2, dead=0, in_flight=0, lost=1, duplicated=1, redriven=0)
    """

    def __init__(self) -> None:
        self._entered: dict[int, NDArray[np.uint32]] = {}
        self._decided: dict[int, NDArray[np.uint32]] = {}
        self._dead: dict[int, NDArray[np.uint32]] = {}
        self._again: dict[int, dict[int, list[tuple[int, bool]]]] = {}
        """Partition → source offset → later attempts that ended, and which in a decision."""
        self.decisions = 0
        """Decision records seen, duplicates included."""
        self.dead_letters = 0
        """Dead letters seen, duplicates included."""

    def enter(self, partition: int, offsets: Iterable[int]) -> None:
        """Source records exist at *offsets*."""
        _count(self._entered, partition, offsets)

    def decide(self, partition: int, offsets: Iterable[int]) -> None:
        """Decisions were written about the source records at *offsets*."""
        self.decisions += _count(self._decided, partition, offsets)

    def bury(self, partition: int, offsets: Iterable[int]) -> None:
        """Dead letters were written about the source records at *offsets*."""
        self.dead_letters += _count(self._dead, partition, offsets)

    def end_again(self, partition: int, offset: int, attempt: int, *, decided: bool) -> None:
        """A later attempt at the source record, which had a dead letter, has ended."""
        ends = self._again.setdefault(partition, {}).setdefault(offset, [])
        ends.append((attempt, decided))

    def account(self, partition: int, start: int = 0) -> Account:
        """The state of one partition, of source offsets from *start* on."""
        size = max((len(c[partition]) for c in self._counts() if partition in c), default=0)
        entered, decided, dead = (_padded(c, partition, size) for c in self._counts())
        entered[:start] = 0
        there = entered > 0
        again = self._again.get(partition, {})
        again = {at: it for at, it in again.items() if 0 <= at < size and there[at]}
        ends = decided.astype(np.int64) + dead
        duplicated = int(np.maximum(ends[there] - 1, 0).sum())
        duplicated += sum(_too_many(int(decided[at]), it) for at, it in again.items())
        last_decided = np.flatnonzero(decided).max(initial=-1)
        for at, attempts in again.items():
            ends[at] += len(attempts)
            if any(by_decision for _, by_decision in attempts):
                decided[at], dead[at] = 1, 0
            elif not decided[at]:
                dead[at] = 1
        open_offsets = np.flatnonzero(there & (ends == 0))
        return Account(
            inputs=int(there.sum()),
            decided=int((there & (decided > 0)).sum()),
            dead=int((there & (dead > 0)).sum()),
            in_flight=int((open_offsets > last_decided).sum()),
            lost=int((open_offsets < last_decided).sum()),
            duplicated=duplicated,
            redriven=len(again),
        )

    def partitions(self) -> list[int]:
        """The partitions that the ledger knows."""
        return sorted(set().union(*self._counts()))

    def total(self) -> Account:
        """The state of all partitions together."""
        return sum((self.account(partition) for partition in self.partitions()), Account())

    def _counts(self) -> tuple[dict[int, NDArray[np.uint32]], ...]:
        return self._entered, self._decided, self._dead


def _too_many(decisions: int, later: Sequence[tuple[int, bool]]) -> int:
    """Ends beyond one for each later attempt, and attempts beyond the one that is decided."""
    attempts = {attempt for attempt, _ in later}
    decided = {attempt for attempt, by_decision in later if by_decision}
    return len(later) - len(attempts) + max(0, min(decisions, 1) + len(decided) - 1)


def _count(counts: dict[int, NDArray[np.uint32]], partition: int, offsets: Iterable[int]) -> int:
    at = np.fromiter(offsets, np.int64)
    if not len(at):
        return 0
    have = counts.get(partition, np.zeros(0, np.uint32))
    if at.max() >= len(have):
        grown = np.zeros(max(int(at.max()) + 1, 2 * len(have), 1024), np.uint32)
        grown[: len(have)] = have
        counts[partition] = have = grown
    np.add.at(have, at, 1)
    return len(at)


def _padded(counts: dict[int, NDArray[np.uint32]], partition: int, size: int) -> NDArray[np.uint32]:
    have = counts.get(partition, np.zeros(0, np.uint32))
    return np.pad(have, (0, size - len(have)))
