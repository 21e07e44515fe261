"""Where keys belong, and how it is noticed that producers do not agree on it."""

from __future__ import annotations

from zlib import crc32

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from topics.events.record_keys import KeyPlacement, is_own, murmur2_partitions

TEXTS = [f"c-{number}" for number in range(400)]


def by_murmur2(key: bytes, partitions: int) -> int:
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def by_crc32(key: bytes, partitions: int) -> int:
    return crc32(key) % partitions


@given(st.lists(st.binary(max_size=70), max_size=20), st.integers(1, 50))
def test_partitions_are_those_of_kafkas_own_partitioner(keys: list[bytes], partitions: int) -> None:
    placed = [by_murmur2(key, partitions) for key in keys]
    assert murmur2_partitions(keys, partitions).tolist() == placed


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_is_its_own_key_as_text_and_as_a_serialised_long(value: int) -> None:
    assert is_own(str(value).encode(), str(value))
    assert is_own(value.to_bytes(8, "big", signed=True), str(value))
    assert not is_own((value ^ 1).to_bytes(8, "big", signed=True), str(value))


def strays(placed: list[tuple[str, int]], partitions: int = 4) -> int:
    placement, found = KeyPlacement(partitions), 0
    for text, partition in placed:
        found += int(placement.elsewhere([text], partition).sum())
    return found


@pytest.mark.parametrize("way", [by_murmur2, by_crc32])
def test_one_partitioner_of_all_producers_is_right(way: object) -> None:
    assert strays([(text, way(text.encode(), 4)) for text in TEXTS]) == 0  # type: ignore[operator]


def test_longs_alone_are_right_and_longs_beside_texts_are_not() -> None:
    numbers = [str(number) for number in range(400)]
    longs = [(each, by_murmur2(int(each).to_bytes(8, "big"), 4)) for each in numbers]
    assert strays(longs) == 0
    texts = [(each, by_murmur2(each.encode(), 4)) for each in numbers[:100]]
    assert strays(longs + texts) > 40


def test_a_second_partitioner_is_noticed() -> None:
    mixed = [(text, way(text.encode(), 4)) for text in TEXTS for way in (by_murmur2, by_crc32)]
    assert strays(mixed) > 100


def test_a_partitioner_that_nobody_knows_is_not_judged() -> None:
    assert strays([(text, (len(text) + ord(text[-1])) % 4) for text in TEXTS]) == 0


def test_few_events_say_nothing() -> None:
    assert strays([(text, 0) for text in TEXTS[:63]]) == 0
