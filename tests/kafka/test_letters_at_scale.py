"""Many dead letters: a start behind them, a list of them, and all of them redriven."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from agents.redrive.dead_letter_index import read_dead_letters
from agents.workers.topic_tail import TailReader
from tests.integration.harness import (
    Trained,
    decided,
    pipeline_running,
    publish_raw,
    records_of,
    settled,
    simulated,
    worker_process,
)
from tests.integration.test_dead_letters import run
from tests.unit.stage_batches import batch_of
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.records.bytes_column import BytesColumn
from topics.records.dead_letter import dead_letter
from topics.records.decision import ATTEMPT_HEADER
from topics.records.stage_batch import Failure
from topics.records.wire import encode
from topics.settings import BrokerSettings

LETTERS = 200_000
REDRIVEN = 60_000
PARTITION = 2
ROWS = 5000
"""Of a stage batch."""


def letters_about(topology: Topology, records: list[Record], first: int) -> list[Record]:
    """Their dead letters, as the weighting agent writes them."""
    return [
        dead_letter(
            Failure(0, "features", "ArithmeticError", "thirteen"),
            (topology.events, PARTITION, first + row), (record.key, record.value, ()),
            record.timestamp_ms, published_ms=record.timestamp_ms,
        )
        for row, record in enumerate(records)
    ]  # fmt: skip


@contextmanager
def command_process(
    own: Trained, broker: BrokerSettings, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`anabranch dead-letters redrive`, as a process of its own."""
    words = ["dead-letters", "redrive", str(own.file.path), "--json", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", *words],
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": broker.broker},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def events_of(own: Trained, count: int) -> list[Record]:
    now_ms = int(time.time() * 1000)
    return [Record(key, value, now_ms) for key, value in simulated(own.pipeline, count)]


def stage_records(
    topology: Topology, name: str, first: int, count: int, last: Record
) -> list[Record]:
    """A component's outputs: *count* rows that it failed on, and behind them that of *last*."""
    records = []
    event_id = json.loads(last.value or b"")["transaction_id"].encode()
    for start in range(first, first + count + 1, ROWS):
        offsets = range(start, min(start + ROWS, first + count + 1))
        failed = [offset for offset in offsets if offset < first + count]
        batch = batch_of(name, offsets, absent=failed)
        about = replace(
            batch.rows, ids=BytesColumn.of([event_id] * len(batch)),
            published_ms=np.full(len(batch), last.timestamp_ms),
        )  # fmt: skip
        batch = replace(batch, rows=about)
        lanes = range(topology.partitions) if name in topology.repartitioned else [None]
        for lane in lanes:
            rows = batch if not lane else replace(batch[:0], covers_to=batch.covers_to)
            value, headers = encode(replace(
                rows, topic=topology.events, partition=PARTITION, lane=lane,
            ))  # fmt: skip
            records.append(Record(None, value, 1, headers))
    return records


@pytest.mark.timeout(300)
async def test_the_weighting_agent_starts_behind_200_000_dead_letters(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    events = events_of(own, 3)
    async with pipeline_running(own, broker):
        await publish_raw(broker, topology.events, PARTITION, events[:2])
        await settled(broker, own.pipeline, 2)
    spoilt = [Record(b"k", b"{}", events[0].timestamp_ms)] * LETTERS
    await publish_raw(broker, topology.events, PARTITION, [*spoilt, events[2]])
    await publish_raw(broker, topology.dead_letters, PARTITION, letters_about(topology, spoilt, 2))
    for name in topology.components:
        outputs = stage_records(topology, name, 2, LETTERS, events[2])
        await publish_raw(broker, topology.stage(name), PARTITION, outputs)
    with worker_process(own, broker, "weigh"):
        audit = await settled(broker, own.pipeline, LETTERS + 3)
    assert (audit.total.decided, audit.total.dead) == (3, LETTERS)
    assert audit.passed


@pytest.mark.timeout(300)
async def test_the_weighting_agent_starts_behind_60_000_redriven_decisions(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    events = events_of(own, 3)
    async with pipeline_running(own, broker):
        await publish_raw(broker, topology.events, PARTITION, events[:2])
        await settled(broker, own.pipeline, 2)
    first, *_ = await records_of(broker, topology.decisions)
    again = Record(first.key, first.value, 1, [*first.headers, (ATTEMPT_HEADER, b"2")])
    await publish_raw(broker, topology.decisions, PARTITION, [again] * REDRIVEN)
    tail = TailReader(broker)
    await tail.start()
    before = tail.records_read
    found = await tail.last_read(topology.decisions, PARTITION, lambda record: (
        None if any(name == ATTEMPT_HEADER for name, _ in record.headers) else record.offset
    ))  # fmt: skip
    assert found == [0, 1]
    assert tail.records_read - before == REDRIVEN + 2
    await tail.stop()
    with worker_process(own, broker):
        await publish_raw(broker, topology.events, PARTITION, events[2:])
        await decided(broker, own.pipeline, REDRIVEN + 3)


@pytest.mark.timeout(300)
async def test_what_a_killed_command_has_not_sent_the_next_one_sends(
    own: Trained, broker: BrokerSettings
) -> None:
    count = 3000
    topology = Topology.of(own.pipeline)
    async with pipeline_running(own, broker):
        await publish_raw(broker, topology.events, PARTITION, events_of(own, 1))
        await settled(broker, own.pipeline, 1)
    events = events_of(own, count)
    await publish_raw(broker, topology.dead_letters, PARTITION, letters_about(topology, events, 1))
    await publish_raw(broker, topology.events, PARTITION, events)
    async with pipeline_running(own, broker):
        with command_process(own, broker, "--rate", "50") as first:
            await decided(broker, own.pipeline, count // 20)
            first.kill()
            first.wait()
        code, output = await run(own, broker, "redrive")
        assert code == 0
        assert 0 < output["redriven"] < count
        assert output["skipped"].keys() <= {"waiting", "healed"}
        assert output["redriven"] + sum(output["skipped"].values()) == count
        # What the killed one had sent may still be under way.
        await decided(broker, own.pipeline, count + 1)
        audit = await settled(broker, own.pipeline, count + 1)
        assert audit.passed
        assert audit.total.redriven == count
        letters = await read_dead_letters(broker, own.pipeline, payloads=False)
        states = {letters.state(letter, 3) for letter in letters.newest.values()}
        assert states == {"healed"}
    attempts = [record for record in await records_of(broker, topology.decisions)
                if dict(record.headers).get(ATTEMPT_HEADER)]  # fmt: skip
    assert len(attempts) == count
