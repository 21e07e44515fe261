"""Nothing holds up the event loop for long: other tasks have their turn in between."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from faust.transport.consumer import Consumer
from faust.types import TP

from agents.components.running import IN_THREAD_FROM, Inference
from agents.stages import source_events
from agents.stages.source_events import decode_events
from agents.workers.app import create_app
from agents.workers.metrics import Metrics
from agents.workers.stage_metrics import StageMetrics
from topics.events.source_decoder import SourceDecoder
from topics.pipeline.event_schema import EventSchema
from topics.settings import BrokerSettings
from topics.transport import group_member
from topics.transport.consumer import MicroBatchConsumer

SCHEMA = EventSchema.model_validate({
    "id": "id", "key": "id", "time": "at", "beyond_future": "clip",
    "fields": {"id": {"type": "string"}, "at": {"type": "timestamp"}, "x": {"type": "number"},
               "n": {"type": "integer"}, "v": {"type": "vector", "length": 2}},
})  # fmt: skip
VALID = b'{"id": "%d", "at": "2018-04-01T00:00:%02dZ", "x": 1.5, "n": %d, "v": [1, 2]}'
PUBLISHED_MS = 1_522_540_860_000
"""The end of the minute in which the events happen; every fifth is published an hour before."""


def events(count: int) -> list[Any]:
    values = [VALID % (n, n % 60, n) if n % 3 else b'{"id": 1}' for n in range(count)]
    return [
        SimpleNamespace(key=None, value=value, headers=(), partition=0,
                        timestamp=PUBLISHED_MS - (n % 5 == 0) * 3_600_000)
        for n, value in enumerate(values)
    ]  # fmt: skip


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(source_events, "_AT_A_STRETCH_S", 0.0)
    return []


@pytest.mark.parametrize("count", [0, 1, 256, 257, 1000])
async def test_events_that_are_decoded_a_part_at_a_time_are_decoded_alike(
    count: int, looks: list[int]
) -> None:
    decoder = SourceDecoder(SCHEMA, 4)
    at_once, in_parts = decoder.decode(events(count)), await decode_events(decoder, events(count))
    assert in_parts.failures == at_once.failures
    assert in_parts.clipped == at_once.clipped
    assert bool(in_parts.clipped) == (count > 5)
    assert (in_parts.ids, in_parts.keys) == (at_once.ids, at_once.keys)
    np.testing.assert_array_equal(in_parts.valid, at_once.valid)
    np.testing.assert_array_equal(in_parts.times_ms, at_once.times_ms)
    assert in_parts.columns.keys() == at_once.columns.keys()
    for name, column in in_parts.columns.items():
        assert column.dtype == at_once.columns[name].dtype
        np.testing.assert_array_equal(column, at_once.columns[name])


async def test_other_tasks_go_on_while_thousands_of_events_are_validated(looks: list[int]) -> None:
    async def look() -> None:
        while True:
            looks.append(1)
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await decode_events(SourceDecoder(SCHEMA, 4), events(4096))
    looking.cancel()
    assert len(looks) >= 4096 / 256 - 1


def inference(*, own_code: bool = False) -> Inference:
    metrics = StageMetrics(Metrics(), "p", "risk")
    return Inference(metrics, always_in_thread=own_code)


async def test_the_first_batch_runs_in_a_thread_and_so_does_every_one_that_may_be_long() -> None:
    runs, loop = inference(), threading.get_ident()
    assert await runs.run(threading.get_ident, 1) != loop, "nobody knows how long it takes"
    assert await runs.run(threading.get_ident, 1) == loop, "a thread costs more than so short a run"
    assert await runs.run(threading.get_ident, IN_THREAD_FROM) != loop
    assert await runs.run(threading.get_ident, 0) == loop


async def test_code_of_the_users_own_never_runs_in_the_event_loop() -> None:
    runs, loop = inference(own_code=True), threading.get_ident()
    for _ in range(3):
        assert await runs.run(threading.get_ident, 1) != loop


class Coordinator:
    """Answers what a member of a group asks; time passes as it is told."""

    def __init__(self) -> None:
        self.error_code = 0

    async def _send_req(self, request: object) -> Any:
        return SimpleNamespace(error_code=self.error_code)

    async def _do_heartbeat(self) -> bool:
        await self._send_req(HeartbeatRequest("g", 1, "m"))
        return True

    async def _perform_assignment(self, joined: object) -> None: ...


class Clock:
    """Time that passes only when somebody says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
async def member(monkeypatch: pytest.MonkeyPatch) -> tuple[MicroBatchConsumer, Coordinator, Clock]:
    clock, coordinator = Clock(), Coordinator()
    monkeypatch.setattr(group_member, "time", clock)

    async def taken_up(self: Consumer, assigned: set[TP], generation_id: int = 0) -> None: ...

    monkeypatch.setattr(Consumer, "on_partitions_assigned", taken_up)
    consumer = create_app("g", BrokerSettings(), max_records=10).batches
    kafka: Any = SimpleNamespace(_coordinator=coordinator)
    consumer._kafka = kafka
    consumer._watch_heartbeats()
    return consumer, coordinator, clock


JOIN = JoinGroupRequest("g", 10_000, 10_000, "", None, "consumer", [])
SYNC = SyncGroupRequest("g", 1, "m", None, [])


async def test_the_lease_begins_with_the_answer_to_the_join_and_not_when_it_is_taken_up(
    member: tuple[MicroBatchConsumer, Coordinator, Clock],
) -> None:
    consumer, coordinator, clock = member
    await coordinator._send_req(JOIN)
    clock.now += 2
    assert consumer.silent_s == 2
    await coordinator._send_req(SYNC)
    clock.now += 7  # the loop is held up, or an earlier assignment is still given back
    await consumer.on_partitions_assigned(set())
    assert consumer.silent_s == 7
    await coordinator._do_heartbeat()
    assert consumer.silent_s == 0


async def test_a_join_that_is_refused_renews_no_lease(
    member: tuple[MicroBatchConsumer, Coordinator, Clock],
) -> None:
    consumer, coordinator, clock = member
    await coordinator._send_req(SYNC)
    clock.now += 5
    coordinator.error_code = 27  # a rebalance is in progress
    await coordinator._send_req(JOIN)
    await coordinator._send_req(SYNC)
    assert consumer.silent_s == 5
