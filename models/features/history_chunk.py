"""A piece of a history's snapshot as bytes, and back, without trust in the bytes.

    header's length (uint32) | header (JSON) | names, UTF-8 | characters of each (uint32)
    | entries of each (uint32) | times (int64) | orders (int64) | values, column by column (float64)

All little-endian. The header gives the counts, from which the length of the piece follows.

AnabranchError
└── HistoryError           also a ValueError
    ├── WrongEntries       arrays that do not fit each other, or values out of range (`history`)
    └── MalformedChunk     bytes that are no piece of a snapshot of such a history
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.arrays import Floats64, Ints
from models.features.segments import ascends
from topics.errors import AnabranchError

LATEST = 1 << 60
"""Times are within ±LATEST milliseconds, so that sums of a few of them fit into int64."""
MAX_HEADER = 256
_FORMAT = "anabranch-history-1"
_COUNTS = ("width", "keys", "text", "entries")


class HistoryError(AnabranchError, ValueError):
    """A history cannot take what it is given; it is unchanged."""


class MalformedChunk(HistoryError):
    """Bytes that are no piece of a snapshot of such a history."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"not a piece of this history's snapshot: {reason}; "
            "leave the snapshot out and read the events again"
        )


class Piece(NamedTuple):
    """K keys and their N entries, key after key."""

    keys: Sequence[str]
    counts: Ints
    """(K,) entries of each key, at least 1."""
    times_ms: Ints
    """(N,), ascending by (time, order) within a key."""
    orders: Ints
    values: Sequence[Floats64]
    """One array (N,) for each column."""


def encoded(piece: Piece) -> bytes:
    """The piece as bytes."""
    text = "".join(piece.keys).encode("utf-8", "surrogatepass")
    counts = (len(piece.values), len(piece.keys), len(text), len(piece.times_ms))
    header = json.dumps({"format": _FORMAT, **dict(zip(_COUNTS, counts, strict=True))}).encode()
    return b"".join(
        [
            len(header).to_bytes(4, "little"),
            header,
            text,
            np.fromiter(map(len, piece.keys), "<u4", len(piece.keys)).tobytes(),
            piece.counts.astype("<u4").tobytes(),
            piece.times_ms.astype("<i8").tobytes(),
            piece.orders.astype("<i8").tobytes(),
            *(column.astype("<f8").tobytes() for column in piece.values),
        ]
    )


def decoded(chunk: bytes, width: int, max_entries: int) -> Piece:
    """The piece that *chunk* holds; MalformedChunk when it holds none.

    Nothing larger than a few times the chunk is allocated, whatever it says.
    """
    begin, keys, text_bytes, entries = _header(chunk, width)
    size = text_bytes + 8 * keys + (16 + 8 * width) * entries
    if len(chunk) - begin != size:
        raise MalformedChunk(f"{len(chunk) - begin} bytes follow the header, not {size}")
    end = begin + text_bytes
    lengths = np.frombuffer(chunk, "<u4", keys, end).astype(np.int64)
    counts = np.frombuffer(chunk, "<u4", keys, end + 4 * keys).astype(np.int64)
    numbers, doubles = end + 8 * keys, end + 8 * keys + 16 * entries
    piece = Piece(
        _keys(chunk[begin:end], lengths),
        counts,
        np.frombuffer(chunk, "<i8", entries, numbers).astype(np.int64),
        np.frombuffer(chunk, "<i8", entries, numbers + 8 * entries).astype(np.int64),
        [
            np.frombuffer(chunk, "<f8", entries, doubles + 8 * entries * column).astype(np.float64)
            for column in range(width)
        ],
    )
    _check(piece, max_entries)
    return piece


def _header(chunk: bytes, width: int) -> tuple[int, int, int, int]:
    """Where the header ends, and how many keys, bytes of text and entries follow."""
    end = 4 + int.from_bytes(chunk[:4], "little")
    if not 4 < end <= min(4 + MAX_HEADER, len(chunk)):
        raise MalformedChunk(f"its header would end at byte {end} of {len(chunk)}")
    try:
        header = json.loads(chunk[4:end])
    except ValueError as exc:
        raise MalformedChunk(f"its header is not JSON ({exc})") from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise MalformedChunk(f"its header does not name the format {_FORMAT}")
    counts = [count for name in _COUNTS if type(count := header.get(name)) is int and count >= 0]
    if len(counts) < len(_COUNTS):
        raise MalformedChunk(f"its header does not give {', '.join(_COUNTS)}")
    if counts[0] != width:
        raise MalformedChunk(f"its entries have {counts[0]} values, here they have {width}")
    _, keys, text_bytes, entries = counts
    return end, keys, text_bytes, entries


def _keys(text: bytes, lengths: Ints) -> list[str]:
    try:
        names = text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as exc:
        raise MalformedChunk(f"its keys are not UTF-8 ({exc.reason})") from None
    ends = lengths.cumsum().tolist()
    if len(names) != (ends[-1] if ends else 0):
        raise MalformedChunk("its keys are not as long as it says")
    keys = [names[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    if len(set(keys)) < len(keys):
        raise MalformedChunk("it holds a key twice")
    return keys


def _check(piece: Piece, max_entries: int) -> None:
    counts, times, orders = piece.counts, piece.times_ms, piece.orders
    if counts.sum() != len(times) or not (counts > 0).all():
        raise MalformedChunk("the entries of its keys do not add up")
    if counts.max(initial=0) > max_entries:
        raise MalformedChunk(f"a key has {counts.max()} entries, more than {max_entries}")
    if ((times > LATEST) | (times < -LATEST)).any():
        raise MalformedChunk("a time is out of range")
    in_order = ascends((times[:-1], orders[:-1]), (times[1:], orders[1:]))
    in_order[counts.cumsum()[:-1] - 1] = True
    if not in_order.all():
        raise MalformedChunk("the entries of a key are not in order")
    if any(np.isinf(column).any() for column in piece.values):
        raise MalformedChunk("a value is infinite")
