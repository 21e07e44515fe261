"""Event times are held to the record's timestamp, keys to what the pipeline file says of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.events.event_decoder import DecodedEvents, EventDecoder
from topics.events.record_keys import murmur2_partitions
from topics.events.source_decoder import CLOCKS_APART_MS, SourceDecoder, progress_ms
from topics.pipeline.event_schema import EventSchema
from topics.records.decision import rfc3339_time

NOW_MS = 1_800_000_000_000
"""2027."""
MINUTE_MS, YEAR_MS = 60_000, 365 * 86_400_000
FUTURE_MS = 5 * MINUTE_MS


class Raw(NamedTuple):
    """A source record."""

    value: bytes
    timestamp: int = NOW_MS
    key: bytes | None = b"c-1"
    partition: int = 0
    timestamp_type: int = 0
    headers: Sequence[tuple[str, bytes]] = ()


def schema(**changes: Any) -> EventSchema:
    return EventSchema.model_validate({
        "id": "id", "key": "customer", "time": "at",
        "fields": {"id": {"type": "string"}, "customer": {"type": "string"},
                   "at": {"type": "timestamp"}},
        **changes,
    })  # fmt: skip


def event(time_ms: int, customer: str = "c-1") -> bytes:
    return json.dumps({"id": "a", "customer": customer, "at": rfc3339_time(time_ms)}).encode()


def decoded(records: Sequence[Raw], now_ms: int = NOW_MS, **changes: Any) -> DecodedEvents:
    return SourceDecoder(schema(**changes), 4, lambda: now_ms / 1000).decode(records)


def errors(made: DecodedEvents) -> list[tuple[int, str]]:
    return [(failure.row, failure.error) for failure in made.failures]


def test_an_event_of_2126_is_refused_and_its_neighbours_are_not() -> None:
    late = NOW_MS + 100 * YEAR_MS
    made = decoded([Raw(event(NOW_MS)), Raw(event(late)), Raw(event(NOW_MS + FUTURE_MS))])
    assert errors(made) == [(1, "FutureEventTime")]
    assert made.failures[0].reason == (
        f"the event time {rfc3339_time(late)} is 36500 days after its record's timestamp, "
        f"{rfc3339_time(NOW_MS)}"
    )
    assert made.valid.tolist() == [0, 2]
    assert made.columns["at"].tolist() == [NOW_MS, NOW_MS + FUTURE_MS]
    assert made.times_ms.tolist() == [NOW_MS, 0, NOW_MS + FUTURE_MS]
    assert (made.ids, made.keys) == ([b"a", b"", b"a"], [b"c-1", b"", b"c-1"])


def test_a_clipped_event_happens_when_it_was_published_and_is_marked() -> None:
    published = NOW_MS - YEAR_MS
    raw = Raw(event(NOW_MS), timestamp=published)
    made = decoded([Raw(b"bad"), raw, Raw(event(NOW_MS))], beyond_future="clip")
    assert errors(made) == [(0, "InvalidEvent")]
    assert made.valid.tolist() == [1, 2]
    assert made.columns["at"].tolist() == [published, NOW_MS]
    assert made.times_ms.tolist() == [0, published, NOW_MS]
    assert list(made.clipped) == [1]


def test_events_long_past_are_as_they_were() -> None:
    records = [Raw(event(ms)) for ms in (0, NOW_MS - 9 * YEAR_MS, -30 * YEAR_MS, NOW_MS)]
    made, plain = decoded(records), EventDecoder(schema()).decode(records)
    assert made.columns["at"].tolist() == plain.columns["at"].tolist()
    assert not made.failures


def test_the_bound_is_the_files() -> None:
    records = [Raw(event(NOW_MS + 59_000)), Raw(event(NOW_MS + 61_000))]
    assert errors(decoded(records, future="1m")) == [(1, "FutureEventTime")]


@pytest.mark.parametrize(
    ("timestamp", "time_ms", "is_refused"),
    [
        (NOW_MS + 100 * YEAR_MS, NOW_MS + 100 * YEAR_MS, True),
        (NOW_MS + 100 * YEAR_MS, NOW_MS, False),
        (NOW_MS + CLOCKS_APART_MS, NOW_MS + CLOCKS_APART_MS, False),
        (-1, NOW_MS, False), (0, NOW_MS, False), (3_600_000, NOW_MS, False),
        (-1, NOW_MS + YEAR_MS, True), (3_600_000, NOW_MS + YEAR_MS, True),
        (NOW_MS - 9 * YEAR_MS, NOW_MS, True),
    ],
)  # fmt: skip
def test_a_record_that_is_dated_as_it_cannot_be_counts_as_published_now(
    timestamp: int, time_ms: int, is_refused: bool
) -> None:
    assert bool(decoded([Raw(event(time_ms), timestamp)]).failures) == is_refused


def test_the_brokers_own_clock_is_believed() -> None:
    ahead = NOW_MS + 9 * YEAR_MS
    assert not decoded([Raw(event(ahead), ahead, timestamp_type=1)]).failures
    assert decoded([Raw(event(ahead), ahead)]).failures


TIMES = st.integers(-(10**11), NOW_MS + 10**10)


@given(
    st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=8), st.integers(0, 10**12),
    st.sampled_from(["refuse", "clip"]),
)  # fmt: skip
def test_a_record_that_is_not_from_the_future_is_judged_alike_whenever_it_is_read(
    pairs: list[tuple[int, int]], later_ms: int, beyond: str
) -> None:
    records = [Raw(event(time_ms), timestamp) for time_ms, timestamp in pairs
               if 1_293_840_000_000 <= timestamp <= NOW_MS]  # fmt: skip
    once = decoded(records, beyond_future=beyond)
    again = decoded(records, NOW_MS + later_ms, beyond_future=beyond)
    assert (once.times_ms.tolist(), once.failures, once.clipped) == (
        again.times_ms.tolist(), again.failures, again.clipped,
    )  # fmt: skip


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=8), st.data())
def test_no_event_is_later_than_it_can_be_and_none_depends_on_its_neighbours(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    beyond = data.draw(st.sampled_from(["refuse", "clip"]))
    records = [Raw(event(time_ms), timestamp) for time_ms, timestamp in pairs]
    made = decoded(records, beyond_future=beyond)
    times = made.columns["at"]
    said = np.array([records[row].timestamp for row in made.valid.tolist()], np.int64)
    assert (times <= NOW_MS + CLOCKS_APART_MS + FUTURE_MS).all()
    assert ((times <= said + FUTURE_MS) | (said < 1_293_840_000_000)).all()
    assert len(made.valid) + len(made.failures) == len(records)
    alone = [decoded([record], beyond_future=beyond) for record in records]
    assert made.times_ms.tolist() == [time for each in alone for time in each.times_ms.tolist()]
    assert made.keys == [key for each in alone for key in each.keys]


def test_a_source_comes_as_far_as_its_records_not_as_far_as_an_event_says() -> None:
    times = np.array([NOW_MS, NOW_MS + FUTURE_MS, 5, NOW_MS])
    published = np.array([NOW_MS, NOW_MS, NOW_MS, -1])
    assert progress_ms(times, published).tolist() == [NOW_MS, NOW_MS, 5, NOW_MS]


def keyed(key: bytes | None, customer: str = "c-1", partition: int | None = None) -> Raw:
    placed = int(murmur2_partitions([customer.encode()], 4)[0])
    return Raw(
        event(NOW_MS, customer), key=key, partition=placed if partition is None else partition
    )


def test_keys_are_refused_where_the_file_says_so() -> None:
    elsewhere = (keyed(b"").partition + 1) % 4
    records = [
        keyed(b"c-1"), keyed(None), keyed(b""), keyed(b"c-2"), keyed(b"c-1", partition=elsewhere),
        keyed((200).to_bytes(8, "big"), "200"), keyed((7).to_bytes(8, "big"), "7"),
        keyed(b"200", "200"),
    ]  # fmt: skip
    made = decoded(records, keys="refuse")
    assert errors(made) == [
        (1, "MissingKey"), (2, "MissingKey"), (3, "InvalidKey"), (4, "WrongPartition"),
        (5, "InvalidKey"), (6, "InvalidKey"),
    ]  # fmt: skip
    assert made.valid.tolist() == [0, 7]
    assert "murmur2" in made.failures[3].reason
    assert made.failures[2].reason == "the record key is 'c-2', and its customer is 'c-1'"


@pytest.mark.parametrize("keys", ["accept", "rekey"])
def test_a_serialised_long_is_a_key_like_another_whatever_its_value(keys: str) -> None:
    longs = [(value).to_bytes(8, "big", signed=True) for value in (7, 200, -1, 2**62, 128)]
    made = decoded([keyed(key, "7") for key in longs], keys=keys)
    assert not made.failures
    assert made.keys == longs, "they travel as they were sent"
