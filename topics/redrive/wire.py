"""Redrive records as bytes, see `topics.redrive.record`; hostile until they are decoded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from typing import Annotated, Literal, Self, cast

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from topics.errors import WireError
from topics.kafka import Record
from topics.records import (
    HEADER_LENGTH,
    BytesColumn,
    StageBatch,
    Tensor,
    decode,
    decode_tensors,
    encode,
    encode_tensors,
)
from topics.redrive import single_event
from topics.redrive.record import MOST_ATTEMPTS, Ending, RedriveBatch, RedrivenEvent

_MAX_EVENTS = 100_000
_MAX_MESSAGES = 10_000


class SourcePartition(BaseModel):
    """Where the events come from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    topic: Annotated[str, Field(min_length=1, max_length=249)]
    partition: Annotated[int, Field(ge=0, lt=2**31)]


class RedriveHeader(BaseModel):
    """What the `x-redrive` header says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[2] = 2
    source: SourcePartition
    next: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """The component that is to deal with them; None in an ending record."""
    end: Ending | None = None
    refused: str | None = None
    """Why they go no further, and are to end in dead letters: they have grown too large."""
    messages: Annotated[
        list[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]],
        Field(min_length=1, max_length=_MAX_MESSAGES),
    ]
    """Of each set of tensors in the value: the bytes of its JSON, and all its bytes."""

    @model_validator(mode="after")
    def _ends_or_goes_on(self) -> Self:
        if (self.next is None) == (self.end is None):
            raise ValueError("a redrive record has a next component or an end")
        return self


def encode_redrive(batch: RedriveBatch, now_ms: int) -> Record:
    """The record as it stands on the topic."""
    messages = [encode_tensors({}, _event_tensors(batch.events))]
    for batches in batch.outputs.values():
        for output in batches:
            value, headers = encode(output)
            messages.append((value, int(dict(headers)[HEADER_LENGTH])))
    header = RedriveHeader(
        source=SourcePartition(topic=batch.topic, partition=batch.partition), next=batch.next,
        end=batch.end, refused=batch.refused,
        messages=[(length, len(message)) for message, length in messages],
    )  # fmt: skip
    value = b"".join([message for message, _ in messages])
    about = header.model_dump_json(exclude_none=True).encode()
    return Record(None, value, now_ms, [(single_event.PREFIX, about)])


def _event_tensors(events: Sequence[RedrivenEvent]) -> dict[str, Tensor]:
    n = len(events)
    numbers = np.array([event[1:5] for event in events], np.int64).reshape(n, 4)
    tensors: dict[str, Tensor] = {
        "source_offset": numbers[:, 0].copy(), "letter": numbers[:, 1].copy(),
        "attempt": numbers[:, 2].copy(), "published_ms": numbers[:, 3].copy(),
    }  # fmt: skip
    if any(event.key is not None or event.value is not None or event.headers for event in events):
        tensors |= {
            "has_key": np.array([event.key is not None for event in events]),
            "key": BytesColumn.of([event.key or b"" for event in events]),
            "has_value": np.array([event.value is not None for event in events]),
            "value": BytesColumn.of([event.value or b"" for event in events]),
        }
    if any(event.headers for event in events):
        headers = [header for event in events for header in event.headers]
        tensors |= {
            "headers": np.array([len(event.headers) for event in events], np.int64),
            "header_name": BytesColumn.of([name.encode() for name, _ in headers]),
            "header_value": BytesColumn.of([content or b"" for _, content in headers]),
        }
        if any(content is None for _, content in headers):
            tensors["has_header_value"] = np.array([content is not None for _, content in headers])
    return tensors


def decode_redrive(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
    *,
    outputs: bool = True,
) -> RedriveBatch:
    """What a record of the redrive topic says; WireError, with the reason, for anything else.

    Without *outputs* these are left out, and not looked at.
    """
    if single_event.is_one(headers):
        return single_event.decode_event(key, value, headers, outputs=outputs)
    header = redrive_header(headers)
    value = value or b""
    if sum(size for _, size in header.messages) != len(value):
        raise WireError(f"not a redrive record: its parts do not make up {len(value)} bytes")
    at = 0
    parts: list[tuple[bytes, int]] = []
    for length, size in header.messages if outputs else header.messages[:1]:
        parts.append((value[at : at + size], length))
        at += size
    (events_part, length), *output_parts = parts
    events = _events(header.source.partition, events_part, length)
    known = defaultdict[str, list[StageBatch]](list)
    for part, length in output_parts:
        output = decode(part, {HEADER_LENGTH: b"%d" % length})
        known[output.component].append(output)
    batch = RedriveBatch(
        header.source.topic, header.source.partition, header.next, events, dict(known), header.end,
        header.refused,
    )  # fmt: skip
    batch.check_outputs()
    return batch


def _events(partition: int, part: bytes, length: int) -> list[RedrivenEvent]:
    try:
        _, tensors = decode_tensors(part, length)
        offsets = _numbers(tensors, "source_offset", 0, 2**62 - 1)
        n = len(offsets)
        if not 0 < n <= _MAX_EVENTS:
            raise ValueError(f"it is of {n} events")
        if any(at >= after for at, after in pairwise(offsets)):
            raise ValueError("its offsets do not ascend")
        letters = _numbers(tensors, "letter", 0, 2**62 - 1)
        attempts = _numbers(tensors, "attempt", 2, MOST_ATTEMPTS)
        published_ms = _numbers(tensors, "published_ms", -(2**62), 2**62)
        keys, values = (_optional(tensors, name, n) for name in ("key", "value"))
        source_headers = _source_headers(tensors, n)
        return [
            RedrivenEvent(partition, *about)
            for about in zip(
                offsets, letters, attempts, published_ms, keys, values, source_headers, strict=True
            )
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise WireError(f"not a redrive record: {exc or type(exc).__name__}") from exc


def _numbers(tensors: Mapping[str, Tensor], name: str, least: int, most: int) -> list[int]:
    tensor = tensors[name]
    if isinstance(tensor, BytesColumn) or tensor.dtype != np.int64 or tensor.ndim != 1:
        raise ValueError(f"{name} has the wrong type or rank")
    if len(tensor) and not (least <= tensor.min() and tensor.max() <= most):
        raise ValueError(f"{name} is out of range")
    numbers: list[int] = tensor.tolist()
    return numbers


def _optional(tensors: Mapping[str, Tensor], name: str, n: int) -> list[bytes | None]:
    """N byte strings; None where there is none."""
    column = tensors.get(name)
    if column is None:
        return [None] * n
    if not isinstance(column, BytesColumn):
        raise TypeError(f"{name} is no column of bytes")
    there = tensors.get(f"has_{name}", np.ones(n, np.bool_))
    if isinstance(there, BytesColumn):
        raise TypeError(f"has_{name} is no column of yes and no")
    return [
        item if is_there else None
        for item, is_there in zip(column.items(), there.tolist(), strict=True)
    ]


def _source_headers(tensors: Mapping[str, Tensor], n: int) -> list[Sequence[tuple[str, bytes]]]:
    if "headers" not in tensors:
        return [()] * n
    counts = _numbers(tensors, "headers", 0, 2**31)
    names = tensors["header_name"]
    if not isinstance(names, BytesColumn):
        raise TypeError("header_name is no column of bytes")
    # A header's value may be null, as everywhere in what aiokafka reads: types do not say so.
    values = cast("list[bytes]", _optional(tensors, "header_value", len(names)))
    pairs = zip((name.decode() for name in names.items()), values, strict=True)
    headers = [list(islice(pairs, count)) for count in counts]
    if sum(counts) != len(names):
        raise ValueError("it has another number of headers than it says")
    return [*headers]


def next_component(headers: Sequence[tuple[str, bytes]]) -> str | None:
    """Whom a redrive record is addressed to, as far as it says; None for anything else.

    It costs a tenth of `redrive_header`: every component reads all records of its partitions.
    """
    for name, content in headers:
        if name == single_event.PREFIX:
            try:
                header = orjson.loads(content or b"")
            except orjson.JSONDecodeError:
                return None
            component = header.get("next") if isinstance(header, dict) else None
            return component if isinstance(component, str) else None
    return None


def redrive_header(headers: Sequence[tuple[str, bytes]]) -> RedriveHeader:
    """What the `x-redrive` header says; WireError, with the reason, where there is none."""
    content = single_event.header_content(headers)
    try:
        return RedriveHeader.model_validate_json(content)
    except ValidationError as exc:
        raise single_event.refusal_of(exc) from exc
