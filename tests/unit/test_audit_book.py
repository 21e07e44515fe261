"""The books of an audit: exactly what was read, and what the broker has dropped in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka.structs import TopicPartition

from agents.audit.ledger import Account
from agents.audit.partition_accounts import SLACK, PartitionAccounts
from agents.broker.record_batches import record_batches
from tests.unit.record_batch_bytes import batch_bytes, marker_bytes
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology

TOPOLOGY = Topology("p", ("a",), 1)
EVENTS, DECISIONS, LETTERS = (
    TopicPartition(topic, 0) for topic in (TOPOLOGY.events, TOPOLOGY.decisions, "p.dead-letters")
)


def book_from(firsts: Mapping[TopicPartition, int], **ends: int) -> PartitionAccounts:
    book = PartitionAccounts(TOPOLOGY)
    book.add({EVENTS: 0, DECISIONS: 0, LETTERS: 0, **firsts})
    know(book, **ends)
    return book


def know(book: PartitionAccounts, *, events: int = 0, decisions: int = 0, letters: int = 0) -> None:
    book.know({EVENTS: events})
    book.bound_missing({EVENTS: events})
    book.know({DECISIONS: decisions, LETTERS: letters})


def events(book: PartitionAccounts, first: int, end: int) -> None:
    take(book, EVENTS, batch_bytes([Record(b"k", b"{}", 5)] * (end - first), first))


def decisions(book: PartitionAccounts, at: int, *sources: int) -> None:
    records = [Record(b"k", b"{}", 5, [("ce_id", b"p.events/0/%d" % one)]) for one in sources]
    take(book, DECISIONS, batch_bytes(records, at))


def take(book: PartitionAccounts, tp: TopicPartition, data: bytes) -> None:
    book.take(tp, record_batches(data, (), check=True))


def account(book: PartitionAccounts) -> dict[str, Any]:
    """The numbers that are not 0."""
    found = book.account(0, None, -1)
    return {name: n for name in Account.__slots__ if (n := getattr(found, name))}


def test_a_batch_is_taken_exactly_to_the_end_and_the_rest_with_the_next() -> None:
    book = book_from({}, events=6, decisions=2)
    events(book, 0, 10)
    decisions(book, 0, 0, 1, 2, 3)
    assert account(book) == {"inputs": 6, "decided": 2, "in_flight": 4}
    assert book.pending() == {}
    know(book, events=10, decisions=4)
    assert book.pending() == {EVENTS: 6, DECISIONS: 2}
    events(book, 0, 10)
    decisions(book, 0, 0, 1, 2, 3)
    assert account(book) == {"inputs": 10, "decided": 4, "in_flight": 6}


def test_what_was_read_before_the_broker_dropped_it_is_known() -> None:
    book = book_from({}, events=10, decisions=4)
    events(book, 0, 10)
    decisions(book, 0, 0, 1, 2, 4)
    know(book, events=20, decisions=5)
    book.dropped(EVENTS, 15, 20)
    events(book, 15, 20)
    decisions(book, 4, 15)
    assert account(book) == {"inputs": 15, "decided": 5, "in_flight": 4, "lost": 6,
                             "expired_unread": 5}  # fmt: skip


def test_decisions_that_the_broker_dropped_in_between_are_not_missed() -> None:
    book = book_from({}, events=10, decisions=3)
    events(book, 0, 10)
    decisions(book, 0, 0, 1, 3)
    know(book, events=10, decisions=8)
    book.dropped(DECISIONS, 6, 8)
    assert account(book) == {"inputs": 10, "decided": 3, "unjudged": 6, "lost": 1}
    decisions(book, 6, 7, 9)
    assert account(book) == {"inputs": 10, "decided": 5, "lost": 2, "unjudged": 3}
    # Three decisions are gone: 4, 5 and 6 may have had them. 2 and 8 cannot have.


def test_more_events_without_an_end_than_ends_that_are_gone_are_lost() -> None:
    book = book_from({DECISIONS: 2}, events=10, decisions=3)
    events(book, 0, 10)
    decisions(book, 2, 9)
    assert account(book) == {"inputs": 10, "decided": 1, "unjudged": 2, "lost": 7}


def test_markers_are_no_records() -> None:
    book = book_from({}, events=5, decisions=4)
    events(book, 0, 2)
    take(book, EVENTS, marker_bytes(2, 7, commit=True))
    events(book, 3, 5)
    decisions(book, 0, 0, 1, 3, 4)
    assert account(book) == {"inputs": 4, "decided": 4}
    assert book.removed(TOPOLOGY.events) == 0


def test_offsets_that_are_missing_in_the_middle_are_counted() -> None:
    book = book_from({}, decisions=30)
    compacted = batch_bytes([Record(b"k", b"{}", 5)] * 2, 20, deltas=[0, 4])
    decisions(book, 0, 0, 1)
    take(book, DECISIONS, compacted)
    assert book.removed(TOPOLOGY.decisions) == 18


def test_a_topic_that_ends_before_what_was_read_is_not_read_on() -> None:
    book = book_from({}, events=10)
    events(book, 0, 10)
    know(book, events=3)
    assert book.made_anew() == [EVENTS]
    know(book, events=30)
    assert book.pending() == {}


def test_an_end_behind_the_events_is_noticed() -> None:
    book = book_from({}, events=3, decisions=2)
    decisions(book, 0, 2, 50_000_000)
    assert book.far_ends({EVENTS: 50_000_000}) == {0: 50_000_000}
    assert book.far_ends({EVENTS: 50_000_001}) == {}
    assert account(book) == {}


def test_no_topic_is_read_far_ahead_of_the_others() -> None:
    end = 10 * SLACK
    book = book_from({}, events=end, decisions=end, letters=5)
    assert set(book.pending()) == {EVENTS, DECISIONS, LETTERS}
    take(book, EVENTS, batch_bytes([Record(b"", b"", 5)] * (SLACK + 9)))
    assert set(book.pending()) == {DECISIONS, LETTERS}
    decisions(book, 0, *range(50))
    assert set(book.pending()) == {DECISIONS, LETTERS}, "the dead letters are at the beginning"
    know(book, events=end, decisions=end, letters=0)
    assert EVENTS in book.pending()
