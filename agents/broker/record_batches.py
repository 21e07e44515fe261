"""Record batches as a fetch brings them: what their headers say, and their records if wanted.

The layout of version 2: https://kafka.apache.org/documentation/#recordbatch. Older ones, and those
that look odd, are left to aiokafka's decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka import codec
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord

from topics.kafka import TolerantRecords, has_valid_crc

_LENGTH = struct.Struct(">qi")
# Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, two timestamps,
# producer's id, epoch and sequence, number of records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_CODEC, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20
_DECODERS = {
    1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode, 4: codec.zstd_decode,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """One batch of a partition; a reader at *next_offset* has passed it."""

    offset: int
    next_offset: int
    count: int
    """Records in it; 0 in one that holds none for a reader: a marker, an aborted transaction."""
    data: memoryview
    magic: int
    attributes: int

    @property
    def is_marker(self) -> bool:
        """It is no data of a producer's, but the end of a transaction."""
        return bool(self.attributes & _CONTROL)

    @property
    def dense(self) -> bool:
        """It has a record at every offset from its first to its last: none is compacted away."""
        return (
            self.magic >= 2 and self.count == self.next_offset - self.offset
        )  # version 2 of the format

    def records(self) -> list[Any]:
        """The records as aiokafka has them, with offset, timestamp, key, value and headers."""
        return list(TolerantRecords(bytes(self.data)).next_batch()) if self.count else []

    def body(self) -> bytes:
        """The records' bytes, uncompressed."""
        packed = bytes(self.data[_HEADER.size :])
        kind = self.attributes & _CODEC
        return bytes(_DECODERS[kind](packed)) if kind else packed


def record_batches(
    data: bytes, aborted: Iterable[tuple[int, int]], *, check: bool
) -> Iterator[RecordBatch]:
    """The whole batches of *data* in order; one that is cut off comes with a later fetch.

    *aborted* are (producer, first offset) of aborted transactions: their batches have no records.
    With *check*, CorruptRecordException for a batch whose checksum is wrong.
    """
    at, view = 0, memoryview(data)
    waiting = sorted(aborted or (), key=lambda one: one[1])
    producers = set[int]()
    while at + _HEADER.size <= len(data):
        _, length = _LENGTH.unpack_from(data, at)
        end = at + _LENGTH.size + length
        if length <= 0 or end > len(data):
            return
        batch, producer = _batch(view[at:end], check=check)
        while waiting and waiting[0][1] <= batch.offset:
            producers.add(waiting.pop(0)[0])
        if batch.is_marker:
            (marker,) = TolerantRecords(bytes(batch.data)).next_batch()
            if ControlRecord.parse(marker.key) == ABORT_MARKER:
                producers.discard(producer)
        if batch.is_marker or (batch.attributes & _TRANSACTIONAL and producer in producers):
            batch = RecordBatch(
                batch.offset, batch.next_offset, 0, batch.data, batch.magic, batch.attributes
            )
        yield batch
        at = end


def _batch(data: memoryview, *, check: bool) -> tuple[RecordBatch, int]:
    """A batch and its producer's number."""
    (
        offset, _, _, magic, _, attributes, last, _, _, producer, _, _, count,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    if magic < 2:  # version 2 of the format
        old = TolerantRecords(bytes(data)).next_batch()
        if check and not old.validate_crc():
            raise CorruptRecordException
        offsets = [record.offset for record in old]
        first, after = offsets[0], offsets[-1] + 1
        return RecordBatch(first, after, len(offsets), data, magic, 0), -1
    if check and not has_valid_crc(data, 0, len(data)):
        raise CorruptRecordException
    return RecordBatch(offset, offset + last + 1, count, data, magic, attributes), producer
