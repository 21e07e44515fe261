"""Offsets in chunks: open while they are written to, then compressed to almost nothing.

A chunk in which every record has ended once is the same bytes over and over, and so is one in which
none has.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIZE = 2**16
"""Offsets of a chunk."""
_OPEN = 6
"""Chunks of a partition that stay open: records and their ends are read nearly side by side."""
_MOST = 255
_ROWS = 3
ENTERED, DECIDED, DEAD = range(_ROWS)

Rows = NDArray[np.uint8]
"""Of each offset (3, SIZE): whether it has a record, how many decisions, how many dead letters."""


class Counts(NamedTuple):
    """How the offsets of a stretch stand."""

    entered: int = 0
    decided: int = 0
    """With a record and a decision."""
    dead: int = 0
    open: int = 0
    """With a record and no end."""
    duplicated: int = 0
    """Ends beyond the first, where there is a record."""
    ended_alone: int = 0
    """With an end and no record."""
    duplicated_alone: int = 0
    """Ends beyond the first, where there is no record."""

    def plus(self, other: Counts) -> Counts:
        """Of both stretches together."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def counts_of(rows: Rows) -> Counts:
    """The counts of a chunk, or of a part of it: rows (3, N)."""
    entered = rows[ENTERED] > 0
    ends = rows[DECIDED].astype(np.int32) + rows[DEAD]
    more = np.maximum(ends - 1, 0)
    ended = ends > 0
    return Counts(
        entered=int(entered.sum()),
        decided=int((entered & (rows[DECIDED] > 0)).sum()),
        dead=int((entered & (rows[DEAD] > 0)).sum()),
        open=int((entered & ~ended).sum()),
        duplicated=int(more[entered].sum()),
        ended_alone=int((ended & ~entered).sum()),
        duplicated_alone=int(more[~entered].sum()),
    )


class _CompressedChunk(NamedTuple):
    packed: bytes
    counts: Counts


class Chunks:
    """The chunks of one partition, by their number: offsets from number · SIZE on."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, Rows] = OrderedDict()
        self._compressed: dict[int, _CompressedChunk] = {}
        self._last = _CompressedChunk(b"", Counts())
        """What was compressed last: the next chunk is most often the same, and takes no memory."""
        self.beyond: dict[tuple[int, int], int] = {}
        """Row and offset → how many ends there are beyond what a chunk can count."""

    def numbers(self) -> Iterator[int]:
        """The chunks that there are, in order."""
        return iter(sorted({*self._open, *self._compressed}))

    def rows(self, number: int) -> Rows:
        """A chunk to read; not to be changed."""
        if number in self._open:
            return self._open[number]
        if number in self._compressed:
            return _decompressed(self._compressed[number])
        return np.zeros((_ROWS, SIZE), np.uint8)

    def counts(self, number: int) -> Counts:
        """The counts of a whole chunk."""
        if number in self._open:
            return counts_of(self._open[number])
        return self._compressed[number].counts if number in self._compressed else Counts()

    def enter(self, start: int, stop: int) -> None:
        """There are records at the offsets [start, stop)."""
        while start < stop:
            number, first = divmod(start, SIZE)
            last = min(SIZE, first + stop - start)
            self._writable(number)[ENTERED, first:last] = 1
            start += last - first

    def count(self, row: int, offsets: NDArray[np.int64]) -> None:
        """One more of *row* at each of the offsets."""
        if not len(offsets):
            return
        numbers = offsets // SIZE
        if numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
            self._add(int(numbers[0]), row, offsets)
            return
        for number in np.unique(numbers).tolist():
            self._add(number, row, offsets[numbers == number])

    def _add(self, number: int, row: int, offsets: NDArray[np.int64]) -> None:
        at = offsets - number * SIZE
        more: NDArray[np.int64] = np.ones(len(at), np.int64)
        if (np.diff(at) <= 0).any():
            at, more = np.unique(at, return_counts=True)
        counts = self._writable(number)[row]
        total = counts[at] + more
        counts[at] = np.minimum(total, 1 if row == ENTERED else _MOST)
        if row != ENTERED:
            for which in np.flatnonzero(total > _MOST).tolist():
                key = row, number * SIZE + int(at[which])
                self.beyond[key] = self.beyond.get(key, 0) + int(total[which]) - _MOST

    def _writable(self, number: int) -> Rows:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        known = self._compressed.pop(number, None)
        rows = np.zeros((_ROWS, SIZE), np.uint8) if known is None else _decompressed(known).copy()
        self._open[number] = rows
        if len(self._open) > _OPEN:
            old, kept = self._open.popitem(last=False)
            packed = zlib.compress(kept.tobytes(), 1)
            if packed != self._last.packed:
                self._last = _CompressedChunk(packed, counts_of(kept))
            self._compressed[old] = self._last
        return rows


def _decompressed(chunk: _CompressedChunk) -> Rows:
    return np.frombuffer(zlib.decompress(chunk.packed), np.uint8).reshape(_ROWS, SIZE)


def segment_counts(chunks: Chunks, cuts: Sequence[int]) -> list[Counts]:
    """The counts from each of *cuts* (ascending, the first is 0) to the next, and behind the last.

    Chunks that no cut divides are not decompressed.
    """
    segments = [Counts()] * len(cuts)
    for number in chunks.numbers():
        first, end = number * SIZE, (number + 1) * SIZE
        at = bisect_right(cuts, first) - 1
        inside = [cut for cut in cuts[at + 1 :] if cut < end]
        if not inside:
            segments[at] = segments[at].plus(chunks.counts(number))
            continue
        rows = chunks.rows(number)
        for a, b in pairwise((first, *inside, end)):
            part = counts_of(rows[:, a - first : b - first])
            at = bisect_right(cuts, a) - 1
            segments[at] = segments[at].plus(part)
    return segments
