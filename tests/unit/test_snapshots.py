"""Snapshots of the past: the newest that is whole is taken up, and none that is mixed."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncGenerator, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from agents.recovery import snapshots
from agents.recovery.snapshots import Snapshot, SnapshotStore
from agents.windows.entity_past import EntityPast, orders_of
from models.features import history, history_chunk
from models.features.windows import WindowPlan
from topics.kafka.batches import Record
from topics.kafka.embedded import KEPT_BYTES
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.settings import BrokerSettings

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
DAY_MS = 86_400_000


class Topic:
    """A partition in memory: what a worker writes, another reads."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.at_once: list[int] = []

    async def write(self, _topic: str, _partition: int, records: Iterable[Record]) -> None:
        records = list(records)
        self.at_once.append(sum(record.size for record in records))
        for record in records:
            self.records.append(
                SimpleNamespace(
                    offset=len(self.records),
                    value=record.value,
                    headers=record.headers,
                    timestamp=record.timestamp_ms,
                )
            )

    async def bounds(self, _topic: str, _partition: int) -> tuple[int, int]:
        return (self.records[0].offset if self.records else 0), len(self.records)

    async def between(self, _topic: str, _partition: int, start: int, end: int) -> list[Any]:
        return [record for record in self.records if start <= record.offset < end]

    async def between_chunks(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncGenerator[list[Any]]:
        yield []
        for record in await self.between(topic, partition, start, end):
            yield [record]

    def store(self, pipeline: Pipeline = PIPELINE, *, embedded: bool = False) -> SnapshotStore:
        app = SimpleNamespace(writer=SimpleNamespace(write=self.write))
        topology = SimpleNamespace(state=lambda name: f"p.{name}.state")
        settings = BrokerSettings(embedded=embedded)
        wiring: Any = SimpleNamespace(
            pipeline=pipeline, app=app, topology=topology, settings=settings
        )
        return SnapshotStore(wiring, "terminals", WindowPlan(pipeline, "terminals"))

    async def loaded(self, pipeline: Pipeline = PIPELINE) -> Snapshot | None:
        tail: Any = self
        return await self.store(pipeline).load(tail, 0)


def past_of(days: int) -> EntityPast:
    """Outcomes of *days* days at a hundred terminals."""
    past = EntityPast.empty(WindowPlan(PIPELINE, "terminals"))
    for day in range(days):
        names = [f"t-{n}" for n in range(100)]
        offsets = np.arange(100 * day, 100 * (day + 1))
        times = np.full(100, day * DAY_MS)
        past.learn(names, times, orders_of(2, offsets), (offsets % 3 == 0).astype(np.float64))
        past.progress_of("p.outcomes", 2).offset = int(offsets[-1])
    return past


def answers(past: EntityPast) -> bytes:
    names = [f"t-{n}" for n in range(100)]
    times = np.full(100, 30 * DAY_MS)
    columns = past.observe(names, times, np.arange(100), np.zeros((100, 0)))
    return b"".join(column.tobytes() for column in columns.values())


async def test_what_was_saved_comes_back_to_the_bit() -> None:
    topic, past = Topic(), past_of(20)
    await topic.store().save(0, past, 123)
    snapshot = await topic.loaded()
    assert snapshot is not None
    assert snapshot.next_offset == 123
    assert snapshot.past.progress_of("p.outcomes", 2) == past.progress_of("p.outcomes", 2)
    assert snapshot.past.serial == 1
    assert answers(snapshot.past) == answers(past)


async def test_a_snapshot_that_was_cut_off_gives_way_to_the_one_before() -> None:
    topic = Topic()
    await topic.store().save(0, past_of(10), 1)
    await topic.store().save(0, past_of(20), 2)
    del topic.records[-1]
    snapshot = await topic.loaded()
    assert snapshot is not None
    assert snapshot.next_offset == 1


async def test_pieces_of_two_workers_are_not_put_together() -> None:
    topic, other = Topic(), Topic()
    await topic.store().save(0, past_of(10), 1)
    await other.store().save(0, past_of(20), 2)
    topic.records[0].value = other.records[0].value
    topic.records[0].headers = other.records[0].headers
    assert await topic.loaded() is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"nonsense"])
async def test_a_damaged_manifest_is_left(damage: bytes) -> None:
    topic = Topic()
    await topic.store().save(0, past_of(3), 1)
    topic.records[-1].value = damage
    assert await topic.loaded() is None


async def test_a_snapshot_of_other_windows_is_left(caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic()
    await topic.store().save(0, past_of(3), 1)
    later = PIPELINE.outcomes.model_copy(update={"delay": "8d"})
    assert await topic.loaded(PIPELINE.model_copy(update={"outcomes": later})) is None
    assert "a snapshot of other windows" in caplog.text


async def test_there_may_be_none() -> None:
    assert await Topic().loaded() is None


async def test_workers_that_come_and_go_put_off_no_snapshot() -> None:
    past = past_of(3)
    assert past.snapshot_is_due(), "the first one is due at once"
    topic = Topic()
    await topic.store().save(0, past, 1)
    assert not past.snapshot_is_due()
    for record in topic.records:
        record.timestamp -= 60_000
    snapshot = await topic.loaded()
    assert snapshot is not None
    assert not snapshot.past.snapshot_is_due(), "nothing is new"
    answers(snapshot.past)
    assert snapshot.past.snapshot_is_due(), "it is a minute old, whoever has loaded it"


def observe(past: EntityPast, days: list[int]) -> None:
    """Take in an event a day, each in a batch of its own."""
    for number, day in enumerate(days):
        past.observe([f"t-{number % 7}"], np.array([day * DAY_MS]), np.array([number]),
                     np.zeros((1, 0)))  # fmt: skip


async def test_invalid_events_are_dealt_with_for_whoever_comes_next_too() -> None:
    topic, past = Topic(), past_of(3)
    await topic.store().save(0, past, 1)
    past.observe([], np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 0)))
    assert past.changed, "the log need not be read from there again"


def test_an_event_from_the_future_does_not_end_the_past_of_others() -> None:
    past = past_of(20)
    observe(past, [30] * 300)
    before = answers(past)
    observe(past, [30, 300_000, 30])
    assert past.now_ms == 30 * DAY_MS
    past.windows.forget(past.now_ms)
    assert answers(past) == before


def test_nothing_is_forgotten_before_it_is_known_what_time_it_is() -> None:
    past = past_of(20)
    observe(past, [300_000])
    before = answers(past)
    past.windows.forget(past.now_ms)
    assert answers(past) == before


async def test_on_the_embedded_broker_a_snapshot_is_due_before_its_log_is_dropped() -> None:
    topic, past = Topic(), past_of(3)
    for embedded in (True, False):
        await topic.store().save(0, past, 1)
        answers(past)
        store = topic.store(embedded=embedded)
        past.log_bytes += KEPT_BYTES // 4
        assert not store.is_due(past)
        past.log_bytes += 1
        assert store.is_due(past) == embedded
    await topic.store().save(0, past, 2)
    assert past.log_bytes == 0


async def test_a_key_whose_past_its_topic_does_not_take_costs_no_worker_and_no_earlier_snapshot(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, past = Topic(), past_of(20)
    for offset in (1, 2):
        await topic.store().save(0, past, offset)
    before = len(topic.records)

    async def refused(topic: str, partition: int, records: Iterable[Record]) -> None:
        if len(list(records)) > 1:
            raise MessageSizeTooLargeError

    monkeypatch.setattr(topic, "write", refused)
    for offset in (3, 4):
        past.changed = True
        await topic.store().save(0, past, offset)
    assert len(topic.records) == before
    assert "max.message.bytes" in caplog.text
    monkeypatch.undo()
    await topic.store().save(0, past, 5)
    manifests = [
        json.loads(record.value) for record in topic.records if record.value.startswith(b"{")
    ]
    assert [manifest["serial"] for manifest in manifests] == [1, 2, 3], (
        "the slots take turns as before"
    )
    snapshot = await topic.loaded()
    assert snapshot is not None
    assert snapshot.next_offset == 5


async def test_a_snapshot_is_encoded_and_read_back_outside_the_event_loop_a_part_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshots, "MAX_RECORD_BYTES", 2000)
    monkeypatch.setattr(snapshots, "_AT_ONCE_BYTES", 5000)
    threads, encoded, restore = set[int](), history_chunk.encoded, history.History.restore

    def encoding(piece: Any) -> bytes:
        threads.add(threading.get_ident())
        return encoded(piece)

    def restoring(self: history.History, chunk: bytes) -> None:
        threads.add(threading.get_ident())
        restore(self, chunk)

    monkeypatch.setattr(history, "encoded", encoding)
    monkeypatch.setattr(history.History, "restore", restoring)
    topic, past = Topic(), past_of(20)
    await topic.store().save(0, past, 123)
    assert len(topic.records) > 10
    assert max(topic.at_once) <= 7000, "no more than some pieces are in memory at a time"
    snapshot = await topic.loaded()
    assert snapshot is not None
    assert answers(snapshot.past) == answers(past)
    assert threads
    assert threading.get_ident() not in threads


def test_time_goes_on_when_most_events_say_so() -> None:
    past = past_of(20)
    observe(past, [30] * 300 + [3000] * 200)
    assert past.now_ms == 3000 * DAY_MS
    past.windows.forget(past.now_ms)
    assert past.windows.histories["outcomes"].keys == 0


async def test_a_snapshot_of_before_event_time_was_bounded_is_mended() -> None:
    topic, past = Topic(), past_of(20)
    past.learn(["t-1"], np.array([2**52]), np.array([9]), np.ones(1))
    past.progress_of("p.events", 0).clock_ms = 2**52
    past.now_ms = 2**52
    past.saved(0.0)
    past.changed = True
    plain = past_of(20)
    past.windows.forget = lambda now_ms: None  # type: ignore[method-assign]  # noqa: ARG005  # as it was
    await topic.store().save(0, past, 123)
    snapshot = await topic.loaded()
    assert snapshot is not None
    assert snapshot.past.progress_of("p.events", 0).clock_ms < 2**52
    snapshot.past.windows.forget(snapshot.past.now_ms)
    others = [n for n in range(100) if n != 1]
    ours, theirs = (
        each.observe([f"t-{n}" for n in others], np.full(99, 30 * DAY_MS), np.arange(99),
                   np.zeros((99, 0)))
        for each in (snapshot.past, plain)
    )  # fmt: skip
    assert all((ours[name] == theirs[name]).all() for name in ours)
    snapshot.past.learn(["t-1"], np.array([23 * DAY_MS]), np.array([10]), np.ones(1))
    seen = snapshot.past.observe(["t-1"], np.array([30 * DAY_MS]), np.arange(1), np.zeros((1, 0)))
    assert seen["terminal_count_1d"].tolist() == [1], "what is dated right counts again"
