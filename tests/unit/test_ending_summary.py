"""Summaries of ends: hostile until they are validated."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.errors import WireError
from topics.redrive.endings import (
    HEADER,
    Endings,
    EndingSummary,
    decode_summary,
    encode_summary,
    is_summary,
)

rows = st.lists(
    st.tuples(st.integers(0, 2**62), st.integers(2, 1000), st.booleans()),
    min_size=1, max_size=50, unique_by=lambda row: row[:2],
)  # fmt: skip


def listed(ends: Endings) -> list[tuple[int, int, bool]]:
    columns = (ends.offsets.tolist(), ends.attempts.tolist(), ends.decided.tolist())
    return sorted(zip(*columns, strict=True))


@given(rows, st.integers(-1, 2**62), st.booleans())
def test_what_is_encoded_is_decoded(
    some: list[tuple[int, int, bool]], previous: int, complete: bool
) -> None:
    record = encode_summary(EndingSummary(Endings.of(some), previous, complete), 5)
    assert is_summary(record.headers)
    got = decode_summary(record.value, record.headers)
    assert (got.previous, got.complete) == (previous, complete)
    assert listed(got.ends) == sorted(some)
    assert got.ends.offsets.tolist() == sorted(got.ends.offsets.tolist())


@given(rows, rows)
def test_merged_ends_are_those_of_both(
    some: list[tuple[int, int, bool]], others: list[tuple[int, int, bool]]
) -> None:
    merged = Endings.of(some).merged(Endings.of(others))
    assert listed(merged) == sorted([*some, *others])
    assert merged.offsets.tolist() == sorted(merged.offsets.tolist())


@given(st.none() | st.binary(max_size=40), st.binary(max_size=80))
def test_any_bytes_are_no_summary(value: bytes | None, header: bytes) -> None:
    with pytest.raises(WireError):
        decode_summary(value, [(HEADER, header)])
    summary = EndingSummary(Endings.of([(3, 2, True)]), -1)
    with pytest.raises(WireError):
        decode_summary(value, encode_summary(summary, 5).headers)


def test_a_value_that_unpacks_to_more_than_it_should_is_refused() -> None:
    record = encode_summary(EndingSummary(Endings.of([(3, 2, True)]), -1), 5)
    with pytest.raises(WireError, match="1 ends do not fit"):
        decode_summary(zlib.compress(bytes(10**7)), record.headers)
