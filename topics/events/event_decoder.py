"""Events: JSON bytes from outside, validated one by one; the valid ones as columns."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil, floor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic_core import SchemaValidator, ValidationError, core_schema

from topics.events.cloudevents import (
    CONTENT_TYPE,
    NotUnpacked,
    data_of,
    data_without_header,
    is_envelope,
)
from topics.events.float32 import LARGEST_FLOAT32
from topics.events.invalid_reasons import AS_INTEGER, AS_WHOLE_NUMBER, reason_of
from topics.events.rfc3339 import LONGEST_TIME, epoch_ms
from topics.pipeline import EventField, EventSchema
from topics.records import Failure

MAX_KEY_BYTES = 4096
"""A longer record key makes an event invalid: keys travel with every stage's output."""

_CONTENT_TYPE = len(CONTENT_TYPE)
_PLAIN = frozenset({None, b"", b"application/json"})
_INT64 = 2**63
_EXACT = 2**53
"""A float has every whole number below this one; from it on, some become another."""
_DTYPES = {
    "integer": np.int64,
    "timestamp": np.int64,
    "number": np.float64,
    "boolean": np.bool_,
}


class RawEvent(Protocol):
    """The part of a Kafka record that an event is made of."""

    @property
    def key(self) -> bytes | None:
        """Any bytes, or none."""

    @property
    def value(self) -> bytes | None:
        """JSON, one hopes."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Names and values, in order."""


@dataclass(frozen=True, slots=True)
class DecodedEvents:
    """N raw events, of which M are valid."""

    valid: NDArray[np.int64]
    """Indices of the valid ones (M,)."""
    columns: dict[str, NDArray[Any]]
    """The valid events' fields (M,), as `models.component.Batch.columns` describes."""
    ids: list[bytes]
    """Event ids (N), empty for an invalid event."""
    keys: list[bytes]
    """Record keys (N); the key field's value where the producer sent none."""
    times_ms: NDArray[np.int64]
    """Event times (N,), 0 for an invalid event."""
    failures: list[Failure]
    """Why the others are invalid; the component's name is left empty."""
    clipped: Mapping[int, str] = field(default_factory=dict)
    """Rows whose event time was later than can be, and was replaced: what was wrong with it."""

    @classmethod
    def concat(cls, parts: Sequence[DecodedEvents]) -> DecodedEvents:
        """The events of the parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        starts = [0, *accumulate(len(part.ids) for part in parts)]
        return cls(
            np.concatenate([part.valid + at for part, at in zip(parts, starts, strict=False)]),
            {name: np.concatenate([part.columns[name] for part in parts])
             for name in parts[0].columns},
            [event_id for part in parts for event_id in part.ids],
            [key for part in parts for key in part.keys],
            np.concatenate([part.times_ms for part in parts]),
            [failure._replace(row=failure.row + at)
             for part, at in zip(parts, starts, strict=False) for failure in part.failures],
            {row + at: why
             for part, at in zip(parts, starts, strict=False) for row, why in part.clipped.items()},
        )  # fmt: skip


class _Invalid(Exception):
    def __init__(self, error: str, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


class EventDecoder:
    """Decodes events by the schema of a pipeline file. NaN, infinity and surplus fields fail.

    A byte order mark before the JSON is passed over, as RFC 8259 allows. An optional field that
    is null is missing; 3.0 for an integer is 3.

    >>> from topics.pipeline.event_schema import EventSchema
    >>> schema = EventSchema(id="id", key="id", time="at", fields={
    ...     "id": {"type": "string"}, "at": {"type": "timestamp"}, "x": {"type": "number"}})
    >>> good = b'{"id": "a", "at": "2018-04-01T00:00:00Z", "x": 1.5}'
    >>> decoder = EventDecoder(schema)
    >>> decoder.event(good)["x"]
    1.5
    """

    def __init__(self, schema: EventSchema) -> None:
        self._schema = schema
        self._validator = SchemaValidator(
            core_schema.typed_dict_schema(
                {
                    name: core_schema.typed_dict_field(
                        _nullable(
                            _field_schema(field, empty=name not in (schema.id, schema.key)),
                            field,
                        ),
                        required=not field.optional,
                    )
                    for name, field in schema.fields.items()
                },
                extra_behavior="forbid",
            )
        )
        self._columns = {name: _column_maker(field) for name, field in schema.fields.items()}

    def event(self, value: bytes) -> dict[str, Any]:
        """One event as validated Python values; pydantic_core's ValidationError otherwise."""
        event: dict[str, Any] = self._validator.validate_json(value)
        return event

    def checked(self, event: object) -> dict[str, Any]:
        """Like `event`, of JSON that is parsed already."""
        checked: dict[str, Any] = self._validator.validate_python(event)
        return checked

    def decode(self, records: Sequence[RawEvent]) -> DecodedEvents:
        """Validate *records*; what is wrong with one says nothing about the others."""
        n = len(records)
        events: list[dict[str, Any]] = []
        valid: list[int] = []
        failures: list[Failure] = []
        ids, keys = [b""] * n, [b""] * n
        for row, record in enumerate(records):
            try:
                event = self._validated(record)
            except _Invalid as exc:
                failures.append(Failure(row, "", exc.error, exc.reason))
                continue
            events.append(event)
            valid.append(row)
            ids[row] = str(event[self._schema.id]).encode()
            keys[row] = record.key or str(event[self._schema.key]).encode()
        columns = self.columns(events)
        times = np.zeros(n, dtype=np.int64)
        times[valid] = columns[self._schema.time]
        return DecodedEvents(np.array(valid, np.int64), columns, ids, keys, times, failures)

    def columns(self, events: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
        """The fields of validated *events*, one array per field."""
        return {name: make(events, name) for name, make in self._columns.items()}

    def _validated(self, record: RawEvent) -> dict[str, Any]:
        value = record.value
        if not value:
            raise _Invalid("EmptyEvent", "the record has no value")
        if len(value) > self._schema.max_bytes:
            raise _Invalid(
                "EventTooLarge", f"{len(value)} bytes, at most {self._schema.max_bytes} are allowed"
            )
        if record.key is not None and len(record.key) > MAX_KEY_BYTES:
            raise _Invalid("InvalidKey", f"the record key has {len(record.key)} bytes")
        try:
            for name, header in record.headers:
                # Most headers are others': their length says so for less than their case.
                if (
                    len(name) == _CONTENT_TYPE
                    and header not in _PLAIN
                    and is_envelope(name, header)
                ):
                    value = data_of(value.removeprefix(BOM_UTF8))
            return self.event(value)
        except NotUnpacked as exc:
            raise _Invalid("InvalidEvent", str(exc)) from exc
        except ValidationError as exc:
            return self._looked_at_again(value, exc)

    def _looked_at_again(self, value: bytes, first: ValidationError) -> dict[str, Any]:
        """The event of a value that is not as usual: with a byte order mark, or in an envelope."""
        plain = value.removeprefix(BOM_UTF8)
        try:
            data = None if "specversion" in self._schema.fields else data_without_header(plain)
            if data is None and len(plain) == len(value):
                raise _Invalid("InvalidEvent", reason_of(first, value)) from first
            return self.event(plain if data is None else data)
        except NotUnpacked as exc:
            raise _Invalid("InvalidEvent", str(exc)) from exc
        except ValidationError as exc:
            raise _Invalid("InvalidEvent", reason_of(exc, plain)) from exc


def _nullable(schema: core_schema.CoreSchema, field: EventField) -> core_schema.CoreSchema:
    return core_schema.nullable_schema(schema) if field.optional else schema


def _field_schema(  # noqa: PLR0911  # one return per type
    field: EventField, *, empty: bool
) -> core_schema.CoreSchema:
    low, high = field.minimum, field.maximum
    match field.type:
        case "string" if field.choices is not None:
            return core_schema.literal_schema(list(field.choices))
        case "string":
            shortest = 0 if empty else 1
            return core_schema.str_schema(
                strict=True, min_length=shortest, max_length=field.max_length
            )
        case "integer":
            return _integer_schema(
                -_INT64 if low is None else max(ceil(low), -_INT64),
                _INT64 - 1 if high is None else min(floor(high), _INT64 - 1),
            )
        case "number":
            return _number_schema(low, high)
        case "boolean":
            return core_schema.bool_schema(strict=True)
        case "timestamp":
            text = core_schema.str_schema(strict=True, max_length=LONGEST_TIME)
            return core_schema.no_info_after_validator_function(epoch_ms, text)
        case "vector":
            return core_schema.list_schema(
                _number_schema(low, high), strict=True,
                min_length=field.length, max_length=field.length,
            )  # fmt: skip


def _number_schema(low: float | None, high: float | None) -> core_schema.FloatSchema:
    """Numbers that models can compute with, where the pipeline file states no other bound."""
    return core_schema.float_schema(
        strict=True, allow_inf_nan=False,
        ge=-LARGEST_FLOAT32 if low is None else low, le=LARGEST_FLOAT32 if high is None else high,
    )  # fmt: skip


def _integer_schema(low: int, high: int) -> core_schema.CoreSchema:
    """3, and 3.0, which is the same number in JSON, and all that some programs write."""
    bounded = core_schema.int_schema(strict=True, ge=low, le=high)
    number = core_schema.float_schema(strict=True, allow_inf_nan=False)
    whole = core_schema.no_info_after_validator_function(_whole, number)
    return core_schema.union_schema(
        [(bounded, AS_INTEGER), (core_schema.chain_schema([whole, bounded]), AS_WHOLE_NUMBER)],
        mode="left_to_right",
    )


def _whole(number: float) -> int:
    if not number.is_integer():
        raise ValueError("an integer has no fraction")
    if abs(number) >= _EXACT:
        raise ValueError("an integer of 2^53 or more is exact only without point and exponent")
    return int(number)


_Maker = Callable[[Sequence[Mapping[str, Any]], str], NDArray[Any]]


def _column_maker(field: EventField) -> _Maker:
    if field.type == "vector":
        length = field.length or 0
        return lambda events, name: np.array(
            [event.get(name) or [np.nan] * length for event in events], dtype=np.float64
        ).reshape(len(events), length)
    if field.type == "string":
        return lambda events, name: np.array(
            [event.get(name) or "" for event in events], dtype=object
        )
    if field.optional:
        return lambda events, name: np.array(  # None becomes NaN
            [event.get(name) for event in events], dtype=np.float64
        )
    dtype = _DTYPES[field.type]
    return lambda events, name: np.array([event[name] for event in events], dtype=dtype)
