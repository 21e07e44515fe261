"""Headers that say how an event ended, and those that do not."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.codec import has_lz4, has_snappy, has_zstd

from topics.records import dead_letter as dead_letters
from topics.records import decision
from topics.records.dead_letter import MAX_ORIGINAL_BYTES, dead_letter
from topics.records.stage_batch import Failure


@pytest.mark.parametrize("read", [decision.source_of, dead_letters.source_of])
def test_null_header_values_are_no_coordinates(read: Any) -> None:
    names = ("ce_id", "x-error-topic", "x-error-partition", "x-error-offset")
    with pytest.raises(ValueError, match=r"invalid literal|not enough values"):
        read([(name, None) for name in names])


def test_null_attempts_are_no_attempts() -> None:
    with pytest.raises(ValueError, match=r"invalid literal|not enough values"):
        decision.attempt_of([(decision.ATTEMPT_HEADER, None)])  # type: ignore[list-item]  # Kafka allows it
    with pytest.raises(ValueError, match=r"invalid literal|not enough values"):
        dead_letters.attempt_of([("x-error-attempt", None)])  # type: ignore[list-item]


def test_headers_too_large_to_repeat_are_not_repeated() -> None:
    original = (b"k", b"v", [("h", bytes(MAX_ORIGINAL_BYTES))])
    letter = dead_letter(
        Failure(0, "features", "InvalidEvent", "no"), ("p.events", 0, 7), original, 0,
        published_ms=0,
    )  # fmt: skip
    assert letter.value is None
    assert "too many to repeat" in dict(letter.headers)["x-error-original"].decode()


def test_every_compression_that_producers_may_choose_can_be_read() -> None:
    assert has_lz4()
    assert has_snappy()
    assert has_zstd()
