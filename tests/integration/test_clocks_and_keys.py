"""Producers with wrong clocks, and with two partitioners: windows are right, or say so."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.broker.pipeline_topics import ensure_topics
from agents.stages import keyed_stage
from agents.stages.repartition import Repartition
from agents.windows.event_time_order import EventTimeOrder
from models.registry.registry import Registry
from tests.integration.harness import (
    Trained,
    outputs_of,
    pipeline_running,
    publish_raw,
    records_of,
    settled,
)
from topics.events.record_keys import murmur2_partitions
from topics.kafka.batches import Record
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.records.decision import rfc3339_time
from topics.records.wire import decode
from topics.settings import BrokerSettings
from topics.transport.fetch import Fetch

YEAR_MS = 365 * 86_400_000
PIPELINE = """
pipeline: clocks
event:
  id: transaction_id
  key: customer_id
  time: occurred_at
  # more
  fields:
    transaction_id: {type: string}
    occurred_at: {type: timestamp}
    customer_id: {type: string}
    terminal_id: {type: string}
    amount: {type: number}
components:
  - name: features
    kind: extract_features
    from: [events]
    features: [{name: count, apply: count, over: [1d]}]
  - name: terminals
    kind: extract_features
    from: [events]
    key: terminal_id
    features: [{name: count, apply: count, over: [1d]}]
  - name: large
    import: tests.integration.velocity:LargeAmount
    options: {limit: 500}
    from: [events]
weighting: {from: [features, terminals, large], weights: {features: 0, terminals: 0, large: 1}}
policy: {otherwise: pass, thresholds: {stop: 0.5}}
"""


def own(home: Path, *more: str) -> Trained:
    """The pipeline with further lines in its event's section."""
    path = home / "clocks.yaml"
    path.write_text(PIPELINE.replace("# more", "\n  ".join(more)))
    return Trained(home, load_pipeline(path), Registry(home / "registry"))


def event(time_ms: int, published_ms: int | None = None, key: bytes | None = b"c-1") -> Record:
    """An event of one customer at one terminal."""
    content = {"transaction_id": f"tx-{time_ms}", "occurred_at": rfc3339_time(time_ms),
               "customer_id": "c-1", "terminal_id": "t-1", "amount": 20.0}  # fmt: skip
    return Record(key, json.dumps(content).encode(), published_ms or time_ms)


async def counts(
    trained: Trained, broker: BrokerSettings, events: Sequence[tuple[int, Record]]
) -> dict[tuple[int, int], list[float]]:
    """What customer and terminal count, by partition and offset; *events* have their partition."""
    topology = Topology.of(trained.pipeline)
    async with pipeline_running(trained, broker):
        for partition, record in events:
            await publish_raw(broker, topology.events, partition, [record])
        audit = await settled(broker, trained.pipeline, len(events))
    assert audit.passed
    return await outputs_of(broker, trained, ("features", "terminals"))


async def errors(trained: Trained, broker: BrokerSettings) -> dict[tuple[int, int], str]:
    """The dead letters' class of error, by partition and offset."""
    letters = await records_of(broker, Topology.of(trained.pipeline).dead_letters)
    about = [{name: value.decode() for name, value in letter.headers} for letter in letters]
    return {(int(each["x-error-partition"]), int(each["x-error-offset"])): each["x-error-class"]
            for each in about}  # fmt: skip


@pytest.mark.parametrize("beyond", ["refuse", "clip"])
async def test_windows_are_right_after_an_event_of_2126(
    beyond: str, tmp_path: Path, broker: BrokerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    trained = own(tmp_path, *([f"beyond_future: {beyond}"] if beyond == "clip" else []))
    now_ms = int(time.time() * 1000)
    ahead_ms = now_ms + 100 * YEAR_MS
    times = [now_ms - 60_000 + 1000 * number for number in range(8)]
    records = [event(ms) for ms in times]
    records.insert(3, event(ahead_ms, times[2]))  # a wrong event time
    records.insert(6, event(ahead_ms + 1, ahead_ms))  # and a wrong clock altogether
    counted = await counts(trained, broker, [(1, record) for record in records])
    if beyond == "refuse":
        wanted = [1, 2, 3, None, 4, 5, None, 6, 7, 8]
        assert await errors(trained, broker) == {
            (1, 3): "FutureEventTime",
            (1, 6): "FutureEventTime",
        }
        assert "events from the future were refused" in caplog.text
    else:
        wanted = [1, 2, 3, 4, 5, 6, 7, 7, 8, 9]  # the last one counts as of when it was read
        assert not await errors(trained, broker)
    for offset, count in enumerate(wanted):
        if count is not None:
            assert counted[1, offset] == [count, count], offset
    marked = {
        (name, offset)
        for name in ("features", "terminals", "large")
        for record in await records_of(broker, Topology.of(trained.pipeline).stage(name))
        for batch in [decode(record.value, dict(record.headers))]
        for offset, clipped in zip(
            batch.rows.offsets.tolist(),
            [] if batch.rows.clipped is None else batch.rows.clipped.tolist(),
            strict=batch.rows.clipped is not None,
        )
        if clipped
    }
    names = ("features", "terminals", "large")
    assert marked == ({(n, at) for n in names for at in (3, 6)} if beyond == "clip" else set())


async def test_rows_that_have_no_room_to_wait_are_read_again_and_none_is_lost(
    tmp_path: Path, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, read_again, deal = own(tmp_path), EventTimeOrder.read_again, Repartition.process
    went_back: list[int] = []

    def noted(order: EventTimeOrder) -> int | None:
        position = read_again(order)
        went_back.extend([] if position is None else [position])
        return position

    async def one_by_one(worker: Repartition, fetch: Fetch) -> None:
        for tp in sorted(fetch.records, reverse=True):
            for start in range(0, len(fetch.records[tp]), 100):
                part = {tp: fetch.records[tp][start : start + 100]}
                await deal(worker, Fetch(part, fetch.generation))

    monkeypatch.setattr(Repartition, "process", one_by_one)
    monkeypatch.setattr(keyed_stage, "MAX_BYTES", 160_000)
    monkeypatch.setattr(EventTimeOrder, "read_again", noted)
    first_ms, events = 1_522_540_800_000, 4000
    topology = Topology.of(trained.pipeline)
    sent: list[list[Record]] = [[] for _ in range(4)]
    for number in range(events):  # all at one terminal
        sent[number * 7 % 4].append(event(first_ms + 1000 * number, int(time.time() * 1000)))
    await ensure_topics(broker, topology)
    for partition, records in enumerate(sent):
        await publish_raw(broker, topology.events, partition, records)
    async with pipeline_running(trained, broker):
        audit = await settled(broker, trained.pipeline, events)
    assert audit.passed
    outputs = await outputs_of(broker, trained, ("terminals",))
    counted = {(partition, offset): json.loads(record.value or b"")["transaction_id"]
               for partition, records in enumerate(sent)
               for offset, record in enumerate(records)}  # fmt: skip
    assert outputs == {
        at: [(int(name.removeprefix("tx-")) - first_ms) // 1000 + 1] for at, name in counted.items()
    }
    assert went_back, "there was room for all of them"


@pytest.mark.parametrize("keys", ["accept", "refuse", "rekey"])
async def test_events_of_one_key_from_two_partitioners(
    keys: str, tmp_path: Path, broker: BrokerSettings
) -> None:
    trained = own(tmp_path, f"keys: {keys}")
    (placed,) = murmur2_partitions([b"c-1"], 4).tolist()
    elsewhere = (placed + 1) % 4
    now_ms = int(time.time() * 1000)
    records = [event(now_ms - 60_000 + 1000 * number) for number in range(8)]
    sent = [((placed, elsewhere)[number % 2], record) for number, record in enumerate(records)]
    counted = await counts(trained, broker, sent)
    by_customer = [counted[partition, number // 2][0] for number in range(8)
                   for partition in [(placed, elsewhere)[number % 2]]
                   if (partition, number // 2) in counted]  # fmt: skip
    if keys == "refuse":
        assert await errors(trained, broker) == {
            (elsewhere, offset): "WrongPartition" for offset in range(4)
        }
        assert [counted[placed, offset] for offset in range(4)] == [[n, n] for n in (1, 2, 3, 4)]
    elif keys == "rekey":
        assert by_customer == [1, 2, 3, 4, 5, 6, 7, 8]
    else:
        assert by_customer == [1, 1, 2, 2, 3, 3, 4, 4]
