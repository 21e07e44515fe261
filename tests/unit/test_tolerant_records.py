"""Header keys that are no text: their records are read like any other."""

from __future__ import annotations

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from topics.kafka.aiokafka_fixes import TolerantRecords

GZIP = 1


class Raw(str):
    """A header key of bytes that are no UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"tr\xffce"


def batch(keys: list[str], *, codec: int = 0, first: int = 0) -> bytes:
    """A record batch whose records have these header keys."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 2**20)
    for offset, key in enumerate(keys):
        builder.append(offset, 1000 + offset, b"k%d" % offset, b"v", [(key, b"h")])
    made = bytearray(builder.build())
    made[:8] = first.to_bytes(8, "big")
    return bytes(made)


@pytest.mark.parametrize("codec", [0, GZIP])
def test_a_header_key_that_is_no_text_becomes_readable(codec: int) -> None:
    data = batch(["a", "b"]) + batch(["c", Raw("x"), "é"], codec=codec, first=2)
    records, found = TolerantRecords(data), []
    assert records.size_in_bytes() == len(data)
    while records.has_next():
        made = records.next_batch()
        assert made.validate_crc()
        found += [(r.offset, r.key, r.value, r.timestamp, list(r.headers)) for r in made]
    assert [(offset, headers) for offset, *_, headers in found] == [
        (0, [("a", b"h")]), (1, [("b", b"h")]), (2, [("c", b"h")]),
        (3, [("tr\\xffce", b"h")]), (4, [("é", b"h")]),
    ]  # fmt: skip
    assert [(key, value, at) for _, key, value, at, _ in found[2:]] == [
        (b"k0", b"v", 1000), (b"k1", b"v", 1001), (b"k2", b"v", 1002),
    ]  # fmt: skip


def test_a_batch_that_is_corrupt_is_still_refused() -> None:
    data = bytearray(batch(["a"]))
    data[-3] ^= 0xFF
    assert not TolerantRecords(bytes(data)).next_batch().validate_crc()
