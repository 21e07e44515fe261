"""What a record's value that is no JSON looks like, and what its producer has to change.

Nothing is decoded: a value is told by how it begins, and protobuf, which begins with nothing of its
own, by whether all of it can be read as protobuf.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_WANTED = "events are JSON in UTF-8"
_ENCODE = f"{_WANTED}: encode the text as UTF-8"
_SERIALIZE = f"{_WANTED}: set the producer's value serializer to plain JSON or to strings"
_COMPRESS = (
    f"{_WANTED}, not compressed by the program that sends them: use the producer's "
    "compression.type instead, which Kafka undoes"
)
_LOOKED_AT = 4096
"""Bytes of a value that are looked at."""
_LONGEST_VARINT = 10


class _Format(NamedTuple):
    beginning: re.Pattern[bytes]
    name: str
    advice: str


def _of(beginning: bytes, name: str, advice: str = _SERIALIZE) -> _Format:
    return _Format(re.compile(beginning, re.DOTALL), name, advice)


_FORMATS: Sequence[_Format] = (
    _of(rb'\xff\xfe\0\0|\0\0\xfe\xff|[\[{"]\0\0\0|\0\0\0[\[{"]', "UTF-32", _ENCODE),
    _of(rb'\xff\xfe|\xfe\xff|[\[{"]\0|\0[\[{"]\0', "UTF-16", _ENCODE),
    _of(rb"\x1f\x8b", "gzip", _COMPRESS),
    _of(rb"\x28\xb5\x2f\xfd", "zstd", _COMPRESS),
    _of(rb"\x04\x22\x4d\x18", "lz4", _COMPRESS),
    _of(rb"\xff\x06\0\0sNaPpY|\x82SNAPPY\0", "snappy", _COMPRESS),
    _of(rb"x[\x01\x9c\xda]", "zlib", _COMPRESS),
    _of(rb"BZh[1-9]1AY", "bzip2", _COMPRESS),
    _of(rb"\xfd7zXZ\0", "xz", _COMPRESS),
    _of(rb"PK\x03\x04", "a zip archive", _COMPRESS),
    _of(rb"Obj\x01", "an Avro file"),
    _of(rb"\xc3\x01.{8}", "Avro with its schema's fingerprint"),
    _of(
        rb"PAR1|ARROW1", "a Parquet or Arrow file",
        f"{_WANTED}, one a record: `anabranch publish` sends the rows of a file",
    ),
    _of(rb":\)\n", "Smile, a binary JSON"),
    _of(rb"\x80[\x02-\x05]", "a Python pickle"),
    _of(
        rb"([\x81-\x8f\x91-\x9f]|[\xdc\xde]..|[\xdd\xdf]....)([\xa1-\xbf]|\xd9.|\xda..)[\x20-\x7e]",
        "MessagePack",
    ),
    _of(rb"(\xd9\xd9\xf7)?([\xa1-\xb7\xbf]|\xb8.)([\x61-\x77]|\x78.)[\x20-\x7e]", "CBOR"),
    _of(rb"\xac\xed\0\x05", "a serialised Java object"),
    _of(rb"\s{0,64}<[?!A-Za-z]", "XML or HTML"),
    _of(rb"\s{0,64}\{\s{0,64}'", "Python's text of a dict", f"{_WANTED}: use json.dumps, not str"),
    _of(rb"[A-Za-z_][\w.-]{0,63}=", "a form, key=value"),
)  # fmt: skip
_REGISTRY = re.compile(rb"\0(.{4}).", re.DOTALL)
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def format_advice(value: bytes) -> str:
    """What *value*, no JSON, seems to be and what to do; nothing where it could be anything."""
    start = value[:_LOOKED_AT]
    for form in _FORMATS:
        if form.beginning.match(start):
            return f"this looks like {form.name}; {form.advice}"
    if (framed := _REGISTRY.match(start)) is not None:
        return _of_registry(int.from_bytes(framed[1], "big"), start[5:])
    if start.lstrip()[:1] in (b"{", b"[", b'"'):
        return "" if _is_utf8(start) else f"its text is not UTF-8 (Latin-1, perhaps); {_ENCODE}"
    if _is_utf8(start) and not _CONTROL.search(start):
        return ""
    if _is_protobuf(value):
        return f"this looks like protobuf; {_SERIALIZE}"
    return f"these are binary data of no known form (bare Avro looks like this); {_SERIALIZE}"


def _of_registry(schema_id: int, payload: bytes) -> str:
    inside = "JSON" if payload.lstrip()[:1] == b"{" else "Avro or protobuf"
    return (
        f"this looks like the wire format of a schema registry (Confluent's: a zero byte, schema "
        f"id {schema_id}, {inside}); {_SERIALIZE}"
    )


def _is_utf8(start: bytes) -> bool:
    """Whether it is; a character that is cut off at the end counts as one."""
    try:
        start.decode()
    except UnicodeDecodeError as exc:
        return exc.reason == "unexpected end of data" and len(start) == _LOOKED_AT
    return True


def _is_protobuf(value: bytes) -> bool:
    """All of *value*, or as much as is looked at, can be read as fields of a protobuf message."""
    at, end = 0, min(len(value), _LOOKED_AT)
    while at < end:
        tag, at = _varint(value, at)
        field, kind = tag >> 3, tag & 7
        if field == 0 or kind not in (0, 1, 2, 5):
            return False
        number, after = _varint(value, at) if kind in (0, 2) else (0, at)
        at = after + {0: 0, 1: 8, 2: number, 5: 4}[kind]
    return at == len(value) if len(value) <= _LOOKED_AT else at <= len(value)


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """The number at *at*, 0 where there is none, and where the next thing begins."""
    number = 0
    for place, byte in enumerate(value[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    return 0, len(value) + 1
