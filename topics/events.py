"""Events: JSON bytes from outside, validated one by one; the valid ones as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil, floor
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic_core import SchemaValidator, ValidationError, core_schema

from topics.event_schema import EventField, EventSchema
from topics.stage_batch import Failure

CLOUDEVENT = b"application/cloudevents+json"
MAX_KEY_BYTES = 4096
"""A longer record key makes an event invalid: keys travel with every stage's output."""

_INT64 = 2**63
_LONGEST_TIME = 40
_SECONDS_MS = {f":{second:02}Z": 1000 * second for second in range(60)}
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


class _Invalid(Exception):
    def __init__(self, error: str, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


class EventDecoder:
    """Decodes events by the schema of a pipeline file. NaN, infinity and surplus fields fail.

    >>> from topics.event_schema import EventSchema
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
                        _field_schema(field, empty=name not in (schema.id, schema.key)),
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
        for name, header in record.headers:
            if name == "content-type" and (header or b"").startswith(CLOUDEVENT):
                value = _data_of_cloudevent(value)
        try:
            return self.event(value)
        except ValidationError as exc:
            raise _Invalid("InvalidEvent", _reason(exc)) from exc


def _data_of_cloudevent(value: bytes) -> bytes:
    """The `data` of a CloudEvent in structured mode (CloudEvents 1.0, JSON format)."""
    try:
        return orjson.dumps(orjson.loads(value)["data"])
    except (ValueError, KeyError, TypeError) as exc:
        raise _Invalid("InvalidEvent", "not a structured CloudEvent with a data member") from exc


def _reason(exc: ValidationError) -> str:
    found = exc.errors(include_url=False, include_input=False, include_context=False)
    parts = [
        ": ".join(filter(None, [".".join(map(str, error["loc"])), error["msg"]]))
        for error in found[:3]
    ]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return "; ".join(parts)[:300] + more


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
            return core_schema.int_schema(
                strict=True,
                ge=-_INT64 if low is None else max(ceil(low), -_INT64),
                le=_INT64 - 1 if high is None else min(floor(high), _INT64 - 1),
            )
        case "number":
            return core_schema.float_schema(strict=True, allow_inf_nan=False, ge=low, le=high)
        case "boolean":
            return core_schema.bool_schema(strict=True)
        case "timestamp":
            text = core_schema.str_schema(strict=True, max_length=_LONGEST_TIME)
            return core_schema.no_info_after_validator_function(milliseconds, text)
        case "vector":
            number = core_schema.float_schema(strict=True, allow_inf_nan=False, ge=low, le=high)
            return core_schema.list_schema(
                number, strict=True, min_length=field.length, max_length=field.length
            )


_Maker = Callable[[Sequence[Mapping[str, Any]], str], NDArray[Any]]


def _column_maker(field: EventField) -> _Maker:
    if field.type == "vector":
        length = field.length or 0
        return lambda events, name: np.array(
            [event.get(name) or [np.nan] * length for event in events], dtype=np.float64
        ).reshape(len(events), length)
    if field.type == "string":
        return lambda events, name: np.array(
            [event.get(name, "") for event in events], dtype=object
        )
    if field.optional:
        return lambda events, name: np.array(
            [event.get(name, np.nan) for event in events], dtype=np.float64
        )
    dtype = _DTYPES[field.type]
    return lambda events, name: np.array([event[name] for event in events], dtype=dtype)


def milliseconds(text: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 time; ValueError for anything else.

    >>> milliseconds("2018-04-01T00:00:31Z"), milliseconds("2018-04-01T02:00:31.5+02:00")
    (1522540831000, 1522540831500)
    """
    # The usual form costs a tenth so: a stream has few minutes.
    seconds_ms = _SECONDS_MS.get(text[16:])
    return _parsed_ms(text) if seconds_ms is None else _minute_ms(text[:16]) + seconds_ms


@lru_cache(maxsize=4096)
def _minute_ms(text: str) -> int:
    return _parsed_ms(f"{text}:00Z")


def _parsed_ms(text: str) -> int:
    try:
        if text[4:5] != "-" or text[10:11] not in ("T", "t", " "):
            raise ValueError
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:  # RFC 3339 wants an offset; a time without one is UTC
            moment = moment.replace(tzinfo=UTC)
        return round(moment.astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError) as exc:
        raise ValueError("not a time like 2018-04-01T00:00:31Z in the years 1 to 9999") from exc
