"""Entries of many keys in shared arrays: about 8 · (2 + width) · 1.2 bytes for each entry.

A key is a slot here. Its entries, sorted by (time, order), lie in one block of the arrays,
with some room behind them. A block that is full is slid to its own beginning when enough of
it has expired, and otherwise moves to the end of the arrays; what it leaves is closed by
`compact` before the arrays grow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import Floats64, Ints
from models.features.segments import pieces, ranges, upper_bound

LONG_AGO = -(1 << 61)
"""Earlier than every time that an entry may have."""


class EntryStore:
    """Sorted entries per slot, and where they lie: [start, end) of the arrays below.

    An entry at or before its slot's newest time - `keep_ms` is invisible, whether it still
    lies here or not. Positions hold until the next `reserve`, `compact` or `extend`.
    """

    def __init__(self, width: int, keep_ms: int) -> None:
        self.times: Ints = np.zeros(1, np.int64)
        self.orders: Ints = np.zeros(1, np.int64)
        self.values: tuple[Floats64, ...] = tuple(np.zeros(1) for _ in range(width))
        self.start: Ints = np.zeros(0, np.int64)
        self.end: Ints = np.zeros(0, np.int64)
        self._block: Ints = np.zeros(0, np.int64)
        self._limit: Ints = np.zeros(0, np.int64)
        self._keep_ms = keep_ms
        self._slots = 0
        self._tail = 0
        self._room = 0

    @property
    def _columns(self) -> tuple[Ints | Floats64, ...]:
        return (self.times, self.orders, *self.values)

    @property
    def entries(self) -> int:
        """Entries that lie here, invisible ones among them."""
        return int((self.end - self.start).sum())

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        slots = (self.start, self.end, self._block, self._limit)
        return sum(array.nbytes for array in (*self._columns, *slots))

    def newest(self, slots: Ints) -> tuple[Ints, Ints]:
        """(time, order) of each slot's last entry; LONG_AGO for a slot that has none yet."""
        last = self.end[slots] - 1
        empty = self.start[slots] > last
        times = np.where(empty, LONG_AGO, self.times.take(last, mode="clip"))
        return times, self.orders.take(last, mode="clip")

    def floors(self, slots: Ints) -> Ints:
        """The time at or before which entries of each slot are invisible."""
        return self.newest(slots)[0] - self._keep_ms

    def visible(self, slot: int) -> tuple[Ints, Ints, list[Floats64]]:
        """Times, orders and values of what is visible in a slot, in order."""
        at = np.array([slot])
        floor = self.floors(at)
        first = int(upper_bound(self.times, self.start[at], self.end[at], floor)[0])
        rows = slice(first, int(self.end[slot]))
        return self.times[rows], self.orders[rows], [column[rows] for column in self.values]

    def add_slots(self, count: int) -> None:
        """Make *count* empty slots behind the others."""
        self._slots += count
        if self._slots > len(self.start):
            for array in (self.start, self.end, self._block, self._limit):
                array.resize(self._slots + self._slots // 8, refcheck=False)  # filled with 0

    def reserve(self, slots: Ints, counts: Ints) -> None:
        """Make room for *counts* more entries in each of *slots*, which are all different."""
        full = self.end[slots] + counts > self._limit[slots]
        if not full.any():
            return
        slots, counts = slots[full], counts[full]
        self.trim(slots)
        need = self.end[slots] - self.start[slots] + counts
        leaves = need + need // 8 > self._limit[slots] - self._block[slots]
        rooms = _roomy(need[leaves])
        self._lengthen(int(rooms.sum()))
        target = self._block[slots]
        target[leaves] = self._tail + rooms.cumsum() - rooms
        self._move(slots, target)
        self._own(slots[leaves], target[leaves], rooms)

    def append(self, slots: Ints, counts: Ints, columns: Sequence[Ints | Floats64]) -> Ints:
        """Write *counts* entries behind each slot's last, where `reserve` made room.

        `columns` are times, orders and values, slot after slot. Returns the positions.
        """
        at = ranges(self.end[slots], counts)
        for column, added in zip(self._columns, columns, strict=True):
            column[at] = added
        self.end[slots] += counts
        return at

    def place(self, slot: int, time: int, order: int) -> int:
        """The position behind the slot's last entry that is not after (time, order)."""
        start, end = int(self.start[slot]), int(self.end[slot])
        low, high = (
            start + int(self.times[start:end].searchsorted(time, side=side))
            for side in ("left", "right")
        )
        return low + int(self.orders[low:high].searchsorted(order, side="right"))

    def insert(self, slot: int, at: int, row: Sequence[float]) -> None:
        """Write time, order and values of one entry at *at*; those behind it move up by one."""
        end = int(self.end[slot])
        for column, value in zip(self._columns, row, strict=True):
            column[at + 1 : end + 1] = column[at:end]
            column[at] = value
        self.end[slot] = end + 1

    def extend(self, counts: Ints, columns: Sequence[Ints | Floats64]) -> None:
        """New slots behind the others, with *counts* entries each."""
        slots = np.arange(self._slots, self._slots + len(counts))
        self.add_slots(len(counts))
        rooms = _roomy(counts)
        self._lengthen(int(rooms.sum()))
        self._own(slots, self._tail + rooms.cumsum() - rooms, rooms)
        self.start[slots] = self.end[slots] = self._block[slots]
        self.append(slots, counts, columns)

    def trim(self, slots: Ints, before_ms: int = LONG_AGO) -> None:
        """Drop what is invisible in each of *slots*, and what is not after *before_ms*."""
        until = np.maximum(self.floors(slots), before_ms)
        self.start[slots] = upper_bound(self.times, self.start[slots], self.end[slots], until)

    def keep(self, slots: Ints) -> None:
        """Forget all other slots; slots[i] becomes slot i. Gives memory back."""
        self.start, self.end = self.start[slots], self.end[slots]
        self._block, self._limit = self._block[slots], self._limit[slots]
        self._slots = len(slots)
        self._compact(tight=True)
        self._resize(self._tail + 1)

    def _lengthen(self, count: int) -> None:
        """Make the arrays *count* entries longer than their tail: compact first, then grow."""
        if self._tail + count > len(self.times) and self._tail > self._room + self._room // 8:
            self._compact(tight=False)
        if self._tail + count > len(self.times):
            self._resize(self._tail + count + self._tail // 8)

    def _resize(self, length: int) -> None:
        for column in self._columns:
            column.resize(length, refcheck=False)  # realloc: never two copies of one array

    def _compact(self, *, tight: bool) -> None:
        """Close the gaps between blocks; *tight* also takes back room that entries left."""
        slots = self._block.argsort(kind="stable")
        rooms = (self._limit - self._block)[slots]
        if tight:
            rooms = np.minimum(rooms, _roomy((self.end - self.start)[slots]))
        blocks = rooms.cumsum() - rooms
        for piece in pieces(rooms):  # ascending, and none moves up: nothing is overwritten
            self._move(slots[piece], blocks[piece])
        self._tail = self._room = 0
        self._block[slots] = self._limit[slots] = 0
        self._own(slots, blocks, rooms)

    def _move(self, slots: Ints, target: Ints) -> None:
        sizes = self.end[slots] - self.start[slots]
        for piece in pieces(sizes):
            source = ranges(self.start[slots[piece]], sizes[piece])
            to = ranges(target[piece], sizes[piece])
            for column in self._columns:
                column[to] = column.take(source)
        self.start[slots], self.end[slots] = target, target + sizes

    def _own(self, slots: Ints, blocks: Ints, rooms: Ints) -> None:
        """Give *slots* these blocks behind the tail instead of those they had."""
        given = int(rooms.sum())
        self._room += given - int((self._limit[slots] - self._block[slots]).sum())
        self._tail += given
        self._block[slots], self._limit[slots] = blocks, blocks + rooms


def _roomy(sizes: Ints) -> Ints:
    """The room of blocks for *sizes* entries: a quarter more, so that most appends just fit."""
    return sizes + sizes // 4 + 1
