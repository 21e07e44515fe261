"""Pieces of a snapshot come from a broker: they are whole, or refused with a reason."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.features.history_chunk import MalformedChunk
from tests.unit.plain_history import Bounds, fed, many

CHUNK = next(fed(Bounds(10**6, 0, 100).history(), many(40, 5)).chunks(10**6))


def forged(**changes: object) -> bytes:
    """The chunk with other entries in its header."""
    end = 4 + int.from_bytes(CHUNK[:4], "little")
    header = json.dumps({**json.loads(CHUNK[4:end]), **changes}).encode()
    return len(header).to_bytes(4, "little") + header + CHUNK[end:]


def body(at: int, new: bytes) -> bytes:
    """The chunk with *new* at byte *at* behind its header."""
    at += 4 + int.from_bytes(CHUNK[:4], "little")
    return CHUNK[:at] + new + CHUNK[at + len(new) :]


TEXT, KEYS = 25, 5
"""The five keys are key-0 … key-4."""
TIMES = TEXT + 8 * KEYS


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (b"", "header would end"),
        (b"\xff\xff\xff\xff" + CHUNK[4:], "header would end"),
        (b"\x03\0\0\0[[[" + CHUNK, "not JSON"),
        (b"\x02\0\0\0\xff\xff" + CHUNK, "not JSON"),
        ((256).to_bytes(4, "little") + b"[" * 256, "not JSON"),
        (b"\x02\0\0\0[]", "does not name the format"),
        (forged(format="other"), "does not name the format"),
        (forged(keys=True), "does not give"),
        (forged(entries=1e9), "does not give"),
        (forged(entries=-1), "does not give"),
        (forged(width=3), "have 3 values, here they have 2"),
        (forged(entries=10**15), "bytes follow the header"),
        (forged(keys=10**100), "bytes follow the header"),
        (CHUNK[:-1], "bytes follow the header"),
        (CHUNK + b"\0", "bytes follow the header"),
        (body(0, b"\xff"), "not UTF-8"),
        (body(0, "ééé".encode()), "not as long as it says"),
        (body(TEXT, b"\xff\xff\xff\xff"), "not as long as it says"),
        (body(0, b"key-1"), "a key twice"),
        (body(TEXT + 4 * KEYS, b"\xff\xff\xff\xff"), "do not add up"),
        (body(TEXT + 4 * KEYS, b"\0\0\0\0"), "do not add up"),
        (body(TIMES, b"\xff" * 7 + b"\x7f"), "out of range"),
        (body(TIMES, (10**6).to_bytes(8, "little")), "not in order"),
        (body(TIMES + 16 * 40, np.array([np.inf]).tobytes()), "infinite"),
    ],
)
def test_a_malformed_chunk_says_what_is_wrong_and_changes_nothing(
    chunk: bytes, reason: str
) -> None:
    history = Bounds(10**6, 0, 100).history()
    with pytest.raises(MalformedChunk, match=reason):
        history.restore(chunk)
    assert (history.keys, history.entries) == (0, 0)
    history.restore(CHUNK)
    assert list(history.chunks(10**6)) == [CHUNK]


@settings(max_examples=300)
@given(st.data())
def test_bytes_from_anywhere_are_restored_or_refused(data: st.DataObject) -> None:
    chunk = bytearray(CHUNK)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(chunk) - 1))
        chunk[at] = data.draw(st.integers(0, 255))
    del chunk[data.draw(st.sampled_from([len(chunk), *range(len(chunk))])) :]
    history = Bounds(10**6, 0, 100).history()
    try:
        history.restore(bytes(chunk))
    except ValueError:
        assert history.keys == 0
    else:
        again = Bounds(10**6, 0, 100).history()
        for piece in history.chunks(10**6):
            again.restore(piece)
        assert again.keys == history.keys


def test_a_chunk_is_not_restored_twice_nor_into_a_smaller_history() -> None:
    history = Bounds(10**6, 0, 100).history()
    history.restore(CHUNK)
    with pytest.raises(MalformedChunk, match="here already"):
        history.restore(CHUNK)
    with pytest.raises(MalformedChunk, match="more than 2"):
        Bounds(10**6, 0, 2).history().restore(CHUNK)
