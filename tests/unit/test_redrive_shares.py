"""Redrive records get their share of a worker's time, and none of them waits for another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from agents.redrive import component_redrive as redrive_module
from agents.redrive.component_redrive import SHARE, RedriveResult, StageRedrive
from tests.unit.redrives import redrive_of
from tests.unit.stage_batches import batch_of
from topics.errors import WireError
from topics.kafka.batches import Record
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import Topology
from topics.records.stage_batch import StageBatch
from topics.redrive.record import RedriveBatch
from topics.redrive.wire import decode_redrive, encode_redrive

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
TOPOLOGY = Topology.of(PIPELINE)
REDRIVE = TP(TOPOLOGY.redrive, 0)


@dataclass
class Clock:
    """Time that passes only when somebody says so."""

    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@dataclass
class Broker:
    """What a worker writes, commits and pauses."""

    written: list[tuple[int, Record]] = field(default_factory=list)
    positions: dict[TP, int] = field(default_factory=dict)
    paused: set[TP] = field(default_factory=set)

    async def write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        assert topic == TOPOLOGY.redrive
        self.written += [(partition, record) for record in records]

    def done(self, positions: dict[TP, int]) -> None:
        self.positions |= positions

    def pause_only(self, partitions: set[TP], reader: str) -> None:
        assert reader == "redrive"
        self.paused = partitions


@dataclass
class Stage:
    """A component `features` that knows the past up to an offset, and takes its time."""

    clock: Clock
    broker: Broker = field(default_factory=Broker)
    reached: int = 10**9
    stuck: frozenset[int] = frozenset()
    redrive_s: float = 0.0001
    sizes: list[int] = field(default_factory=list)

    def redrives(self) -> StageRedrive:
        app = SimpleNamespace(writer=self.broker, batches=self.broker)
        wiring = SimpleNamespace(
            pipeline=PIPELINE, topology=TOPOLOGY, app=app,
            metrics=SimpleNamespace(observe_skipped=lambda: None),
        )  # fmt: skip
        return StageRedrive(cast("Any", wiring), {"features": self.run})

    async def run(self, redrives: RedriveBatch) -> RedriveResult:
        self.sizes.append(len(redrives))
        self.clock.now += 0.003 + self.redrive_s * len(redrives)
        offsets = redrives.offsets.tolist()
        assert offsets == sorted(set(offsets))
        bad = {at: WireError("no such source record") for at in offsets if at == 13}
        ready = [
            at for at in offsets if at <= self.reached and at not in bad and at not in self.stuck
        ]
        return RedriveResult(output_of(ready) if ready else None, bad)


def output_of(offsets: Sequence[int]) -> StageBatch:
    batch = batch_of("features", offsets)
    object.__setattr__(batch, "topic", TOPOLOGY.events)
    return batch


def record_of(
    offset: int,
    *sources: int,
    component: str = "features",
    partition: int = 0,
    value: bytes = b"{}",
) -> Any:
    record = encode_redrive(
        redrive_of(
            offsets=sources, topic=TOPOLOGY.events, partition=partition, component=component,
            value=value,
        ), 5,
    )  # fmt: skip
    return SimpleNamespace(
        topic=REDRIVE.topic, partition=partition, offset=offset, key=record.key, value=record.value,
        headers=record.headers, timestamp=5,
    )  # fmt: skip


def sources_written(broker: Broker) -> list[int]:
    return [
        offset
        for _, record in broker.written
        for offset in decode_redrive(record.key, record.value, record.headers).offsets.tolist()
    ]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(redrive_module, "time", clock)
    return clock


async def test_while_events_flow_redrive_records_take_their_share_and_all_go_in_the_end(
    clock: Clock,
) -> None:
    stage = Stage(clock)
    redrives, records = stage.redrives(), [record_of(at, at) for at in range(100, 3100)]
    began, longest = clock.now, 0.0
    await redrives.deal({REDRIVE: records}, events_flow=True)
    for_redrive = clock.now - began
    while redrives.waits:
        clock.now += 0.002  # the events of a fetch
        before = clock.now
        await redrives.deal({}, events_flow=True)
        for_redrive += clock.now - before
        longest = max(longest, clock.now - before)
    assert for_redrive <= SHARE * (clock.now - began) + longest
    assert max(stage.sizes) <= 256
    assert sources_written(stage.broker) == [*range(100, 3100)]
    assert stage.broker.positions == {REDRIVE: 3100}


async def test_without_events_records_are_dealt_with_for_a_stretch_then_events_are_looked_for(
    clock: Clock,
) -> None:
    stage = Stage(clock)
    redrives, records = stage.redrives(), [record_of(at, at) for at in range(3000)]
    began = clock.now
    await redrives.deal({REDRIVE: records}, events_flow=False)
    assert redrives.waits
    assert len(sources_written(stage.broker)) >= 500
    assert clock.now - began < 0.2


async def test_between_two_fetches_with_events_redrive_records_have_their_share_only(
    clock: Clock,
) -> None:
    stage = Stage(clock)
    redrives = stage.redrives()
    clock.now += 1
    await redrives.deal({}, events_flow=True)
    before = clock.now
    records = [record_of(at, at) for at in range(100, 3100)]
    await redrives.deal({REDRIVE: records}, events_flow=False)
    for _ in range(9):
        await redrives.deal({}, events_flow=False)
    assert len(stage.sizes) <= 3  # what they had saved of their share
    assert redrives.waits
    clock.now = before + 10
    await redrives.deal({}, events_flow=False)
    assert max(stage.sizes) > 256


async def test_one_that_waits_holds_up_no_other_and_is_read_again_after_a_crash(
    clock: Clock,
) -> None:
    stage = Stage(clock, reached=8)
    redrives = stage.redrives()
    clock.now += 1
    await redrives.deal(
        {REDRIVE: [record_of(at, source) for at, source in enumerate([3, 99, 7, 13, 5])]},
        events_flow=True,
    )
    assert sources_written(stage.broker) == [3, 5, 7]
    assert stage.broker.positions == {REDRIVE: 1}
    assert redrives.waits
    stage.reached = 99
    clock.now += 1
    await redrives.deal({}, events_flow=True)
    assert sources_written(stage.broker) == [3, 5, 7, 99]
    assert stage.broker.positions == {REDRIVE: 5}
    assert not redrives.waits


async def test_what_is_addressed_to_others_is_passed_and_so_is_the_same_event_twice(
    clock: Clock,
) -> None:
    stage = Stage(clock)
    redrives = stage.redrives()
    records = [
        record_of(0, 3),
        record_of(1, 4, component="terminals"),
        record_of(2, 3),
        record_of(3, 2),
    ]
    await redrives.deal({REDRIVE: records}, events_flow=False)
    assert sorted(sources_written(stage.broker)) == [2, 3, 3]
    assert stage.broker.positions == {REDRIVE: 4}


async def test_one_partition_after_the_other_has_its_turn_while_events_flow(clock: Clock) -> None:
    stage = Stage(clock)
    redrives = stage.redrives()
    records = {
        TP(REDRIVE.topic, at): [record_of(n, n, partition=at) for n in range(20, 320)]
        for at in range(4)
    }  # fmt: skip
    clock.now += 1
    await redrives.deal(records, events_flow=True)
    assert len(stage.sizes) == 1
    for _ in range(3):
        clock.now += 1
        await redrives.deal({}, events_flow=True)
    assert {partition for partition, _ in stage.broker.written} == {0, 1, 2, 3}


async def test_with_many_that_wait_no_more_are_read(clock: Clock) -> None:
    stage = Stage(clock, reached=-1)
    redrives = stage.redrives()
    await redrives.deal({REDRIVE: [record_of(at, at) for at in range(20, 4100)]}, events_flow=False)
    assert stage.broker.paused == {REDRIVE}
    stage.reached = 10**6
    for _ in range(100):
        clock.now += 1
        await redrives.deal({}, events_flow=False)
    assert stage.broker.paused == set()
    assert sorted(sources_written(stage.broker)) == [*range(20, 4100)]


async def test_where_turns_are_seldom_those_that_wait_hold_up_no_others_either(
    clock: Clock,
) -> None:
    stage = Stage(clock, stuck=frozenset(range(20, 420)))
    redrives = stage.redrives()
    await redrives.deal({REDRIVE: [record_of(at, at) for at in range(20, 1020)]}, events_flow=True)
    for _ in range(10):
        clock.now += 1
        await redrives.deal({}, events_flow=True)
    assert sorted(sources_written(stage.broker)) == [*range(420, 1020)]


async def test_however_many_wait_for_one_thing_those_that_waited_for_another_have_their_turn(
    clock: Clock,
) -> None:
    stage = Stage(clock, reached=-1, stuck=frozenset(range(20, 1000)))
    redrives = stage.redrives()
    await redrives.deal({REDRIVE: [record_of(at, at) for at in range(20, 1010)]}, events_flow=True)
    for _ in range(10):
        clock.now += 1
        await redrives.deal({}, events_flow=True)
    stage.reached = 10**6
    for _ in range(10):
        clock.now += 1
        await redrives.deal({}, events_flow=True)
    assert sorted(sources_written(stage.broker)) == [*range(1000, 1010)]
    assert stage.broker.positions == {REDRIVE: 20}
    stage.stuck = frozenset()
    while redrives.waits:
        clock.now += 1
        await redrives.deal({}, events_flow=True)
    assert sorted(sources_written(stage.broker)) == [*range(20, 1010)]
    assert stage.broker.positions == {REDRIVE: 1010}


async def test_redrive_records_with_large_events_are_dealt_with_one_by_one_and_few_are_held(
    clock: Clock,
) -> None:
    stage = Stage(clock, reached=0)
    large = b"x" * (3 * 2**20)
    redrives = stage.redrives()
    records = [record_of(at, at, value=large) for at in range(100, 104)]
    await redrives.deal({REDRIVE: records}, events_flow=False)
    assert max(stage.sizes) == 1
    assert stage.broker.paused == {REDRIVE}, "12 MiB wait for their past: no more are read"
    stage.reached = 10**9
    while redrives.waits:
        clock.now += 1
        await redrives.deal({}, events_flow=False)
    assert stage.broker.paused == set()
    assert sources_written(stage.broker) == [*range(100, 104)]


async def test_of_many_events_in_a_record_some_wait_and_the_record_is_read_again_after_a_crash(
    clock: Clock,
) -> None:
    stage = Stage(clock, reached=5)
    redrives = stage.redrives()
    await redrives.deal({REDRIVE: [record_of(0, 2, 7, 13), record_of(1, 3, 4)]}, events_flow=False)
    assert sorted(sources_written(stage.broker)) == [2, 3, 4]
    assert stage.broker.positions == {REDRIVE: 0}
    stage.reached = 9
    clock.now += 1
    await redrives.deal({}, events_flow=False)
    assert sorted(sources_written(stage.broker)) == [2, 3, 4, 7]
    assert stage.broker.positions == {REDRIVE: 2}
    assert not redrives.waits


async def test_a_record_of_more_events_than_are_dealt_with_at_once_is_dealt_with_in_portions(
    clock: Clock,
) -> None:
    stage = Stage(clock)
    redrives = stage.redrives()
    clock.now += 1
    await redrives.deal({REDRIVE: [record_of(0, *range(20, 1020))]}, events_flow=True)
    assert stage.sizes == [256]
    assert stage.broker.positions == {REDRIVE: 0}
    while redrives.waits:
        clock.now += 1
        await redrives.deal({}, events_flow=True)
    assert max(stage.sizes) == 256
    assert sources_written(stage.broker) == [*range(20, 1020)]
    assert stage.broker.positions == {REDRIVE: 1}
