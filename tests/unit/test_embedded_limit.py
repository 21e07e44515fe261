"""What is in flight on the embedded broker stays within what a partition keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from agents.publish.embedded_limit import BUDGET, EmbeddedLimit, Event
from agents.publish.publisher import partition_of
from topics.kafka.embedded import KEPT_BYTES

PARTITIONS = 4


@dataclass
class Broker:
    """Takes events, keeps account of the bytes in flight, and ends some whenever it is asked."""

    row_bytes: float
    """How wide a row is behind the events."""
    ends_at_once: int
    waiting: dict[int, list[int]] = field(default_factory=lambda: {p: [] for p in range(4)})
    most: int = 0
    most_rows: int = 0
    taken: list[Event] = field(default_factory=list)
    rows_seen: bool = False

    async def in_flight(self) -> Mapping[int, int]:
        for sizes in self.waiting.values():
            self.rows_seen |= bool(sizes)
            del sizes[: self.ends_at_once]
        return {partition: len(sizes) for partition, sizes in self.waiting.items()}

    async def measure(self) -> float:
        return self.row_bytes if self.rows_seen else 0.0

    def take(self, part: list[Event]) -> None:
        self.taken += part
        for key, value in part:
            self.waiting[partition_of(key, PARTITIONS)].append(len(key) + len(value))
        self.most = max(self.most, *(sum(sizes) for sizes in self.waiting.values()))
        self.most_rows = max(self.most_rows, *(len(sizes) for sizes in self.waiting.values()))


async def published(broker: Broker, events: list[Event]) -> None:
    room = EmbeddedLimit(PARTITIONS, broker.in_flight, broker.measure)
    for first in range(0, len(events), 2000):
        async for part in room.chunks(events[first : first + 2000], asyncio.Event()):
            broker.take(part)


@pytest.mark.parametrize("width", [100, 3_000, 40_000, 900_000])
@pytest.mark.parametrize("row_bytes", [50, 1_500, 16_000])
@pytest.mark.parametrize("one_key", [True, False])
async def test_no_topic_has_more_in_flight_than_the_broker_keeps(
    width: int, row_bytes: int, *, one_key: bool
) -> None:
    broker = Broker(row_bytes, ends_at_once=50)
    keys = [b"k" if one_key else b"k-%d" % at for at in range(min(3000, 30_000_000 // width))]
    events = [(key, bytes(width)) for key in keys]
    await published(broker, events)
    assert broker.taken == events, "all, and in order"
    assert broker.most <= BUDGET < KEPT_BYTES
    assert broker.most_rows * row_bytes <= max(BUDGET, 256 * row_bytes)
    assert BUDGET >= 256 * 16_000


async def test_an_event_that_is_wider_than_the_room_goes_alone() -> None:
    broker = Broker(100, ends_at_once=1)
    events = [(b"k", bytes(width)) for width in (10, 6_000_000, 10, 6_000_000)]
    await published(broker, events)
    assert broker.taken == events
    assert broker.most <= 6_000_001


async def test_a_stop_ends_the_wait_for_room() -> None:
    stopping = asyncio.Event()
    broker = Broker(100, ends_at_once=0)
    room = EmbeddedLimit(PARTITIONS, broker.in_flight, broker.measure)
    parts = []
    async for part in room.chunks([(b"k", bytes(100_000))] * 100, stopping):
        broker.take(part)
        parts.append(part)
        if len(parts) == 1:
            asyncio.get_running_loop().call_later(0.1, stopping.set)
    assert 0 < len(broker.taken) < 100
