from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stage_batches import batch_of
from topics.errors import WireError
from topics.stage_batch import BytesColumn, StageBatch
from topics.wire import Codec, decode, encode

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
