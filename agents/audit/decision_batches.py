"""Which source offsets the decisions of a record batch are about, read off many at a time.

A decision's first header is `ce_id`; what follows is the same from record to record. So the bytes
are read column by column, as the format has them, record by record nothing but where each begins.
A batch in which any record is otherwise is no such batch: it is for the full decoder, which alone
says what is a decision. Nothing is searched for: what looks like a header in a key, a value or
another header is passed over by its length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from topics.records import ATTEMPT_HEADER

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_DIGITS = 18
"""So many always fit into 63 bits."""
_ID_HEADER = np.frombuffer(b"\x0ace_id", np.uint8)
"""A header's key with its length before it."""
_OTHERWISE = (b"ce_id", ATTEMPT_HEADER.encode())
_MORE = 0x80
"""In a byte of a number: another one follows."""
_LAST_SHIFT = 56


class UnknownLayout(Exception):
    """The batch is not what the weighing agent writes of first attempts."""


def decided_offsets(body: bytes, count: int, topic: str, partition: int) -> tuple[Ints, Ints]:
    """Of *count* records: offset deltas in the batch, and the source offsets they decide (N,).

    Raises UnknownLayout where only the full decoder can say.
    """
    try:
        return _columns(body, count, f"{topic}/{partition}/".encode())
    except IndexError as exc:
        raise UnknownLayout from exc


def _columns(body: bytes, count: int, prefix: bytes) -> tuple[Ints, Ints]:
    column = np.frombuffer(body, np.uint8)
    begins, ends = _bounds(body, column, count)
    _, at = _varints(column, begins + 1)  # behind the attributes: the timestamp
    deltas, at = _varints(column, at)
    for _ in ("key", "value"):
        length, at = _varints(column, at)
        at += np.maximum(length, 0)  # -1 is null
    headers, at = _varints(column, at)
    if (_rows(column, at, len(_ID_HEADER)) != _ID_HEADER).any():
        raise UnknownLayout
    length, at = _varints(column, at + len(_ID_HEADER))
    tails = at + np.maximum(length, 0)
    if (tails > ends).any():
        raise UnknownLayout
    _check_tails(column, tails, ends, headers - 1)
    return deltas, _numbers(column, at, length, prefix)


def _bounds(body: bytes, column: Bytes, count: int) -> tuple[Ints, Ints]:
    """Where each record begins, behind its length, and where it ends."""
    starts, at, size = list[int](), 0, len(body)
    add = starts.append
    for _ in range(count):  # where one begins is known when the one before it was looked at
        add(at)
        low = body[at]
        if low < _MORE:
            at += (low >> 1) + 1
        elif (middle := body[at + 1]) < _MORE:
            at += ((low & 0x7F | middle << 7) >> 1) + 2
        else:
            if (high := body[at + 2]) >= _MORE:
                raise UnknownLayout  # a megabyte of a decision
            at += ((low & 0x7F | (middle & 0x7F) << 7 | high << 14) >> 1) + 3
    if at != size:
        raise UnknownLayout
    lengths, begins = _varints(column, np.array(starts, np.int64))
    if (lengths < 0).any():
        raise UnknownLayout
    return begins, begins + lengths


def _varints(column: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """The numbers that begin at these places (N,), and the places behind them."""
    byte = column[at]
    value: Ints = (byte & 0x7F).astype(np.int64)
    at = at + 1
    more = byte >= _MORE
    shift = 7
    while more.any():
        if shift > _LAST_SHIFT:
            raise UnknownLayout
        which = np.flatnonzero(more)
        byte = column[at[which]]
        value[which] |= (byte & 0x7F).astype(np.int64) << shift
        at[which] += 1
        more[which] = byte >= _MORE
        shift += 7
    return (value >> 1) ^ -(value & 1), at


def _rows(column: Bytes, at: Ints, width: int) -> Bytes:
    """*width* bytes from each of the places on (N, width)."""
    rows: Bytes = column[at[:, None] + np.arange(width)]
    return rows


def _check_tails(column: Bytes, begins: Ints, ends: Ints, headers: Ints) -> None:
    """Raise UnknownLayout unless each tail is so many whole headers that change no meaning.

    Nearly all tails of a batch are the same bytes, so they are compared before they are looked at.
    """
    left, lengths = np.arange(len(begins)), ends - begins
    while len(left):
        first = left[0]
        length = int(lengths[first])
        tail = column[begins[first] : ends[first]]
        number = _headers_in(tail.tobytes())
        alike = lengths[left] == length
        if length:
            windows = np.lib.stride_tricks.sliding_window_view(column, length)
            alike[alike] = (windows[begins[left[alike]]] == tail).all(axis=1)
        if (headers[left[alike]] != number).any():
            raise UnknownLayout
        left = left[~alike]


def _headers_in(tail: bytes) -> int:
    at, number, size = 0, 0, len(tail)
    while at < size:
        length, at = _varint(tail, at)
        if length < 0 or tail[at : at + length] in _OTHERWISE:
            raise UnknownLayout
        at += length
        length, at = _varint(tail, at)
        at += max(length, 0)
        number += 1
    if at != size:
        raise UnknownLayout
    return number


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > _LAST_SHIFT:
            raise UnknownLayout


def _numbers(column: Bytes, at: Ints, length: Ints, prefix: bytes) -> Ints:
    """The numbers behind *prefix* in texts of these lengths (N,); all have to be plain."""
    digits = length - len(prefix)
    if (digits < 1).any() or (digits > _DIGITS).any():
        raise UnknownLayout
    if (_rows(column, at, len(prefix)) != np.frombuffer(prefix, np.uint8)).any():
        raise UnknownLayout
    # From the last digit on, as far as the longest number goes; what is in front counts nothing.
    places = np.arange(int(digits.max(initial=0)))
    digit = column[(at + length - 1)[:, None] - places] - np.uint8(ord("0"))
    inside = places < digits[:, None]
    if (inside & (digit > 9)).any():  # no digit; one below "0" has become 208 or more
        raise UnknownLayout
    value: Ints = (digit * inside) @ 10**places
    return value
