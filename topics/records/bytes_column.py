"""N byte strings in one buffer, as a BYTES tensor of the Open Inference Protocol has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self
from weakref import WeakValueDictionary

import numpy as np

_MANY = 32
"""From so many elements on it is worth a look whether they have one size."""


class _Items(list[bytes]):
    """The elements of a column, in a form that can be referred to weakly."""

    __slots__ = ("__weakref__",)


_in_flight: WeakValueDictionary[tuple[bytes, int], _Items] = WeakValueDictionary()


class BytesColumn:
    """N byte strings in one buffer, each behind its length (4 bytes, little-endian).

    That is the Open Inference Protocol's form of a BYTES tensor, so a column passes
    through a stage, or is joined to another, without a look at its elements.
    """

    __slots__ = ("_blob", "_items", "_rows")

    def __init__(self, blob: bytes, rows: int) -> None:
        self._blob: bytes | None = blob
        self._items: list[bytes] | None = None
        self._rows = rows

    @classmethod
    def of(cls, items: Sequence[bytes]) -> Self:
        """The column of *items*."""
        column = cls(b"", len(items))
        column._blob, column._items = None, list(items)
        return column

    def __len__(self) -> int:
        return self._rows

    def __bytes__(self) -> bytes:
        """The buffer: the tensor as it is on the wire."""
        if self._blob is None:
            items = self._items or []
            self._blob = b"".join(
                [part for item in items for part in (len(item).to_bytes(4, "little"), item)]
            )
        return self._blob

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BytesColumn) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(bytes(self))

    def __repr__(self) -> str:
        return f"BytesColumn({self._rows} rows, {len(bytes(self))} bytes)"

    def items(self) -> list[bytes]:
        """The elements; ValueError when the buffer does not hold exactly N of them.

        The list is the column's own: it is not to be changed.
        """
        if self._items is None:
            self._items = self._parsed(bytes(self))
        return self._items

    def _parsed(self, blob: bytes) -> list[bytes]:
        if self._rows > _MANY and (size := self._common_size(blob)) is not None:
            return [blob[at : at + size] for at in range(4, len(blob) + 1, size + 4)]
        if self._rows <= _MANY:
            return self._split(blob)
        # Every stage passes the ids and keys of its rows on: a process that reads several stages
        # has them already, as long as some of those rows are in flight.
        shared = _in_flight.get((blob, self._rows))
        if shared is None:
            shared = _in_flight[blob, self._rows] = _Items(self._split(blob))
        return shared

    def _split(self, blob: bytes) -> list[bytes]:
        elements, at = [], 0
        for _ in range(self._rows):
            start = at + 4
            at = start + int.from_bytes(blob[at:start], "little")
            if start > len(blob) or at > len(blob):
                raise ValueError("a BYTES column ends inside an element")
            elements.append(blob[start:at])
        if at != len(blob):
            raise ValueError(f"a BYTES column has {len(blob) - at} bytes left over")
        return elements

    def _common_size(self, blob: bytes) -> int | None:
        """The size of every element, if they have one in common, as ids and traces mostly do."""
        size = int.from_bytes(blob[:4], "little")
        if not self._rows or len(blob) != self._rows * (size + 4):
            return None
        lengths = np.frombuffer(blob, np.uint8).reshape(self._rows, size + 4)[:, :4]
        return size if (lengths == lengths[0]).all() else None

    def __getitem__(self, rows: slice) -> BytesColumn:
        start, stop, _ = rows.indices(self._rows)
        if (start, stop) == (0, self._rows):
            return self
        return BytesColumn.of(self.items()[start:stop])

    @classmethod
    def concat(cls, columns: Iterable[BytesColumn]) -> BytesColumn:
        """The columns' elements, one column after the other."""
        columns = list(columns)
        return columns[0] if len(columns) == 1 else cls(
            b"".join([bytes(column) for column in columns]), sum(map(len, columns))
        )  # fmt: skip
