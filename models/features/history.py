"""What is known of every key's past: the state behind features over windows of time.

Answers depend on the rows and their order alone, to the bit: not on how rows are cut into
batches, nor on when memory is compacted or restored from a snapshot.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np

from models.arrays import Bools, Floats64, Ints
from models.features.aggregates import Aggregate, Apply, VisibleEntries, aggregated
from models.features.entry_store import EntryStore
from models.features.history_chunk import (
    LATEST,
    MAX_HEADER,
    HistoryError,
    MalformedChunk,
    Piece,
    decoded,
    encoded,
)
from models.features.segments import pieces, ranges, rounds, upper_bound

__all__ = ["Aggregate", "Apply", "History"]


class WrongEntries(HistoryError):
    """Entries whose arrays do not fit each other, or whose values are out of range."""

    def __init__(self, what: str, wanted: str, value: str) -> None:
        super().__init__(f"entries of a history: {what} must be {wanted}, not {value}")


class History:
    """Entries of each key, sorted by (time, order), and aggregates over windows of them.

    An entry is a time, an order that settles ties of time (each entry of a key has its own),
    and `width` finite values; NaN is a missing value. Of a key are visible: entries less than
    `keep_ms` older than its newest, and of these the `max_entries` newest. So what is visible
    depends on the set of entries, not on their arrival, as long as none came too late.
    """

    late: int
    """Rows before their key's newest entry, those that were too late among them."""
    too_late: int
    """Rows more than `lateness_ms` before it: they got an answer, but were not added."""
    truncated: int
    """Visible entries dropped because their key had more than `max_entries`."""

    def __init__(
        self, *, width: int, keep_ms: int, lateness_ms: int, max_entries: int = 10_000
    ) -> None:
        """`keep_ms`, at least 1, is the longest window and its delay, plus `lateness_ms`."""
        self._width = width
        self._keep_ms = keep_ms
        self._lateness_ms = lateness_ms
        self._max_entries = max_entries
        self._slots: dict[str, int] = {}
        self._store = EntryStore(width, keep_ms)
        self.late = self.too_late = self.truncated = 0

    @property
    def entries(self) -> int:
        """Entries in memory; some may be invisible already."""
        return self._store.entries

    @property
    def keys(self) -> int:
        """Keys in memory."""
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and of the table of keys, without the keys' text."""
        return self._store.nbytes + sys.getsizeof(self._slots)

    def observe(
        self,
        keys: Sequence[str],
        times_ms: Ints,
        orders: Ints,
        values: Floats64,
        aggregates: Sequence[Aggregate],
    ) -> Floats64:
        """Add N rows one after the other, and return the aggregates (N, A) that each sees.

        A row sees itself, unless it is too late or at once the oldest of too many, and what
        was added before it. `values` are (N, width). Raises WrongEntries, and adds nothing.
        """
        self._check(keys, times_ms, orders, values)
        slots = self._slots_of(keys)
        answers = np.zeros((len(keys), len(aggregates)))
        for rows, ahead in rounds(slots, times_ms, orders, *self._store.newest(slots)):
            times = times_ms[rows]
            view = self._arrive(slots[rows], ahead, times, orders[rows], values[rows])
            if aggregates:
                answers[rows] = aggregated(self._store, view, times, aggregates)
        return answers

    def add(self, keys: Sequence[str], times_ms: Ints, orders: Ints, values: Floats64) -> None:
        """Add N rows one after the other, as `observe` does."""
        self.observe(keys, times_ms, orders, values, ())

    def look_up(
        self, keys: Sequence[str], times_ms: Ints, aggregates: Sequence[Aggregate]
    ) -> Floats64:
        """The aggregates (N, A) of what the keys have at these times; nothing is added."""
        slots = np.array([self._slots.get(key, -1) for key in keys], np.int64)
        known = np.flatnonzero(slots >= 0)
        first, stop, floors = np.zeros((3, len(keys)), np.int64)
        first[known], stop[known] = self._store.start[slots[known]], self._store.end[slots[known]]
        floors[known] = self._store.floors(slots[known])
        return aggregated(
            self._store, VisibleEntries(first, stop, stop, floors), times_ms, aggregates
        )

    def glimpse(
        self, key: str, time_ms: int, order: int, values: Floats64, aggregates: Sequence[Aggregate]
    ) -> Floats64:
        """The aggregates (A,) that one row sees in its turn, see `glimpses`."""
        moment = np.array([time_ms], np.int64), np.array([order], np.int64)
        answers: Floats64 = self.glimpses([key], *moment, values[None], aggregates)[0]
        return answers

    def glimpses(
        self,
        keys: Sequence[str],
        times_ms: Ints,
        orders: Ints,
        values: Floats64,
        aggregates: Sequence[Aggregate],
    ) -> Floats64:
        """The aggregates (N, A) that each row sees in its turn among those that are here.

        That is itself, and what is before it by time and order; an entry of the same order is
        the row as it came first. Nothing is added or counted, and no row sees another.
        """
        alone = History(
            width=self._width, keep_ms=self._keep_ms, lateness_ms=self._lateness_ms,
            max_entries=self._max_entries,
        )  # fmt: skip
        own_keys = [str(row) for row in range(len(keys))]
        past_keys: list[str] = []
        past: list[tuple[Ints, Ints, Floats64]] = []
        for row, (key, time_ms, order) in enumerate(
            zip(keys, times_ms.tolist(), orders.tolist(), strict=True)
        ):
            slot = self._slots.get(key)
            if slot is None:
                continue
            times, of, columns = self._store.visible(slot)
            before = (times < time_ms) | (times == time_ms) & (of < order)
            before &= of != order  # the row itself, as it came before
            n = int(before.sum())
            kept = np.array([column[before] for column in columns]).reshape(self._width, n).T
            past_keys += [own_keys[row]] * n
            past.append((times[before], of[before], kept))
        if past:
            alone.add(past_keys, *(np.concatenate(part) for part in zip(*past, strict=True)))
        return alone.observe(own_keys, times_ms, orders, values, aggregates)

    def floor(self, key: str) -> int | None:
        """The time at or before which the key's entries are forgotten; None for a new key."""
        slot = self._slots.get(key)
        return None if slot is None else int(self._store.floors(np.array([slot]))[0])

    def drop_after(self, time_ms: int) -> None:
        """Drop entries after *time_ms*; what they made invisible may be gone already."""
        slots = np.arange(len(self._slots))
        until = np.full(len(slots), time_ms, np.int64)
        start, end = self._store.start[slots], self._store.end[slots]
        self._store.end[slots] = upper_bound(self._store.times, start, end, until)

    def evict(self, before_ms: int) -> None:
        """Drop entries at or before *before_ms*, and keys without any other; frees the memory.

        Changes no answer to rows whose windows begin at *before_ms* or later.
        """
        slots = np.arange(len(self._slots))
        for piece in pieces(self._store.end[slots] - self._store.start[slots]):
            self._store.trim(slots[piece], before_ms)
        alive = self._store.end[slots] > self._store.start[slots]
        self._store.keep(slots[alive])
        self._slots = {key: slot for slot, key in enumerate(compress(self._slots, alive.tolist()))}

    def chunks(self, max_bytes: int) -> Iterator[bytes]:
        """A snapshot: the same bytes for the same visible entries, keys in order.

        Pieces have at most *max_bytes*, or one key. The history must not change in between.
        """
        keys = sorted(self._slots)
        slots = np.array([self._slots[key] for key in keys], np.int64)
        for piece in pieces(self._store.end[slots] - self._store.start[slots]):
            self._store.trim(slots[piece])
        counts = self._store.end[slots] - self._store.start[slots]
        text = (len(key.encode("utf-8", "surrogatepass")) for key in keys)
        sizes = np.fromiter(text, np.int64, len(keys)) + 8 + (16 + 8 * self._width) * counts
        for piece in pieces(sizes, max_bytes - MAX_HEADER):
            yield encoded(self._piece(keys[piece], slots[piece], counts[piece]))

    def restore(self, chunk: bytes) -> None:
        """Add the keys of one piece of a snapshot; MalformedChunk, and no change, if it is none."""
        piece = decoded(chunk, self._width, self._max_entries)
        if any(key in self._slots for key in piece.keys):
            raise MalformedChunk("a key of it is here already")
        known = len(self._slots)
        self._slots.update((key, known + place) for place, key in enumerate(piece.keys))
        self._store.extend(piece.counts, (piece.times_ms, piece.orders, *piece.values))

    def _piece(self, keys: Sequence[str], slots: Ints, counts: Ints) -> Piece:
        at = ranges(self._store.start[slots], counts)
        times, orders = self._store.times.take(at), self._store.orders.take(at)
        return Piece(keys, counts, times, orders, [v.take(at) for v in self._store.values])

    def _check(self, keys: Sequence[str], times_ms: Ints, orders: Ints, values: Floats64) -> None:
        shapes = (times_ms.shape, orders.shape, values.shape)
        wanted = ((len(keys),), (len(keys),), (len(keys), self._width))
        if shapes != wanted:
            raise WrongEntries("the shapes of times, orders, values", str(wanted), str(shapes))
        if len(keys) and max(-int(times_ms.min()), int(times_ms.max())) > LATEST:
            raise WrongEntries("times", f"within ±{LATEST} ms", "outside")
        if np.isinf(values).any():
            raise WrongEntries("values", "finite, or NaN when missing", "infinite")

    def _slots_of(self, keys: Sequence[str]) -> Ints:
        """The slot of each key; new keys get new ones."""
        table = self._slots
        known = len(table)
        slots = [table.get(key, -1) for key in keys]
        if -1 in slots:
            slots = [table.setdefault(key, len(table)) for key in keys]
            self._store.add_slots(len(table) - known)
        return np.array(slots, np.int64)

    def _arrive(
        self, slots: Ints, ahead: Bools, times: Ints, orders: Ints, values: Floats64
    ) -> VisibleEntries:
        """Add one round of rows, sorted by slot, and return what each sees."""
        store = self._store
        newest = np.maximum(store.newest(slots)[0], times)
        behind = newest - times
        self.late += int((behind > 0).sum())
        self.too_late += int((behind > self._lateness_ms).sum())
        firsts = np.flatnonzero(np.diff(slots, prepend=-1))
        unique, counts = slots[firsts], np.diff(firsts, append=len(slots))
        store.reserve(unique, counts)
        at = np.empty_like(slots)
        of = ahead[firsts]
        columns = (times[ahead], orders[ahead], *values[ahead].T)
        at[ahead] = store.append(unique[of], counts[of], columns)
        for row in np.flatnonzero(~ahead).tolist():
            entry = (int(times[row]), int(orders[row]))
            at[row] = place = store.place(int(slots[row]), *entry)
            if behind[row] <= self._lateness_ms:
                store.insert(int(slots[row]), place, (*entry, *values[row].tolist()))
        stop = np.where(ahead, at + 1, store.end[slots])
        view = VisibleEntries(store.start[slots], stop, at, newest - self._keep_ms)
        self._truncate(slots, view)
        return view

    def _truncate(self, slots: Ints, view: VisibleEntries) -> None:
        """Let no row of a round see more than `max_entries`, and drop the others."""
        least = view.stop - self._max_entries
        over = np.flatnonzero(least > view.first)
        if not len(over):
            return
        slots, least = slots[over], least[over]
        visible = upper_bound(
            self._store.times, view.first[over], view.stop[over], view.floors[over]
        )
        first = np.maximum(visible, least)
        same = np.diff(slots, prepend=-1) == 0
        dropped = np.where(same, np.roll(first, 1), 0)  # by the slot's row before
        self.truncated += int(np.maximum(least - np.maximum(visible, dropped), 0).sum())
        view.first[over] = first
        np.maximum.at(self._store.start, slots, first)
