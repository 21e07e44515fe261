"""What is left of a partition, and since when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP

from topics.transport.backlog import Backlog

EVENTS = TP("p.events", 0)


def _records(offset: int, timestamp: int, count: int = 10) -> list[Any]:
    return [SimpleNamespace(offset=offset + n, timestamp=timestamp + n) for n in range(count)]


def test_nothing_is_left_where_all_is_dealt_with() -> None:
    backlog = Backlog()
    backlog.fetched({EVENTS: _records(0, 1000)})
    left = backlog.of(EVENTS, done=10, delivered=10, end=10, now_ms=5000)
    assert (left.records, left.oldest_ms) == (0, None)


def test_what_was_fetched_is_as_old_as_the_first_record_of_its_fetch() -> None:
    backlog = Backlog()
    backlog.fetched({EVENTS: _records(0, 1000)})
    backlog.fetched({EVENTS: _records(10, 2000)})
    assert backlog.of(EVENTS, done=0, delivered=20, end=30, now_ms=9000).oldest_ms == 1000
    assert backlog.of(EVENTS, done=9, delivered=20, end=30, now_ms=9000).oldest_ms == 1000
    assert backlog.of(EVENTS, done=10, delivered=20, end=30, now_ms=9000).oldest_ms == 2000
    assert backlog.of(EVENTS, done=10, delivered=20, end=30, now_ms=9000).records == 20


def test_what_was_not_fetched_waits_since_the_partition_was_seen_to_reach_it() -> None:
    backlog = Backlog()
    assert backlog.of(EVENTS, done=5, delivered=5, end=5, now_ms=1000).oldest_ms is None
    assert backlog.of(EVENTS, done=5, delivered=5, end=8, now_ms=2000).oldest_ms == 2000
    assert backlog.of(EVENTS, done=5, delivered=5, end=9, now_ms=3000).oldest_ms == 2000
    assert backlog.of(EVENTS, done=8, delivered=8, end=9, now_ms=4000).oldest_ms == 3000


def test_a_partition_that_is_read_again_is_as_old_as_what_is_read() -> None:
    backlog = Backlog()
    backlog.fetched({EVENTS: _records(50, 9000)})
    backlog.fetched({EVENTS: _records(0, 1000)})
    assert backlog.of(EVENTS, done=0, delivered=10, end=60, now_ms=9999).oldest_ms == 1000


def test_a_record_without_a_time_and_one_of_the_future_are_not_older_or_younger_than_now() -> None:
    backlog = Backlog()
    backlog.fetched({EVENTS: _records(0, 10**15)})
    assert backlog.of(EVENTS, done=0, delivered=10, end=10, now_ms=5000).oldest_ms == 5000
    backlog = Backlog()
    backlog.fetched({EVENTS: _records(0, -1, count=1)})
    oldest_ms = backlog.of(EVENTS, done=0, delivered=1, end=1).oldest_ms
    assert oldest_ms is not None
    assert oldest_ms > 1_600_000_000_000, "as of when it was fetched"


def test_of_a_partition_that_has_another_owner_nothing_is_remembered() -> None:
    backlog = Backlog()
    backlog.fetched({EVENTS: _records(0, 1000)})
    backlog.forget()
    assert backlog.of(EVENTS, done=0, delivered=10, end=10, now_ms=7000).oldest_ms == 7000
