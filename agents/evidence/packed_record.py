"""A Kafka record as entries of a pack: what is known of it as JSON, and its value as it is.

    records/<topic>/<partition>/<offset>.json     coordinates, time, key, headers
    records/<topic>/<partition>/<offset>.value    the value; none where that is null

A record about many events is packed as if it were about the one event alone: others' are nobody's
business. It says how many there were, and the digest of the whole value, as the topic has it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel, ConfigDict, Field

from models.registry import digest_of
from topics.records import Source, StageBatch, encode
from topics.redrive import RedriveBatch, encode_redrive

FOLDER = "records/"
_ABOUT, _VALUE = ".json", ".value"
_LOG_APPEND_TIME = 1
_Text = Annotated[str, Field(max_length=32 * 2**20)]
_Coordinate = Annotated[int, Field(ge=0, le=2**62)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # as in the manifest


class WholeRecord(_Frozen):
    """The record on the topic that one event's part of was packed."""

    events: Annotated[int, Field(ge=1)]
    sha256: str
    """Of its value."""
    bytes: int


class RecordAbout(_Frozen):
    """All of a record but its value."""

    topic: Annotated[str, Field(max_length=249)]
    partition: _Coordinate
    offset: _Coordinate
    timestamp_ms: Annotated[int, Field(ge=-(2**62), le=2**62)]
    clock: Literal["producer", "broker"]
    key: _Text | None
    """base64, as other bytes."""
    headers: Annotated[list[tuple[_Text, _Text | None]], Field(max_length=100_000)]
    part_of: WholeRecord | None


@dataclass(frozen=True, slots=True)
class PackedRecord:
    """A record of one event."""

    record: ConsumerRecord
    part_of: WholeRecord | None = None

    @property
    def place(self) -> Source:
        """Its coordinates."""
        record = self.record
        return Source(topic=record.topic, partition=record.partition, offset=record.offset)

    @classmethod
    def of_stage(cls, record: ConsumerRecord, batch: StageBatch, row: StageBatch) -> PackedRecord:
        """The row of an event, of the batch that a record is."""
        value, headers = encode(row)
        return cls(_with(record, value, headers), _whole(record, len(batch)))

    @classmethod
    def of_redrive(cls, record: ConsumerRecord, events: int, part: RedriveBatch) -> PackedRecord:
        """One event's part of a redrive record about several."""
        cut = encode_redrive(part, record.timestamp)
        return cls(_with(record, cut.value, cut.headers), _whole(record, events))

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents."""
        record = self.record
        about = RecordAbout(
            topic=record.topic, partition=record.partition, offset=record.offset,
            timestamp_ms=record.timestamp,
            clock="broker" if record.timestamp_type == _LOG_APPEND_TIME else "producer",
            key=_text(record.key),
            headers=[(name, _text(content)) for name, content in record.headers],
            part_of=self.part_of,
        )  # fmt: skip
        stem = f"{FOLDER}{record.topic}/{record.partition}/{record.offset}"
        yield stem + _ABOUT, about.model_dump_json(indent=2).encode()
        if record.value is not None:
            yield stem + _VALUE, record.value


def stems(names: list[str]) -> list[str]:
    """The entries that records begin with, without their endings."""
    return [
        name.removesuffix(_ABOUT)
        for name in names
        if name.startswith(FOLDER) and name.endswith(_ABOUT)
    ]


def packed_record(stem: str, names: list[str], read: Callable[[str], bytes]) -> PackedRecord:
    """The record of two entries. Raises ValueError for what is none."""
    about = RecordAbout.model_validate_json(read(stem + _ABOUT))
    if stem != f"{FOLDER}{about.topic}/{about.partition}/{about.offset}":
        raise ValueError(f"it says that it is {about.topic}/{about.partition}/{about.offset}")
    value = read(stem + _VALUE) if stem + _VALUE in names else None
    headers: Any = [(name, _content(text)) for name, text in about.headers]
    record = ConsumerRecord(
        about.topic, about.partition, about.offset, about.timestamp_ms,
        _LOG_APPEND_TIME if about.clock == "broker" else 0, _content(about.key), value, None, -1,
        -1, headers,
    )  # fmt: skip
    return PackedRecord(record, about.part_of)


def _with(record: ConsumerRecord, value: bytes | None, headers: Any) -> ConsumerRecord:
    return ConsumerRecord(
        record.topic, record.partition, record.offset, record.timestamp, record.timestamp_type,
        record.key, value, None, -1, -1, headers,
    )  # fmt: skip


def _whole(record: ConsumerRecord, events: int) -> WholeRecord:
    value = record.value or b""
    return WholeRecord(events=events, sha256=digest_of(value), bytes=len(value))


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _content(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
