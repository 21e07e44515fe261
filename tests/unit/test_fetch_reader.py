"""What a reader of fetches knows of the ends of its partitions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.types import TP

from topics.transport.fetch_reader import FetchReader, aiokafka_tp

A, B = TP("p.events", 0), TP("p.outcomes", 0)


def reader_of(
    states: dict[TP, tuple[int, int, int, int]], leaders: dict[TP, int | None]
) -> FetchReader:
    """Of partitions with position, high watermark, last stable offset, and time of the answer."""
    subscription = SubscriptionState()
    subscription.assign_from_user([aiokafka_tp(tp) for tp in states])
    for tp, (position, highwater, stable, answered_ms) in states.items():
        state = subscription.subscription.assignment.state_value(aiokafka_tp(tp))
        state.reset_to(position)
        state.highwater, state.lso, state.timestamp = highwater, stable, answered_ms

    def leader(tp: aiokafka.TopicPartition) -> int | None:
        return leaders[TP(tp.topic, tp.partition)]

    fetcher = SimpleNamespace(_select_read_replica=leader)
    kafka: Any = SimpleNamespace(_subscription=subscription, _fetcher=fetcher)
    membership: Any = SimpleNamespace(kafka=kafka)
    return FetchReader(membership, None)


async def test_what_is_unread_of_partitions_is_known_by_one_answer_about_all() -> None:
    reader = reader_of({A: (5, 9, 9, 1000), B: (3, 3, 3, 1000)}, {A: 1, B: 1})
    assert reader.unread_of_all([A, B]) == {A: range(5, 9), B: range(3, 3)}


async def test_records_of_open_transactions_cannot_be_read_yet() -> None:
    reader = reader_of({A: (5, 9, 6, 1000), B: (3, 3, -1, 1000)}, {A: 1, B: 1})
    unread = reader.unread_of_all([A, B])
    assert unread == {A: range(5, 6), B: range(3, 3)}, "who knows no transactions says -1"


@pytest.mark.parametrize(
    ("answered_ms", "leaders"),
    [(999, {A: 1, B: 1}), (1000, {A: 1, B: 2}), (1000, {A: None, B: None})],
    ids=["of another answer", "of another broker", "without a leader"],
)
async def test_ends_of_several_answers_are_not_known_of_one_moment(
    answered_ms: int, leaders: dict[TP, int | None]
) -> None:
    reader = reader_of({A: (5, 9, 9, 1000), B: (3, 3, 3, answered_ms)}, leaders)
    assert reader.unread_of_all([A, B]) is None


async def test_nothing_is_known_of_partitions_of_others() -> None:
    reader = reader_of({A: (5, 9, 9, 1000)}, {A: 1})
    assert reader.unread_of_all([A, B]) is None
