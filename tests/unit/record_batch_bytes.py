"""Record batches as a broker stores them, made by aiokafka's writer."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder
from aiokafka.record.util import calc_crc32c

from topics.kafka.batches import Record

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_CONTROL = 0x20


def batch_bytes(
    records: Sequence[Record], first: int = 0, *, codec: str = "none", producer: int = -1,
    transactional: bool = False, deltas: Sequence[int] | None = None,
) -> bytes:  # fmt: skip
    """One batch from offset *first* on; with *deltas*, the offsets that compaction has left."""
    builder = Builder(2, CODECS[codec], transactional, producer, 0, 0, 2**30)
    for at, (key, value, timestamp_ms, headers) in enumerate(records):
        delta = at if deltas is None else deltas[at]
        assert builder.append(delta, timestamp_ms, key, value, list(headers)) is not None
    return at_offset(bytes(builder.build()), first)


def at_offset(batch: bytes, first: int) -> bytes:
    """The batch from another offset on, as a broker changes it."""
    return struct.pack(">q", first) + batch[8:]


def marker_bytes(first: int, producer: int, *, commit: bool) -> bytes:
    """The marker that ends a transaction."""
    key = struct.pack(">hh", 0, int(commit))
    batch = bytearray(
        batch_bytes([Record(key, bytes(6), 0)], first, producer=producer, transactional=True)
    )
    (attributes,) = struct.unpack_from(">h", batch, 21)
    struct.pack_into(">h", batch, 21, attributes | _CONTROL)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return bytes(batch)
