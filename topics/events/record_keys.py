"""Record keys against the event's key field: whose value they are, and on which partition.

Kafka's own partitioner puts a key on the partition `(murmur2(key) & 0x7fffffff) % partitions`
(org.apache.kafka.common.utils.Utils.murmur2); librdkafka's default is `crc32(key) % partitions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from topics.records import Bools, Ints

_SEED, _M = 0x9747B28C, np.uint32(0x5BD1E995)
_AT_ONCE_BYTES = 2**20
_LONG_BYTES, _INT_BYTES = 8, 4
"""What Kafka's LongSerializer and IntegerSerializer write, big-endian."""
_LONGEST_NUMBER = 20
_ENOUGH = 64
"""From so many rows on it is said how keys are placed."""
_CLEAR = 0.3
"""Of the share of rows that chance does not explain, one way of placing must explain so much."""
_MOST = 4096
"""With so many rows known, older ones count half."""


def murmur2_partitions(keys: Sequence[bytes], partitions: int) -> Ints:
    """The partition (N,) that Kafka's own partitioner gives each key.

    >>> murmur2_partitions([b"c-596", b"", b"a longer key"], 4).tolist()
    [2, 1, 3]
    """
    placed = np.zeros(len(keys), np.int64)
    width = (max(map(len, keys), default=0) // 4 + 1) * 4
    step = max(1, _AT_ONCE_BYTES // width)
    for start in range(0, len(keys), step):
        part = keys[start : start + step]
        hashes = _murmur2(part, width) & np.uint32(0x7FFFFFFF)
        placed[start : start + step] = hashes % np.uint32(partitions)
    return placed


def _murmur2(keys: Sequence[bytes], width: int) -> NDArray[np.uint32]:
    """The hashes (N,) of keys that have less than *width* bytes, a multiple of 4."""
    lengths = np.fromiter(map(len, keys), np.uint32, len(keys))
    # Padded with zeros: what is left of a key behind its last whole word is a word too.
    data = b"".join([key.ljust(width, b"\0") for key in keys])
    words = np.frombuffer(data, "<u4").reshape(len(keys), width // 4)
    whole = lengths // 4
    hashes = np.uint32(_SEED) ^ lengths
    for place in range(int(whole.max(initial=0))):
        word = words[:, place] * _M
        word = (word ^ (word >> np.uint32(24))) * _M
        hashes = np.where(place < whole, (hashes * _M) ^ word, hashes)
    rest = words[np.arange(len(keys)), whole]
    hashes = np.where(lengths % 4 > 0, (hashes ^ rest) * _M, hashes)
    hashes = (hashes ^ (hashes >> np.uint32(13))) * _M
    mixed: NDArray[np.uint32] = hashes ^ (hashes >> np.uint32(15))
    return mixed


def number_of(text: str) -> int | None:
    """The integer that a key's text says; None for any other text."""
    digits = text.removeprefix("-")
    if len(text) <= _LONGEST_NUMBER and digits.isascii() and digits.isdigit():
        return int(text)
    return None


def is_own(key: bytes, text: str) -> bool:
    """The record key is the event's key, as text or as a serialised integer.

    >>> is_own(b"200", "200"), is_own((200).to_bytes(8, "big"), "200"), is_own(b"2", "200")
    (True, True, False)
    """
    if key == text.encode():
        return True
    number = number_of(text) if len(key) in (_INT_BYTES, _LONG_BYTES) else None
    return number is not None and number == int.from_bytes(key, "big", signed=True)


class KeyPlacement:
    """Learns how producers place the event's keys on partitions, and who does it otherwise.

    It is told the key's *text*, which decides whose windows an event belongs to: the same key as
    text and as eight bytes are two ways. Nobody's partitioner but the two of Kafka's clients is
    known: where neither explains the most, nothing is said.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._rows = 0.0
        self._hits = np.zeros(4)

    def elsewhere(self, texts: Sequence[str], partition: int) -> Bools:
        """Which of the keys (N,) of *partition* the usual way places on another one."""
        ways = self._ways(texts) == partition
        self._rows += len(texts)
        self._hits += ways.sum(axis=1)
        if self._rows > _MOST:
            self._rows, self._hits = self._rows / 2, self._hits / 2
        usual = int(self._hits.argmax())
        by_chance = 1 / self._partitions
        needed = by_chance + _CLEAR * (1 - by_chance)
        if self._rows < _ENOUGH or self._hits[usual] < needed * self._rows:
            return np.zeros(len(texts), np.bool_)
        strays: Bools = ~ways[usual]
        return strays

    def _ways(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The partitions (4, N) by murmur2 and CRC-32, of the text and of the number in bytes."""
        numbers = [number_of(text) for text in texts]
        plain = [text.encode() for text in texts]
        longs = [
            text if number is None or not -(2**63) <= number < 2**63
            else number.to_bytes(_LONG_BYTES, "big", signed=True)
            for text, number in zip(plain, numbers, strict=True)
        ]  # fmt: skip
        ways = [
            way
            for keys in (plain, longs)
            for way in (
                murmur2_partitions(keys, self._partitions),
                np.array([crc32(key) % self._partitions for key in keys], np.int64),
            )
        ]
        return np.stack(ways)
