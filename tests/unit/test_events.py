"""What is wrong with one event says nothing about its neighbours."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import ValidationError

from topics.events.event_decoder import DecodedEvents, EventDecoder
from topics.events.rfc3339 import epoch_ms, parsed_ms
from topics.pipeline.event_schema import EventField, EventSchema
from topics.records.decision import rfc3339_time

AT = "2018-04-01T00:00:31Z"
AT_MS = 1522540831000
STRUCTURED = ("content-type", b"application/cloudevents+json; charset=utf-8")

SCHEMA = EventSchema.model_validate(
    {
        "id": "id",
        "key": "customer",
        "time": "at",
        "max_bytes": 20_000,
        "fields": {
            "id": {"type": "string", "max_length": 8},
            "customer": {"type": "integer"},
            "at": {"type": "timestamp"},
            "amount": {"type": "number", "minimum": 0, "maximum": 1000},
            "count": {"type": "integer", "minimum": -3, "maximum": 3, "optional": True},
            "online": {"type": "boolean"},
            "country": {"type": "string", "choices": ["CZ", "SK"], "optional": True},
            "vector": {"type": "vector", "length": 3, "optional": True},
            "score": {"type": "number", "optional": True},
            "seen_at": {"type": "timestamp", "optional": True},
            "known": {"type": "boolean", "optional": True},
            "note": {"type": "string", "optional": True, "max_length": 20_000},
        },
    }
)
REQUIRED = {"id": "a", "customer": 7, "at": AT, "amount": 12.5, "online": True}


class Raw(NamedTuple):
    """A record as Kafka gives it."""

    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def event(**changes: Any) -> bytes:
    return json.dumps({**REQUIRED, **changes}).encode()


def literal(field: str, text: str) -> bytes:
    """An event whose *field* is *text*, as it stands."""
    return event(**{field: "@@"}).replace(b'"@@"', text.encode())


def decoded(*values: bytes | None) -> DecodedEvents:
    return EventDecoder(SCHEMA).decode([Raw(value=value) for value in values])


def schema_with(**field: Any) -> EventSchema:
    return EventSchema.model_validate(
        {
            "id": "id",
            "key": "id",
            "time": "at",
            "fields": {"id": {"type": "string"}, "at": {"type": "timestamp"}, "x": field},
        }
    )


def decode_x(text: str, **field: Any) -> DecodedEvents:
    value = f'{{"id": "a", "at": "{AT}", "x": {text}}}'.encode()
    return EventDecoder(schema_with(**field)).decode([Raw(value=value)])


BAD_VALUES: dict[str, tuple[bytes | None, str, str]] = {
    "null": (None, "EmptyEvent", "no value"),
    "empty": (b"", "EmptyEvent", "no value"),
    "white space": (b"  \n", "InvalidEvent", "Invalid JSON"),
    "not JSON": (b"amount=12", "InvalidEvent", "Invalid JSON"),
    "cut off": (event()[:-1], "InvalidEvent", "Invalid JSON"),
    "two events": (event() + event(), "InvalidEvent", "Invalid JSON"),
    "a list": (b"[" + event() + b"]", "InvalidEvent", "object"),
    "a string": (b'"a"', "InvalidEvent", "object"),
    "JSON null": (b"null", "InvalidEvent", "object"),
    "null bytes": (b"\x00\x00\x00\x00", "InvalidEvent", "Invalid JSON"),
    "a null byte in a string": (event().replace(b'"a"', b'"\x00"'), "InvalidEvent", "Invalid JSON"),
    "invalid UTF-8": (event().replace(b'"a"', b'"\xff\xfe"'), "InvalidEvent", "Invalid JSON"),
    "UTF-16": (event().decode().encode("utf-16"), "InvalidEvent", "Invalid JSON"),
    "deep lists": (b"[" * 10_000, "InvalidEvent", "Invalid JSON"),
    "a deep field": (literal("id", "[" * 9_000 + "]" * 9_000), "InvalidEvent", "Invalid JSON"),
    "deep objects": (b'{"":' * 4_000, "InvalidEvent", "Invalid JSON"),
    "a high surrogate alone": (literal("id", '"\\ud800"'), "InvalidEvent", "Invalid JSON"),
    "a low surrogate alone": (literal("id", '"\\udc00"'), "InvalidEvent", "Invalid JSON"),
    "a surrogate as a name": (
        event().replace(b'"id"', b'"\\udfff"'),
        "InvalidEvent",
        "Invalid JSON",
    ),
    "too large": (event(note="x" * 20_000), "EventTooLarge", "at most 20000"),
    "a missing field": (event().replace(b'"amount"', b'"score"'), "InvalidEvent", "amount: "),
    "an unknown field": (event(colour="red"), "InvalidEvent", "colour: "),
    "null for a number": (event(amount=None), "InvalidEvent", "amount: "),
    "null for a key": (event(customer=None), "InvalidEvent", "null is for optional fields"),
    "a string for a number": (event(amount="12.5"), "InvalidEvent", "amount: "),
    "a boolean for a number": (event(amount=True), "InvalidEvent", "amount: "),
    "a number for a boolean": (event(online=1), "InvalidEvent", "online: "),
    "a number for a string": (event(id=5), "InvalidEvent", "id: "),
    "a string for an integer": (event(customer="7"), "InvalidEvent", "customer: "),
    "a fraction for an integer": (event(customer=7.5), "InvalidEvent", "customer: "),
    "1e400 for an integer": (literal("customer", "1e400"), "InvalidEvent", "customer: "),
    "2^53 as a float": (literal("customer", "9007199254740992.0"), "InvalidEvent", "exact only"),
    "beyond float32": (literal("score", "1e39"), "InvalidEvent", "score: beyond"),
    "beyond float32 below 0": (literal("score", "-1e39"), "InvalidEvent", "score: beyond"),
    "beyond float32 in a vector": (
        literal("vector", "[1, 1e39, 3]"),
        "InvalidEvent",
        "vector.1: beyond",
    ),
    "a float above its maximum": (literal("count", "4.0"), "InvalidEvent", "count: "),
    "a number for a time": (event(at=1522540831), "InvalidEvent", "at: "),
    "words for a time": (event(at="noon"), "InvalidEvent", "at: "),
    "a date for a time": (event(at="2018-04-01"), "InvalidEvent", "at: "),
    "the 30th of February": (event(at="2018-02-30T00:00:00Z"), "InvalidEvent", "at: "),
    "the year 0": (event(at="0000-01-01T00:00:00Z"), "InvalidEvent", "at: "),
    "NaN": (literal("amount", "NaN"), "InvalidEvent", "amount: "),
    "Infinity": (literal("amount", "Infinity"), "InvalidEvent", "amount: "),
    "-Infinity": (literal("score", "-Infinity"), "InvalidEvent", "score: "),
    "1e400": (literal("score", "1e400"), "InvalidEvent", "score: "),
    "NaN in a vector": (literal("vector", "[1, NaN, 3]"), "InvalidEvent", "vector.1: "),
    "1e400 in a vector": (literal("vector", "[1, 1e400, 3]"), "InvalidEvent", "vector.1: "),
    "too large for int64": (event(customer=2**63), "InvalidEvent", "customer: "),
    "too small for int64": (event(customer=-(2**63) - 1), "InvalidEvent", "customer: "),
    "4,000 digits": (literal("customer", "9" * 4_000), "InvalidEvent", "customer: "),
    "below its minimum": (event(amount=-0.01), "InvalidEvent", "amount: "),
    "above its maximum": (event(count=4), "InvalidEvent", "count: "),
    "an id that is too long": (event(id="x" * 9), "InvalidEvent", "id: "),
    "an empty id": (event(id=""), "InvalidEvent", "id: "),
    "no choice": (event(country="DE"), "InvalidEvent", "country: "),
    "a short vector": (event(vector=[1, 2]), "InvalidEvent", "vector: "),
    "a long vector": (event(vector=[1, 2, 3, 4]), "InvalidEvent", "vector: "),
    "an empty vector": (event(vector=[]), "InvalidEvent", "vector: "),
    "a word in a vector": (event(vector=[1, "2", 3]), "InvalidEvent", "vector.1: "),
    "a nested vector": (event(vector=[1, [2], 3]), "InvalidEvent", "vector.1: "),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_bad_event_is_one_failure_and_its_neighbours_are_decoded(name: str) -> None:
    value, error, reason = BAD_VALUES[name]
    made = decoded(event(id="before"), value, event(id="after"))
    assert [(failure.row, failure.error) for failure in made.failures] == [(1, error)]
    assert reason in made.failures[0].reason
    assert made.failures[0].component == ""
    assert made.valid.tolist() == [0, 2]
    assert made.columns["id"].tolist() == ["before", "after"]
    assert made.ids == [b"before", b"", b"after"]
    assert made.keys == [b"7", b"", b"7"]
    assert made.times_ms.tolist() == [AT_MS, 0, AT_MS]


def test_all_bad_events_at_once_are_as_many_failures() -> None:
    values = [value for value, _, _ in BAD_VALUES.values()]
    made = decoded(*values)
    assert [failure.row for failure in made.failures] == list(range(len(values)))
    assert len(made.valid) == 0
    assert {len(column) for column in made.columns.values()} == {0}


def test_no_records_are_no_events() -> None:
    made = decoded()
    assert (made.ids, made.keys, made.failures) == ([], [], [])
    assert len(made.valid) == len(made.times_ms) == 0
    assert made.columns["vector"].shape == (0, 3)


def test_a_key_may_be_any_bytes_but_not_too_many() -> None:
    made = EventDecoder(SCHEMA).decode(
        [Raw(b"x" * 4097, event()), Raw(b"ok", event()), Raw(b"\xff", event())]
    )
    assert [(f.row, f.error) for f in made.failures] == [(0, "InvalidKey")]
    assert "4097 bytes" in made.failures[0].reason
    assert made.keys == [b"", b"ok", b"\xff"]


def test_an_event_of_exactly_max_bytes_is_valid() -> None:
    room = SCHEMA.max_bytes - len(event(note=""))
    assert decoded(event(note="x" * room)).failures == []
    assert decoded(event(note="x" * (room + 1))).failures[0].error == "EventTooLarge"


def test_a_reason_names_three_mistakes_and_how_many_more() -> None:
    (failure,) = decoded(b"{}").failures
    assert failure.reason.endswith(" (and 2 more)")
    assert failure.reason.count("Field required") == 3


def test_a_reason_does_not_repeat_the_event() -> None:
    (failure,) = decoded(event(amount="secret" * 1000, **{"x" * 2000: 1})).failures
    assert "secret" not in failure.reason
    assert len(failure.reason) < 400


def test_a_reason_can_be_written_as_a_header() -> None:
    for failure in decoded(*(value for value, _, _ in BAD_VALUES.values())).failures:
        failure.reason.encode()


def test_the_producers_key_is_kept() -> None:
    made = EventDecoder(SCHEMA).decode(
        [Raw(b"own", event()), Raw(None, event(customer=-5)), Raw(b"", event())]
    )
    assert made.keys == [b"own", b"-5", b"7"]


@pytest.mark.parametrize(
    ("name", "value", "dtype", "expected"),
    [
        ("id", "b", object, "b"),
        ("id", "š€\U0001f600", object, "š€\U0001f600"),
        ("id", "\x00", object, "\x00"),
        ("customer", 2**63 - 1, np.int64, 2**63 - 1),
        ("customer", -(2**63), np.int64, -(2**63)),
        ("at", AT, np.int64, AT_MS),
        ("amount", 5, np.float64, 5.0),
        ("amount", 1000, np.float64, 1000.0),
        ("online", False, np.bool_, False),
        ("count", -3, np.float64, -3.0),
        ("country", "SK", object, "SK"),
        ("vector", [1, 2.5, -3], np.float64, [1.0, 2.5, -3.0]),
        ("score", -3.4e38, np.float64, -3.4e38),
        ("customer", 7.0, np.int64, 7),
        ("count", -3.0, np.float64, -3.0),
        ("seen_at", AT, np.float64, float(AT_MS)),
        ("known", True, np.float64, 1.0),
        ("note", "", object, ""),
    ],
)
def test_a_field_becomes_a_column_of_its_type(
    name: str, value: Any, dtype: Any, expected: Any
) -> None:
    made = decoded(event(**{name: value}), event(**{name: value}))
    assert made.failures == []
    assert made.columns[name].dtype == dtype
    assert made.columns[name].tolist() == [expected, expected]


def test_every_field_has_a_column_as_long_as_there_are_valid_events() -> None:
    made = decoded(event(), b"", event())
    assert list(made.columns) == list(SCHEMA.fields)
    assert {len(column) for column in made.columns.values()} == {2}


@pytest.mark.parametrize("name", ["count", "score", "seen_at", "known"])
def test_a_missing_optional_number_is_nan(name: str) -> None:
    column = decoded(event()).columns[name]
    assert column.dtype == np.float64
    assert np.isnan(column).all()


@pytest.mark.parametrize("name", [each for each, field in SCHEMA.fields.items() if field.optional])
def test_null_in_an_optional_field_is_a_missing_value(name: str) -> None:
    null, missing = decoded(event(**{name: None}), event(**{name: None})), decoded(event(), event())
    assert null.failures == []
    assert null.columns[name].dtype == missing.columns[name].dtype
    np.testing.assert_array_equal(null.columns[name], missing.columns[name])


@pytest.mark.parametrize("text", ["7.0", "7e0", "70e-1", "7.000"])
def test_a_whole_number_may_be_written_as_a_fraction_and_makes_the_same_key(text: str) -> None:
    made = decoded(literal("customer", text))
    assert made.keys == [b"7"]
    assert made.columns["customer"].tolist() == [7]


def test_numbers_beyond_float32_are_let_in_where_the_file_says_so() -> None:
    bounds = {"minimum": -1e300, "maximum": 1e300}
    made = decode_x("-1e299", type="number", **bounds)
    assert made.columns["x"].tolist() == [-1e299]
    assert len(decode_x("2e300", type="number", **bounds).failures) == 1


@pytest.mark.parametrize("name", ["country", "note"])
def test_a_missing_optional_string_is_empty(name: str) -> None:
    assert decoded(event()).columns[name].tolist() == [""]


def test_a_missing_optional_vector_is_nan_throughout() -> None:
    column = decoded(event(), event(vector=[1, 2, 3])).columns["vector"]
    assert column.shape == (2, 3)
    assert np.isnan(column[0]).all()
    assert column[1].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("2018-04-01t00:00:31z", AT_MS),
        ("2018-04-01 00:00:31 +00:00", AT_MS),
        ("2018-04-01T02:00:31+0200", AT_MS),
        ("2018-04-01T02:00:31+02", AT_MS),
        ("2018-04-01T00:00Z", AT_MS - 31_000),
        ("2018-04-01T00:00:31,5Z", AT_MS + 500),
        ("2018-04-01T00:00:31.1234567Z", AT_MS + 123),
        ("2018-04-01T00:00:31.123999999999999999Z", AT_MS + 124),
        ("2018-04-01T05:45:31.1235+05:45", AT_MS + 124),
        ("2016-12-31T23:59:60Z", 1483228800000),
        ("2016-12-31T23:59:60.25z", 1483228800250),
        ("2015-06-30T16:59:60-07:00", 1435708800000),
        ("2018-04-01T00:00:31Z", AT_MS),
        ("2018-04-01T00:00:31+00:00", AT_MS),
        ("2018-04-01T02:00:31+02:00", AT_MS),
        ("2018-03-31T19:00:31-05:00", AT_MS),
        ("2018-04-01T00:00:31.250Z", AT_MS + 250),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2000-02-29T00:00:00Z", 951782400000),
    ],
)
def test_times_become_milliseconds_since_1970(text: str, expected_ms: int) -> None:
    made = decoded(event(at=text))
    assert made.columns["at"].tolist() == made.times_ms.tolist() == [expected_ms]


@pytest.mark.parametrize(
    "text",
    [
        "2018-W13-7T00:00:31Z",
        "2018-091T00:00:31Z",
        "20180401T000031Z",
        "2018-04-01T000031Z",
        "2018-04-01T00Z",
        "2018-04-01T24:00:00Z",
        "2018-04-01T00:00:31.Z",
        "2018-04-01T00:00:31+24:00",
        "2018-04-01T00:00:31+02:60",
        "2018-04-01T00:00:31+02:00:30",
        "2018-04-01T00:00:31Z ",
        "2018-04-01T00:00:60Z",
        "2018-04-01T23:59:60Z",
        "2018-04-01T00:00:61Z",
        "2018-04-01T00:00:31.1.2Z",
        "2018-04-01T00:0٣:31Z",
        "0001-01-01T00:00:00+00:30",
        "9999-12-31T23:59:00-00:30",
    ],
)
def test_what_could_be_another_time_is_refused(text: str) -> None:
    (failure,) = decoded(event(at=text)).failures
    assert failure.reason.startswith("at: not a time like 2018-04-01T00:00:31Z")


@pytest.mark.parametrize("text", ["2018-04-01T00:00:31", "2018-04-01 00:00:31"])
def test_a_time_without_an_offset_is_utc(text: str) -> None:
    assert decoded(event(at=text)).times_ms.tolist() == [AT_MS]


@given(
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14))])),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=-12)))),
)
@example(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), datetime(2018, 1, 1, tzinfo=UTC))
@example(
    datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
    datetime(2018, 1, 1, tzinfo=UTC),
)
def test_a_time_that_is_accepted_can_be_written_in_the_decision(
    first: datetime, second: datetime
) -> None:
    """Otherwise one event stops the weighting agent for good."""
    for moment in decoded(event(at=first.isoformat()), event(at=second.isoformat())).times_ms:
        rfc3339_time(int(moment))


def told_ms(read: Callable[[str], int], text: str) -> int | None:
    try:
        return read(text)
    except ValueError:
        return None


@given(
    st.from_regex(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt _][0-9]{2}:[0-9]{2}[:.+][0-9]{2}"
        r"([.,][0-9]{0,7}[.0-9]?)?([Zz0]|[+-][0-9]{2}:?[0-9]{2})?",
        fullmatch=True,
    )
    | st.datetimes(timezones=st.timezones()).map(datetime.isoformat)
)
@example("2018-04-01T00:00:31.0005+01:00")
@example("2018-04-01T00:00:31.123.5Z")
@example("2018-04-01T00:00:31Z")
@example("2018-04-01T00:00:60Z")
@example("2018-W01-1T00:00:31Z")
@example("2018-04-01T00:0٣:31Z")
def test_the_short_way_to_a_time_leads_where_the_long_one_does(text: str) -> None:
    assert told_ms(epoch_ms, text) == told_ms(parsed_ms, text)


@pytest.mark.parametrize("text", ['"5"', '"1522540831"', '"-1"'])
def test_a_number_in_quotes_is_no_time(text: str) -> None:
    """RFC 3339 only: seconds or milliseconds would be a guess."""
    assert decode_x(text, type="timestamp").failures[0].error == "InvalidEvent"


def test_structured_cloudevents_are_unpacked() -> None:
    envelope = {"specversion": "1.0", "id": "ce", "source": "/s", "type": "t", "data": REQUIRED}
    raw = Raw(None, json.dumps(envelope).encode(), [("other", b"\xff"), STRUCTURED])
    made = EventDecoder(SCHEMA).decode([raw, Raw(None, event(id="plain"))])
    assert made.failures == []
    assert made.columns["id"].tolist() == ["a", "plain"]


ENVELOPE = {"specversion": "1.0", "id": "ce", "source": "/s", "type": "t"}


@pytest.mark.parametrize(
    "header",
    [
        ("Content-Type", b"application/cloudevents+json"),
        ("CONTENT-TYPE", b"Application/CloudEvents+JSON;charset=utf-8"),
        None,
    ],
)
def test_a_structured_cloudevent_is_known_by_its_header_in_any_case_or_by_its_attributes(
    header: tuple[str, bytes] | None,
) -> None:
    value = json.dumps({**ENVELOPE, "data": REQUIRED}).encode()
    for each in (value, BOM_UTF8 + value):
        made = EventDecoder(SCHEMA).decode([Raw(None, each, [header] if header else [])])
        assert made.failures == []
        assert made.columns["id"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("media_type", "content", "reason"),
    [
        (b"application/cloudevents-batch+json", {"data": REQUIRED}, "a record of its own"),
        (
            b"application/cloudevents+avro",
            {"data": REQUIRED},
            "not as application/cloudevents+avro",
        ),
        (b"application/cloudevents+json", {"data_base64": "e30="}, "data_base64"),
        (b"application/cloudevents+json", {"data": "{}"}, "data are a string"),
        (b"", {"data": "{}"}, "data are a string"),
        (b"", {}, "with a data member"),
        (b"", {"data": {**REQUIRED, "amount": "12"}}, "amount: "),
    ],
)
def test_a_cloudevent_that_cannot_be_read_says_why(
    media_type: bytes, content: dict[str, Any], reason: str
) -> None:
    value = json.dumps({**ENVELOPE, **content}).encode()
    made = EventDecoder(SCHEMA).decode([Raw(None, value, [("content-type", media_type)])])
    assert reason in made.failures[0].reason


def test_a_schema_with_a_field_called_specversion_has_plain_events() -> None:
    schema = schema_with(type="number", optional=True)
    fields = {**schema.fields, "specversion": EventField(type="string")}
    value = json.dumps({**ENVELOPE, "data": {"id": "a", "at": AT, "specversion": "1"}}).encode()
    made = EventDecoder(schema.model_copy(update={"fields": fields})).decode([Raw(None, value)])
    assert "no such field" in made.failures[0].reason


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0])
def test_a_cloudevent_keeps_its_integers(number: int) -> None:
    value = json.dumps({"data": {**REQUIRED, "customer": number}}).encode()
    made = EventDecoder(SCHEMA).decode([Raw(None, value, [STRUCTURED])])
    assert made.columns["customer"].tolist() == [number]


@pytest.mark.parametrize(
    "value",
    [
        b"{}",
        b"[]",
        b"5",
        b"not JSON",
        b'{"data": null}',
        b'{"data": "text"}',
        b'{"data_base64": "e30="}',
        b'{"data": {"id": "a"}}',
        b'{"data": ' + literal("amount", "NaN") + b"}",
        b'{"data": ' + literal("amount", "1e400") + b"}",
        b'{"data": ' + literal("id", '"\\ud800"') + b"}",
        b'{"data": ' + event(customer=2**64) + b"}",
        b'{"data": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"data": ' + b"[" * 9_000 + b"]" * 9_000 + b"}",
        event(),
    ],
)
def test_a_bad_cloudevent_is_one_failure(value: bytes) -> None:
    made = EventDecoder(SCHEMA).decode([Raw(None, value, [STRUCTURED]), Raw(None, event())])
    assert [(f.row, f.error) for f in made.failures] == [(0, "InvalidEvent")]
    assert made.failures[0].reason
    assert made.valid.tolist() == [1]


def test_a_byte_order_mark_is_passed_over() -> None:
    made = decoded(BOM_UTF8 + event(), BOM_UTF8 + event(amount="12"), BOM_UTF8)
    assert made.valid.tolist() == [0]
    assert [failure.reason.split(":")[0] for failure in made.failures] == ["amount", "Invalid JSON"]


def test_binary_cloudevents_are_plain_events() -> None:
    headers = [("content-type", b"application/json"), ("ce_id", b"1")]
    assert EventDecoder(SCHEMA).decode([Raw(None, event(), headers)]).failures == []


def test_a_header_without_a_value_costs_nothing() -> None:
    """Kafka has null header values; aiokafka gives None for them."""
    headers: Any = [("content-type", None)]
    made = EventDecoder(SCHEMA).decode([Raw(None, event(), headers), Raw(None, event())])
    assert made.valid.tolist() == [0, 1]


@pytest.mark.parametrize("bounds", [{"maximum": 1e30}, {"minimum": -1e30}])
def test_bounds_beyond_int64_let_no_larger_integer_in(bounds: dict[str, float]) -> None:
    sign = "-" if "minimum" in bounds else ""
    made = decode_x(f"{sign}{2**70}", type="integer", **bounds)
    assert [failure.error for failure in made.failures] == ["InvalidEvent"]


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [({"minimum": 0.5}, 1, 0), ({"maximum": 0.5}, 0, 1), ({"minimum": -0.5}, 0, -1)],
)
def test_a_fraction_bounds_an_integer_too(
    bounds: dict[str, float], inside: int, outside: int
) -> None:
    assert decode_x(str(inside), type="integer", **bounds).failures == []
    assert len(decode_x(str(outside), type="integer", **bounds).failures) == 1


@pytest.mark.parametrize("bound", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_a_bound_that_is_not_finite_is_refused_where_it_stands(kind: str, bound: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        schema_with(type=kind, maximum=bound)


def test_a_valid_event_is_read_alone_too() -> None:
    made = EventDecoder(SCHEMA).event(event())
    assert made["amount"] == 12.5
    assert made["at"] == 1522540831000
    with pytest.raises(ValidationError):
        EventDecoder(SCHEMA).event(b"{}")


DECODER = EventDecoder(SCHEMA)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
changed = st.dictionaries(st.sampled_from([*SCHEMA.fields, "new"]), json_values, max_size=4)
values = st.one_of(st.none(), st.binary(max_size=60), changed.map(lambda each: event(**each)))
records = st.lists(
    st.builds(
        Raw,
        st.none() | st.binary(max_size=4),
        values,
        st.lists(st.just(STRUCTURED) | st.tuples(st.text(max_size=3), st.binary(max_size=3))),
    ),
    max_size=6,
)


@given(records)
def test_arbitrary_bytes_are_an_event_or_a_failure_and_never_raise(raw: list[Raw]) -> None:
    made = DECODER.decode(raw)
    failed = [failure.row for failure in made.failures]
    assert sorted([*made.valid.tolist(), *failed]) == list(range(len(raw)))
    assert all(failure.error and failure.reason for failure in made.failures)
    assert {len(column) for column in made.columns.values()} == {len(made.valid)}
    for row in failed:
        assert (made.ids[row], made.keys[row], made.times_ms[row]) == (b"", b"", 0)
    for row in made.valid:
        assert made.ids[row]
        assert made.keys[row]


@given(records, st.integers(0, 6))
def test_an_event_is_decoded_the_same_in_any_company(raw: list[Raw], cut: int) -> None:
    whole = DECODER.decode(raw)
    parts = [DECODER.decode(raw[:cut]), DECODER.decode(raw[cut:])]
    assert [f.reason for part in parts for f in part.failures] == [f.reason for f in whole.failures]
    assert [key for part in parts for key in part.keys] == whole.keys
    for name, column in whole.columns.items():
        joined = np.concatenate([part.columns[name] for part in parts])
        assert joined.dtype == column.dtype
        np.testing.assert_array_equal(joined, column)
