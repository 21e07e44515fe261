"""Record batches: which records a reader of committed ones gets, without decoding them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from agents.broker.record_batches import record_batches
from tests.unit.record_batch_bytes import CODECS, batch_bytes, marker_bytes
from topics.kafka.aiokafka_fixes import TolerantRecords
from topics.kafka.batches import Record

RECORD = Record(b"k", b"value", 5, [("name", b"content")])


def ours(data: bytes, aborted: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """Offsets of records, and where to read on."""
    offsets, after = list[int](), 0
    for batch in record_batches(data, aborted, check=True):
        offsets += [record.offset for record in batch.records()]
        assert batch.count == len(batch.records())
        if batch.dense:
            assert [r.offset for r in batch.records()] == [*range(batch.offset, batch.next_offset)]
        after = batch.next_offset
    return offsets, after


def aiokafkas(data: bytes, aborted: Sequence[tuple[int, int]]) -> tuple[list[int], int]:
    """The same by aiokafka's consumer."""
    records = PartitionRecords(
        TopicPartition("t", 0), TolerantRecords(data), list(aborted), 0, None, None, True,
        READ_COMMITTED,
    )  # fmt: skip
    return [record.offset for record in records], records.next_fetch_offset


@pytest.mark.parametrize("codec", CODECS)
def test_records_of_every_codec_are_decoded(codec: str) -> None:
    data = batch_bytes([RECORD] * 20, 100, codec=codec) + batch_bytes([RECORD], 120, codec=codec)
    first, second = record_batches(data, (), check=True)
    assert (first.count, first.dense, first.offset, first.next_offset) == (20, True, 100, 120)
    assert (second.records()[0].offset, second.records()[0].value) == (120, b"value")
    (plain,) = record_batches(batch_bytes([RECORD] * 20, 100), (), check=True)
    assert first.body() == plain.body()


def test_a_batch_that_is_cut_off_is_left_for_a_later_fetch() -> None:
    data = batch_bytes([RECORD] * 3) + batch_bytes([RECORD] * 3, 3)
    for length in range(len(data)):
        whole = [batch.offset for batch in record_batches(data[:length], (), check=True)]
        assert whole == ([0] if length >= len(data) // 2 else [])


def test_a_batch_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(batch_bytes([RECORD]))
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        list(record_batches(bytes(data), (), check=True))
    assert len(list(record_batches(bytes(data), (), check=False))) == 1


def test_a_compacted_batch_says_that_it_is_not_dense() -> None:
    data = batch_bytes([RECORD] * 3, 10, deltas=[0, 4, 5])
    (batch,) = record_batches(data, (), check=True)
    assert (batch.count, batch.next_offset, batch.dense) == (3, 16, False)
    assert [record.offset for record in batch.records()] == [10, 14, 15]


pieces = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.integers(1, 3), st.integers(1, 4)),
        st.tuples(st.just("commit"), st.integers(1, 3), st.just(1)),
        st.tuples(st.just("abort"), st.integers(1, 3), st.just(1)),
        st.tuples(st.just("plain"), st.just(-1), st.integers(1, 4)),
    ),
    max_size=14,
)


@given(pieces)
def test_aborted_transactions_and_markers_have_no_records(
    parts: list[tuple[str, int, int]],
) -> None:
    data, offset = b"", 0
    open_since, aborted = dict[int, int](), list[tuple[int, int]]()
    for kind, producer, n in parts:
        if kind in ("data", "plain"):
            if kind == "data":
                open_since.setdefault(producer, offset)
            data += batch_bytes(
                [RECORD] * n, offset, producer=producer, transactional=kind == "data"
            )
        else:
            since = open_since.pop(producer, None)
            if kind == "abort" and since is not None:
                aborted.append((producer, since))
            data += marker_bytes(offset, producer, commit=kind == "commit")
        offset += n
    assert ours(data, aborted) == aiokafkas(data, aborted)
