"""A burst that takes a repartitioning long: whoever waits for its other sources waits on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.broker.log_follower import follower, read_until
from agents.broker.pipeline_topics import ensure_topics
from agents.stages import repartition
from agents.stages.repartition import Repartition
from agents.stages.source_events import decode_events
from agents.workers.stage_pulse import WORKER_RUN
from models.registry.registry import Registry
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    pipeline_running,
    publish_raw,
    records_of,
    settled,
)
from topics.events import DecodedEvents, SourceDecoder, SourceRecord
from topics.kafka.batches import Record
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.records.decision import rfc3339_time
from topics.records.heartbeat import Heartbeat, heartbeat_of
from topics.records.wire import decode
from topics.settings import BrokerSettings
from topics.transport.fetch import Fetch

STALL_S = 4
PORTION, PORTIONS = 50, 5
"""Records of a portion: fewer than in service, so that a busy machine has them in one fetch too."""
PORTION_S = 0.6 * STALL_S
"""What a portion takes. Less than the stall time-out: otherwise the worker hangs, and is down."""
PIPELINE = f"""
pipeline: burst
event:
  id: id
  key: who
  time: at
  fields:
    id: {{type: string}}
    at: {{type: timestamp}}
    who: {{type: string}}
    shop: {{type: string}}
components:
  - name: shops
    kind: extract_features
    from: [events]
    key: shop
    features: [{{name: count, apply: count, over: [1d]}}]
weighting: {{from: [shops], weights: {{shops: 1}}, stall_timeout_s: {STALL_S}}}
policy: {{otherwise: pass, thresholds: {{stop: 0.5}}}}
"""
BURST, SLOW = 0, 1
EVENTS = PORTION * PORTIONS
FIRST_MS = 1_522_540_800_000


def event(number: int) -> Record:
    """The event that is so many in event time; all are of one shop."""
    text = rfc3339_time(FIRST_MS + 1000 * number)
    value = f'{{"id":"{number}","at":"{text}","who":"w","shop":"s"}}'
    return Record(b"w", value.encode(), int(time.time() * 1000))


async def keyed_records(
    broker: BrokerSettings, topic: str, lane: int
) -> list[Heartbeat | tuple[int, int]]:
    """What stands on a lane of the keyed topic, in order.

    Heartbeats, and of batches their source and up to which of its offsets they cover it.
    """
    records: list[Heartbeat | tuple[int, int]] = []
    async with follower(broker, (topic,), 4, from_start=True) as consumer:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
        async for partition, fetched in read_until(consumer, ends):
            for record in fetched if partition.partition == lane else ():
                headers = dict(record.headers)
                heartbeat = heartbeat_of(record.value, headers)
                if heartbeat is None:
                    batch = decode(record.value, headers)
                    records.append((batch.partition, batch.covers_to))
                else:
                    records.append(heartbeat)
    return records


async def test_a_source_behind_a_long_burst_is_not_down_to_whoever_reads_the_keyed_topic(
    tmp_path: Path, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "burst.yaml"
    path.write_text(PIPELINE)
    trained = Trained(tmp_path, load_pipeline(path), Registry(tmp_path / "registry"))
    topology = Topology.of(trained.pipeline)
    deals, longest = asyncio.Event(), 0

    async def process(worker: Repartition, fetch: Fetch) -> None:
        nonlocal longest
        longest = max([longest, *map(len, fetch.records.values())])
        await as_it_is(worker, fetch)

    async def slow(decoder: SourceDecoder, records: Sequence[SourceRecord]) -> DecodedEvents:
        if len(records) > 1:  # a portion of the burst
            deals.set()
            await asyncio.sleep(PORTION_S)
        return await decode_events(decoder, records)

    as_it_is = Repartition.process
    monkeypatch.setattr(Repartition, "process", process)
    monkeypatch.setattr(repartition, "decode_events", slow)
    monkeypatch.setattr(repartition, "_AT_ONCE", PORTION)
    burst = [event(2 * number) for number in range(1, EVENTS + 1)]
    await ensure_topics(broker, topology)
    await publish_raw(broker, topology.events, SLOW, [event(0)])
    await publish_raw(broker, topology.events, BURST, burst)
    async with pipeline_running(trained, broker):
        async with asyncio.timeout(PATIENCE_S):
            await deals.wait()
        # In event time it is in the middle of the burst; it is read when that has been dealt out.
        await publish_raw(broker, topology.events, SLOW, [event(EVENTS + 1)])
        audit = await settled(broker, trained.pipeline, EVENTS + 2)
    assert audit.passed
    assert longest == EVENTS, "the burst did not come in one fetch"

    for lane in range(4):
        on_keyed = await keyed_records(broker, topology.keyed("shops"), lane)
        first, last = on_keyed.index((BURST, PORTION - 1)), on_keyed.index((BURST, EVENTS - 1))
        meanwhile = [each for each in on_keyed[first:last] if isinstance(each, Heartbeat)]
        of_slow = [each for each in meanwhile if each.partition == SLOW]
        assert len(of_slow) >= PORTIONS - 1, "it lives all the time"
        assert {(each.worker, each.lane, each.state) for each in of_slow} == {
            (WORKER_RUN, lane, "working")
        }
    outputs: dict[tuple[int, int], float] = {}
    for record in await records_of(broker, topology.stage("shops")):
        batch = decode(record.value, dict(record.headers))
        assert batch.early is None, "rows went on without a source that was slow, not down"
        offsets = batch.rows.offsets.tolist()
        outputs |= {
            (batch.partition, offset): row[0]
            for offset, row in zip(offsets, batch.output.tolist(), strict=True)
        }
    assert outputs[SLOW, 1] == EVENTS // 2 + 2, "of all that were before it, and itself"
