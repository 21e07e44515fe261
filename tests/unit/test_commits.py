"""What a consumer commits and reads again, also when a rebalance comes in between."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from faust.transport.consumer import Consumer
from faust.types import TP

from agents.workers.app import create_app
from topics.errors import LeaseLost
from topics.settings import BrokerSettings
from topics.transport.consumer import MicroBatchConsumer

EVENTS = TP("p.events", 0)


def record(offset: int, value_bytes: int = 10) -> Any:
    return SimpleNamespace(offset=offset, serialized_key_size=-1, serialized_value_size=value_bytes)


class Broker:
    """What the consumer's client is asked to do."""

    def __init__(self) -> None:
        self.committed: list[dict[TopicPartition, int]] = []
        self.read_from: list[int] = []
        self.owned = {TopicPartition("p.events", 0)}

    async def commit(self, offsets: dict[TopicPartition, Any]) -> None:
        self.committed.append({tp: about.offset for tp, about in offsets.items()})

    def assignment(self) -> set[TopicPartition]:
        return set(self.owned)

    def highwater(self, tp: TopicPartition) -> int:
        assert tp in self.owned, "aiokafka: Partition is not assigned"
        return 100

    def last_stable_offset(self, tp: TopicPartition) -> int:
        return self.highwater(tp)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.read_from.append(offset)


@pytest.fixture
async def broker() -> Broker:
    return Broker()


@pytest.fixture
async def consumer(broker: Broker) -> MicroBatchConsumer:
    """A consumer that has committed up to record 31, which is in hand now, and read some more."""
    made = create_app("g", BrokerSettings(), max_records=10).batches
    made.membership._kafka = broker
    made.lease.begin(made.app.consumer_generation_id)
    made._committed_offset[EVENTS] = 31
    made._delivered[EVENTS] = 40
    return made


async def test_a_gap_of_one_record_is_not_committed_over(consumer: MicroBatchConsumer) -> None:
    """Faust #606: with 31 in hand and 32 and 33 acknowledged, Faust's own answer is 34."""
    consumer._acked[EVENTS] = [32, 33]
    assert Consumer._new_offset(consumer, EVENTS) == 34, "Faust has mended it: good"
    assert consumer._new_offset(EVENTS) is None
    consumer.done({EVENTS: 32})
    assert consumer._new_offset(EVENTS) == 32


async def test_what_is_committed_is_what_is_done(
    consumer: MicroBatchConsumer, broker: Broker
) -> None:
    consumer.done({EVENTS: 35})
    await consumer.force_commit()
    assert broker.committed == [{TopicPartition("p.events", 0): 35}]


async def test_what_was_done_before_the_worker_went_back_is_not_committed(
    consumer: MicroBatchConsumer, broker: Broker
) -> None:
    consumer.done({EVENTS: 39})
    consumer.rewind(EVENTS, 31)
    await consumer.force_commit()
    assert broker.read_from == [31]
    assert broker.committed == []


async def test_what_an_older_generation_has_done_is_not_committed(
    consumer: MicroBatchConsumer, broker: Broker
) -> None:
    consumer.lease.begin(consumer.app.consumer_generation_id - 1)
    consumer.done({EVENTS: 39})
    await consumer.force_commit()
    assert broker.committed == []


async def test_a_partition_that_is_another_workers_now_is_not_read_again(
    consumer: MicroBatchConsumer, broker: Broker
) -> None:
    consumer.lease.begin(consumer.app.consumer_generation_id - 1)
    with pytest.raises(LeaseLost):
        consumer.rewind(EVENTS, 31)
    assert broker.read_from == []


async def test_a_partition_may_be_taken_away_while_more_is_gathered(
    consumer: MicroBatchConsumer, broker: Broker
) -> None:
    fetched: list[float] = []

    async def getmany(_: object, left_s: float) -> dict[TP, list[Any]]:
        fetched.append(left_s)
        broker.owned.clear()
        return {EVENTS: [record(32)]}

    consumer.reader._getmany = getmany  # type: ignore[method-assign, assignment]
    records = {EVENTS: [record(31)]}
    await consumer.reader._gather(records, {EVENTS})
    assert [record.offset for record in records[EVENTS]] == [31, 32]
    assert len(fetched) == 1


async def test_no_more_is_gathered_once_many_bytes_are_in_hand(
    consumer: MicroBatchConsumer,
) -> None:
    fetched: list[int] = []

    async def getmany(_: object, left_s: float) -> dict[TP, list[Any]]:
        fetched.append(1)
        return {EVENTS: [record(31 + len(fetched), 2**20)]}

    consumer.reader._getmany = getmany  # type: ignore[method-assign, assignment]
    records = {EVENTS: [record(31, 2**20)]}
    await consumer.reader._gather(records, {EVENTS})
    assert len(records[EVENTS]) <= 5, "sizes are of values; a null key counts as -1"
    large = {EVENTS: [record(31, 15_000_000)]}
    fetched.clear()
    await consumer.reader._gather(large, {EVENTS})
    assert fetched == []


async def test_what_was_fetched_of_a_paused_partition_makes_room_for_the_others(
    consumer: MicroBatchConsumer,
) -> None:
    """Aiokafka asks a broker for nothing more while anything of it is not taken up."""
    events, others = TopicPartition("p.events", 0), TopicPartition("p.events", 1)
    notified: list[object] = []

    async def fetched_records(*_: object, **__: object) -> dict[TopicPartition, list[Any]]:
        return {}

    fetcher = SimpleNamespace(
        _closed=False, _records={events: "large", others: "large"}, _notify=notified.append,
        _wait_consume_future="asks", fetched_records=fetched_records,
        _subscriptions=SimpleNamespace(fetch_context=nullcontext),
    )  # fmt: skip
    consumer.membership._kafka = SimpleNamespace(_fetcher=fetcher)
    await consumer.reader._getmany({EVENTS}, 0.0)
    assert [*fetcher._records] == [events]
    assert notified == ["asks"]
