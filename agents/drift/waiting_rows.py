"""Events whose decision is not known yet: where their values fall, until it is.

Rows are placed in bins at once, so what waits is a few bytes of each field. Bounded in rows: the
oldest are given out undecided beyond that.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import Ints
from models.drift.detector import PlacedRows

MOST_WAITING = 100_000


class DecidedRows(NamedTuple):
    """Some rows, and what was decided of each."""

    rows: PlacedRows
    decisions: Sequence[str | None] | None
    """None where nothing is known."""


class _Chunk(NamedTuple):
    offsets: Ints
    """Ascending."""
    rows: PlacedRows

    def take(self, kept: NDArray[Any]) -> _Chunk:
        return _Chunk(self.offsets[kept], self.rows.take(kept))


class WaitingRows:
    """By partition, in the order of offsets."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._chunks: dict[int, list[_Chunk]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(len(chunk.offsets) for chunks in self._chunks.values() for chunk in chunks)

    def add(self, partition: int, offsets: Ints, rows: PlacedRows) -> Iterator[DecidedRows]:
        """Let rows wait; what there is no room for comes out, the oldest chunks first."""
        if len(offsets):
            self._chunks[partition].append(_Chunk(offsets, rows))
        waiting = len(self)
        while waiting > self._most:
            fullest = max(self._chunks, key=lambda part: len(self._chunks[part]))
            oldest = self._chunks[fullest].pop(0)
            waiting -= len(oldest.offsets)
            yield DecidedRows(oldest.rows, None)

    def decided(
        self, partition: int, offsets: Ints, decisions: Sequence[str]
    ) -> Iterator[DecidedRows]:
        """The rows of these source offsets, which are decided now."""
        left: list[_Chunk] = []
        order = np.argsort(offsets, kind="stable")
        ascending = offsets[order]
        for chunk in self._chunks[partition]:
            at = np.searchsorted(ascending, chunk.offsets)
            inside = np.minimum(at, len(ascending) - 1)
            known = ascending[inside] == chunk.offsets
            if not known.any():
                left.append(chunk)
                continue
            taken = [decisions[int(order[place])] for place in inside[known]]
            yield DecidedRows(chunk.rows.take(known), taken)
            if not known.all():
                left.append(chunk.take(~known))
        self._chunks[partition] = left

    def before(self, hour: int) -> Iterator[DecidedRows]:
        """The rows of earlier hours: nobody waits for their decision any longer."""
        for partition, chunks in self._chunks.items():
            left = []
            for chunk in chunks:
                early = chunk.rows.hours < hour
                if early.any():
                    yield DecidedRows(chunk.rows.take(early), None)
                    chunk = chunk.take(~early)  # noqa: PLW2901
                if len(chunk.offsets):
                    left.append(chunk)
            self._chunks[partition] = left

    def to_bytes(self) -> bytes:
        """All that waits, as a NumPy archive."""
        chunks = [(part, each) for part, many in self._chunks.items() for each in many]
        if not chunks:
            return b""
        file, rows = io.BytesIO(), [chunk.rows for _, chunk in chunks]
        np.savez_compressed(
            file,
            partitions=np.array([part for part, _ in chunks], np.int64),
            sizes=np.array([len(chunk.offsets) for _, chunk in chunks], np.int64),
            offsets=np.concatenate([chunk.offsets for _, chunk in chunks]),
            series=rows[0].series,
            hours=np.concatenate([each.hours for each in rows]),
            places=np.concatenate([each.places for each in rows]),
            numbers=np.concatenate([each.numbers for each in rows]),
        )
        return file.getvalue()

    def restore(self, content: bytes) -> None:
        """What `to_bytes` gave waits again. Raises ValueError, KeyError or OSError."""
        self._chunks.clear()
        if not content:
            return
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            edges = np.concatenate([[0], np.cumsum(file["sizes"])])
            rows = PlacedRows(file["series"], file["hours"], file["places"], file["numbers"])
            offsets = file["offsets"]
            ranges = zip(file["partitions"].tolist(), pairwise(edges.tolist()), strict=True)
            for partition, (start, end) in ranges:
                part = np.arange(start, end)
                self._chunks[partition].append(_Chunk(offsets[part], rows.take(part)))
