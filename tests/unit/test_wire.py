from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.usable import decoded
from tests.unit.stage_batches import batch_of
from topics.errors import WireError
from topics.records.bytes_column import BytesColumn
from topics.records.stage_batch import Rows, StageBatch
from topics.records.wire import HEADER_LENGTH, Codec, decode, encode

CODECS: list[Codec] = ["binary", "json"]


def same(a: StageBatch, b: StageBatch) -> bool:
    arrays = ("present", "output", "signal")
    columns = ("offsets", "published_ms", "event_time_ms", "backlog")
    return (
        (a.component, a.topic, a.partition, a.covers_from, a.model, a.failures)
        == (b.component, b.topic, b.partition, b.covers_from, b.model, b.failures)
        and (a.rows.ids, a.rows.keys, a.rows.traces) == (b.rows.ids, b.rows.keys, b.rows.traces)
        and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)
        and all(np.array_equal(getattr(a.rows, n), getattr(b.rows, n)) for n in columns)
        and a.output.dtype == b.output.dtype
    )


@pytest.mark.parametrize("codec", CODECS)
@given(
    offsets=st.lists(st.integers(0, 2**62), unique=True, max_size=20).map(sorted),
    width=st.integers(1, 4),
    data=st.data(),
)
def test_what_is_encoded_is_decoded(
    codec: Codec, offsets: list[int], width: int, data: st.DataObject
) -> None:
    n = len(offsets)
    numbers = st.floats(allow_nan=codec == "binary", allow_infinity=False)
    output = np.array(data.draw(st.lists(numbers, min_size=n * width, max_size=n * width)))
    items = data.draw(st.lists(st.binary(max_size=8), min_size=n, max_size=n))
    batch = batch_of("risk", offsets, absent=offsets[:1])
    batch = replace(
        batch,
        output=output.reshape(n, width),
        rows=replace(batch.rows, keys=BytesColumn.of(items), traces=BytesColumn.of(items)),
    )
    value, headers = encode(batch, codec)
    again, _ = encode(decode(value, dict(headers)), codec)
    assert again == value
    if not np.isnan(batch.output).any():
        assert same(decode(value, dict(headers)), batch)


@pytest.mark.parametrize("codec", CODECS)
def test_which_rows_are_clipped_travels_with_them(codec: Codec) -> None:
    batch = batch_of("risk", [1, 5, 9, 12])
    assert decode(*_written(batch, codec)).rows.clipped is None, "nothing of it in older batches"
    marks = np.array([False, True, False, True])
    batch = replace(batch, rows=replace(batch.rows, clipped=marks))
    again = decode(*_written(batch, codec))
    assert again.rows.clipped is not None
    assert again.rows.clipped.tolist() == marks.tolist()
    joined = Rows.concat([again[1:2].rows, batch_of("risk", [20]).rows, again[3:].rows])
    assert joined.clipped is not None
    assert joined.clipped.tolist() == [True, False, True]
    picked = joined.picked(np.array([1, 2]))
    assert picked.clipped is not None
    assert (picked.clipped.tolist(), picked.offsets.tolist()) == ([False, True], [20, 12])


@pytest.mark.parametrize("codec", CODECS)
def test_where_copies_come_from_travels_with_them(codec: Codec) -> None:
    batch = batch_of("risk", [1, 5, 9])
    assert decode(*_written(batch, codec)).rows.origins is None, "nothing of it in older batches"
    origins = [b"old.events/0/7", b"", b"old.events/3/1"]
    batch = replace(batch, rows=replace(batch.rows, origins=BytesColumn.of(origins)))
    again = decode(*_written(batch, codec)).rows
    assert again.origins is not None
    assert again.origins.items() == origins
    joined = Rows.concat([again[1:], batch_of("risk", [20]).rows]).picked(np.array([1, 2]))
    assert joined.origins is not None
    assert joined.origins.items() == [origins[2], b""]


def _written(batch: StageBatch, codec: Codec) -> tuple[bytes, dict[str, bytes]]:
    value, headers = encode(batch, codec)
    return value, dict(headers)


def test_slices_joined_again_are_the_whole() -> None:
    batch = batch_of("risk", list(range(10)), absent=[3, 7])
    for cut in range(11):
        first, second = batch[:cut], batch[cut:]
        assert BytesColumn.concat([first.rows.ids, second.rows.ids]) == batch.rows.ids
        assert len(first.failures) + len(second.failures) == 2
        assert [f.row + cut for f in second.failures] + [f.row for f in first.failures] != []
        if cut < 10:
            assert second.covers_from == cut


@pytest.mark.parametrize("codec", CODECS)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_gives_a_batch_or_a_wire_error(codec: Codec, at: int, bit: int) -> None:
    value, headers = encode(batch_of("risk", [1, 5, 9], absent=[5]), codec)
    broken = bytearray(value)
    broken[at % len(value)] ^= 1 << bit
    try:
        decode(bytes(broken), dict(headers))
    except WireError as exc:
        assert str(exc).startswith("not a stage batch: ")


@pytest.mark.parametrize("codec", CODECS)
@given(size=st.integers(0, 2_000))
def test_a_truncated_batch_is_refused(codec: Codec, size: int) -> None:
    value, headers = encode(batch_of("risk", [1, 5, 9]), codec)
    if size < len(value):
        with pytest.raises(WireError):
            decode(value[:size], dict(headers))


@given(st.binary(max_size=200), st.one_of(st.none(), st.binary(max_size=4)))
def test_anything_else_is_refused(value: bytes, length: bytes | None) -> None:
    headers = {} if length is None else {"inference-header-content-length": length}
    with pytest.raises(WireError):
        decode(value, headers)


HOSTILE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from([2**63, -(2**63), 2**62 + 2, 10**30, -2, "1", [], {}, [[1]], "P" * 100]),
)  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.data(), hostile=HOSTILE)
def test_a_field_that_says_anything_gives_a_usable_batch_or_a_wire_error(
    codec: Codec, data: st.DataObject, hostile: object
) -> None:
    value, headers = encode(batch_of("risk", [1, 5, 9], absent=[5]), codec)
    length = int(dict(headers).get(HEADER_LENGTH, len(value)))
    header = json.loads(value[:length])
    place = data.draw(st.sampled_from(sorted(_places(header), key=repr)))
    *path, last = place
    at = header
    for step in path:
        at = at[step]
    at[last] = hostile
    head = json.dumps(header).encode()
    given_length = len(head).to_bytes(3, "little") if codec == "binary" else bytes(3)
    decoded(given_length + head + value[length:])


def _places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of everything inside a JSON document."""
    inside = node.items() if isinstance(node, dict) else enumerate(node)
    for step, child in inside:
        yield (*path, step)
        if isinstance(child, dict | list):
            yield from _places(child, (*path, step))


@pytest.mark.parametrize("codec", CODECS)
@given(cut=st.integers(0, 5000), insert=st.binary(max_size=40), drop=st.integers(0, 40))
def test_a_spliced_batch_is_usable_or_refused(
    codec: Codec, cut: int, insert: bytes, drop: int
) -> None:
    value, headers = encode(batch_of("risk", [1, 5, 9], absent=[5]), codec)
    cut %= len(value) + 1
    length = int(dict(headers).get(HEADER_LENGTH, 0))
    decoded(length.to_bytes(3, "little") + value[:cut] + insert + value[cut + drop :])


@given(noise=st.binary(max_size=3000))
def test_what_is_refused_costs_no_more_memory_than_it_has_bytes(noise: bytes) -> None:
    value, headers = encode(batch_of("risk", list(range(50))))
    length = int(dict(headers)[HEADER_LENGTH])
    data = length.to_bytes(3, "little") + value[: len(value) - len(noise)] + noise
    tracemalloc.start()
    try:
        decoded(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000 + 40 * len(data)


def test_elements_that_do_not_fit_their_column_are_refused_on_arrival() -> None:
    batch = batch_of("risk", [1, 2])
    value, headers = encode(batch)
    with pytest.raises(WireError, match="BYTES column"):
        decode(value.replace(b"\x07\x00\x00\x00event-1", b"\x09\x00\x00\x00event-1"), dict(headers))


def test_a_huge_claimed_shape_allocates_nothing() -> None:
    value, headers = encode(batch_of("risk", [1]))
    with pytest.raises(WireError):
        decode(value.replace(b'"shape":[1]', b'"shape":[9999999999]'), dict(headers))


def test_rows_out_of_order_are_refused() -> None:
    batch = batch_of("risk", [1, 2])
    backwards = replace(batch, rows=replace(batch.rows, offsets=np.array([2, 1])))
    with pytest.raises(WireError, match="do not ascend"):
        decode(*_dicted(encode(backwards)))


def test_json_is_readable_by_any_consumer() -> None:
    value, headers = encode(batch_of("risk", [1, 2]), "json")
    assert dict(headers)["content-type"] == b"application/json"
    assert b'"name":"signal","shape":[2],"datatype":"FP32"' in value


def test_json_refuses_what_it_cannot_hold() -> None:
    batch = replace(batch_of("risk", [1]), output=np.array([[np.nan]]))
    with pytest.raises(WireError, match="codec: binary"):
        encode(batch, "json")


def _dicted(encoded: tuple[bytes, list[tuple[str, bytes]]]) -> tuple[bytes, dict[str, bytes]]:
    return encoded[0], dict(encoded[1])


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    value, headers = encode(batch_of("risk", [1]), "json")
    deep = b"[" * 1010 + b"]" * 1010
    with pytest.raises(WireError):
        decode(value.replace(b'"model_name":"risk"', b'"model_name":' + deep), dict(headers))
