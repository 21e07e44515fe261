"""Where sources ended, in a header of what was dealt out of them: as it was told, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.errors import WireError
from topics.records.ends_header import ENDS_HEADER, ends_header, ends_of

OFFSETS = st.lists(st.integers(0, 2**62), min_size=1, max_size=6)


@given(OFFSETS, st.booleans())
def test_ends_are_read_as_they_were_told(ends: list[int], outcomes: bool) -> None:
    name, value = ends_header(ends, ends[::-1] if outcomes else [])
    told = ends_of({name: value}, len(ends))
    assert told == (dict(enumerate(ends)), dict(enumerate(ends[::-1])) if outcomes else {})


def test_a_record_need_not_tell_them() -> None:
    assert ends_of({"traceparent": b"x"}, 2) is None


@pytest.mark.parametrize(
    "value",
    [b"", b"null", b"7", b"[]", b"[[1,2]]", b"[[1,2],[],[]]", b"[[1],[]]", b"[[1,2,3],[]]",
     b"[[1,2],[1]]", b"[[1,-1],[]]", b"[[1,true],[]]", b"[[1,2.0],[]]", b"[[1,null],[]]",
     b'[["1","2"],[]]', b"[{},[]]", b"[[1,4611686018427387905],[]]", b"[[1,2],[]", b"\xff"],
)  # fmt: skip
def test_what_is_no_ends_of_two_partitions_is_refused(value: bytes) -> None:
    with pytest.raises(WireError, match=ENDS_HEADER):
        ends_of({ENDS_HEADER: value}, 2)
