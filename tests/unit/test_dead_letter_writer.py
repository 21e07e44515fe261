"""Dead letters that are larger than their topic takes are cut: no others, and in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, cast

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.redrive.dead_letter_index import DeadLetter
from agents.redrive.dead_letter_writer import DeadLetterWriter, write_while_they_fit
from topics.kafka.batches import Record
from topics.records.dead_letter import cut_dead_letter, dead_letter, original_digest, source_of
from topics.records.stage_batch import Failure

DEFAULT = 1_048_588


@dataclass
class Topic:
    """Takes record batches up to a size, as a broker does, and keeps them."""

    limit: int
    records: list[Record] = field(default_factory=list)
    refused: int = 0

    async def write(self, name: str, partition: int, records: Sequence[Record]) -> None:
        assert (name, partition) == ("p.dead-letters", 2)
        if sum(record.size for record in records) > self.limit:
            self.refused += 1
            raise MessageSizeTooLargeError
        self.records += records


def writer_of(topic: Topic) -> DeadLetterWriter:
    app = type("App", (), {"writer": topic})()
    return DeadLetterWriter(cast("Any", app), "p.dead-letters")


def letter_of(
    offset: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
) -> Record:
    failure = Failure(0, "features", "InvalidEvent", "amount is text")
    source = ("p.events", 2, offset)
    return dead_letter(failure, source, (key, value, headers), 5, published_ms=4)


def said(record: Record) -> dict[str, str]:
    return {name: (content or b"").decode(errors="replace") for name, content in record.headers}


def independent_digest(key: bytes, value: bytes, *headers: tuple[str, bytes]) -> str:
    parts = [key, value, *(part for name, each in headers for part in (name.encode(), each))]
    return sha256(b"".join(len(p).to_bytes(8, "big") + p for p in parts)).hexdigest()


async def test_only_the_letter_that_is_too_large_is_cut_and_the_order_is_the_sources() -> None:
    topic = Topic(DEFAULT)
    small = [letter_of(offset, b"k", b"v" * 300) for offset in range(2000)]
    large = letter_of(2000, b"key", b"x" * 1_048_400, [("origin", b"test")])
    letters = [*small[:1000], large, *small[1000:]]
    await writer_of(topic).write(2, letters)
    offsets = [source_of(record.headers)[2] for record in letters]
    assert [source_of(record.headers)[2] for record in topic.records] == offsets
    assert topic.records[:1000] + topic.records[1001:] == small
    got = topic.records[1000]
    assert DEFAULT - 2000 < got.size <= DEFAULT
    assert (got.key, got.value) == (b"key", b"x" * len(got.value or b""))
    about = said(got)
    assert about["origin"] == "test"
    assert about["x-error-original-bytes"] == str(1_048_400 + 3 + len("origintest"))
    assert about["x-error-original-sha256"] == independent_digest(
        b"key", b"x" * 1_048_400, ("origin", b"test")
    )
    assert about["x-error-reason"].startswith("amount is text (the original was cut: 1,048,413")
    assert (about["x-error-offset"], about["x-error-attempt"]) == ("2000", "1")


@pytest.mark.parametrize("limit", [3000, 20_000, 300_000])
async def test_the_limit_is_found_out_by_trying(limit: int) -> None:
    topic = Topic(limit)
    letters = [letter_of(offset, b"k", b"v" * (offset % 7 * 1000)) for offset in range(40)]
    await writer_of(topic).write(2, letters)
    assert [source_of(record.headers)[2] for record in topic.records] == [*range(40)]
    for letter, got in zip(letters, topic.records, strict=True):
        assert (got == letter) == (letter.size <= limit)


async def test_a_topic_that_takes_no_letter_at_all_is_an_error() -> None:
    with pytest.raises(MessageSizeTooLargeError):
        await writer_of(Topic(100)).write(2, [letter_of(0, b"k", b"v")])


@given(
    st.none() | st.binary(max_size=3000), st.none() | st.binary(max_size=3000),
    st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=900)), max_size=5),
    st.integers(1200, 6000), st.integers(1200, 6000),
)  # fmt: skip
def test_a_cut_letter_fits_and_says_what_the_whole_one_was_also_when_it_is_cut_again(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], most: int, again: int
) -> None:
    headers = [header for header in headers if not header[0].startswith("x-")]
    letter = letter_of(7, key, value, headers)
    once = cut_dead_letter(letter, most)
    twice = cut_dead_letter(once, again)
    assert once.size <= most
    assert twice.size <= again
    assert (key or b"").startswith(once.key or b"")
    assert (value or b"").startswith(once.value or b"")
    assert (once.key is None, once.value is None) == (key is None, value is None)
    for shorter in (once, twice):
        about = said(shorter)
        assert about["x-error-original-sha256"] == original_digest(key, value, headers)
        assert about["x-error-reason"].count("the original was cut") == 1
        assert source_of(shorter.headers) == ("p.events", 2, 7)


def test_null_and_empty_are_told_apart_by_the_digest() -> None:
    digests = {original_digest(key, value, []) for key in (None, b"") for value in (None, b"")}
    assert len(digests) == 4
    assert original_digest(b"ab", b"c", []) != original_digest(b"a", b"bc", [])


@settings(max_examples=50)
@given(st.lists(st.integers(1, 400_000), max_size=12), st.integers(100_000, 500_000))
async def test_what_fits_is_written_up_to_the_first_that_does_not(
    sizes: list[int], limit: int
) -> None:
    topic = Topic(limit)

    async def write(records: Sequence[Record]) -> None:
        await topic.write("p.dead-letters", 2, records)

    records = [Record(None, bytes(size), 0) for size in sizes]
    fits = [record.size <= limit for record in records]
    wanted = fits.index(False) if False in fits else len(records)
    assert await write_while_they_fit(write, records) == wanted
    assert topic.records == records[:wanted]


def test_a_cut_letter_is_known_as_one() -> None:
    record = cut_dead_letter(letter_of(7, b"k", b"v" * 5000), 2000)
    kafka = type("Got", (), {
        "partition": 2, "offset": 1, "timestamp": 5, "key": record.key, "value": record.value,
        "headers": record.headers,
    })()  # fmt: skip
    letter = DeadLetter.of(kafka, "id")
    assert (letter.digest, letter.size) == (original_digest(b"k", b"v" * 5000, []), 5001)
    assert letter.original.startswith("cut: of 5,001 bytes")
