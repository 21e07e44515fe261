"""A value that is no JSON is called by its name, and its producer told what to change."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import zlib
from typing import NamedTuple

import pytest

from topics.events.event_decoder import EventDecoder
from topics.events.foreign_formats import format_advice
from topics.pipeline.event_schema import EventSchema

EVENT = {"id": "ab", "at": "2018-04-01T00:00:31Z", "x": 1.5}
JSON = json.dumps(EVENT).encode()
TEXT = JSON.decode()
DECODER = EventDecoder(
    EventSchema.model_validate(
        {
            "id": "id", "key": "id", "time": "at",
            "fields": {
                "id": {"type": "string"}, "at": {"type": "timestamp"}, "x": {"type": "number"},
            },
        }
    )
)  # fmt: skip
AVRO = b"\x04ab\x282018-04-01T00:00:31Z\x00\x00\x00\x00\x00\x00\xf8?"
PROTOBUF = b"\n\x02ab\x12\x142018-04-01T00:00:31Z\x19\x00\x00\x00\x00\x00\x00\xf8?"
MESSAGEPACK = (
    b"\x83\xa2id\xa2ab\xa2at\xb42018-04-01T00:00:31Z\xa1x\xcb?\xf8\x00\x00\x00\x00\x00\x00"
)
CBOR = b"\xa3bidbabbat\x742018-04-01T00:00:31Zax\xfb?\xf8\x00\x00\x00\x00\x00\x00"
ZSTD = b"(\xb5/\xfd\x04\x00\x91\x01\x00" + JSON
SCHEMA_17 = b"\x00\x00\x00\x00\x11"

FORMATS: dict[str, tuple[bytes, str, str]] = {
    "registry, Avro": (SCHEMA_17 + AVRO, "schema id 17, Avro or protobuf", "value serializer"),
    "registry, protobuf": (SCHEMA_17 + b"\0" + PROTOBUF, "schema id 17, Avro", "value serializer"),
    "registry, JSON": (SCHEMA_17 + JSON, "schema id 17, JSON", "value serializer"),
    "Avro file": (b"Obj\x01\x04\x14avro.codec\x08null", "an Avro file", "value serializer"),
    "Avro with fingerprint": (b"\xc3\x01abcdefgh" + AVRO, "Avro with its", "value serializer"),
    "bare Avro": (AVRO, "no known form (bare Avro", "value serializer"),
    "protobuf": (PROTOBUF, "protobuf", "value serializer"),
    "MessagePack": (MESSAGEPACK, "MessagePack", "value serializer"),
    "CBOR": (CBOR, "CBOR", "value serializer"),
    "pickle": (pickle.dumps(EVENT), "pickle", "value serializer"),
    "gzip": (gzip.compress(JSON), "gzip", "compression.type"),
    "zstd": (ZSTD, "zstd", "compression.type"),
    "zlib": (zlib.compress(JSON), "zlib", "compression.type"),
    "bzip2": (bz2.compress(JSON), "bzip2", "compression.type"),
    "xz": (lzma.compress(JSON), "xz", "compression.type"),
    "UTF-16": (TEXT.encode("utf-16"), "UTF-16", "encode the text as UTF-8"),
    "UTF-16 big": (TEXT.encode("utf-16-be"), "UTF-16", "encode the text as UTF-8"),
    "UTF-16 little": (TEXT.encode("utf-16-le"), "UTF-16", "encode the text as UTF-8"),
    "UTF-32": (TEXT.encode("utf-32"), "UTF-32", "encode the text as UTF-8"),
    "UTF-32 little": (TEXT.encode("utf-32-le"), "UTF-32", "encode the text as UTF-8"),
    "UTF-32 big": (TEXT.encode("utf-32-be"), "UTF-32", "encode the text as UTF-8"),
    "Latin-1": (b'{"id": "M\xfcller"}', "not UTF-8", "encode the text as UTF-8"),
    "XML": (b"<?xml version='1.0'?><event/>", "XML", "plain JSON"),
    "a dict's text": (str(EVENT).encode(), "Python's text of a dict", "json.dumps"),
    "a form": (b"id=ab&x=1.5", "a form", "plain JSON"),
    "two events": (JSON + b"\n" + JSON, "trailing characters", "a record of its own"),
    "a list of events": (b"[" + JSON + b"]", "object", "a record of its own"),
    "JSON twice": (json.dumps(TEXT).encode(), "object", "encoded twice"),
    "Connect's envelope": (
        b'{"schema": {}, "payload": ' + JSON + b"}", "Kafka Connect", "schemas.enable=false",
    ),
}  # fmt: skip


class Raw(NamedTuple):
    """A record as Kafka gives it."""

    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_named_with_what_to_do(name: str) -> None:
    value, looks_like, advice = FORMATS[name]
    (failure,) = DECODER.decode([Raw(value)]).failures
    assert failure.error == "InvalidEvent"
    assert looks_like in failure.reason
    assert advice in failure.reason
    assert len(failure.reason) < 700


@pytest.mark.parametrize(
    "value", [b"amount", b"hello, world", b"{", JSON[:-1], b'{"id": NaN}', "\u00fc".encode(), b"12"]
)
def test_text_that_could_be_anything_is_not_guessed_at(value: bytes) -> None:
    assert format_advice(value) == ""


def test_a_long_value_is_told_by_its_beginning() -> None:
    for value, _, _ in FORMATS.values():
        format_advice(value + b"\xff" * 1_000_000)
    assert "protobuf" in format_advice(b"\n\xc0\x84\x3d" + b"\x01" * 1_000_000)
