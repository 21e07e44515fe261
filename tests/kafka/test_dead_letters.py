"""Redriving where the broker knows the times of its records."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

import numpy as np
import orjson

from agents.redrive.dead_letter_index import Coordinates, DeadLetter, read_dead_letters
from agents.redrive.preparation import (
    Edit,
    KnownOutputs,
    due,
    find_outputs,
    redrive_batches,
    validated,
)
from agents.redrive.sender import send_and_follow
from agents.workers.topic_tail import TailReader
from tests.integration.harness import (
    Trained,
    pipeline_running,
    publish_raw,
    records_of,
    settled,
    simulated,
)
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.redrive.record import RedriveBatch
from topics.settings import BrokerSettings

EVENTS = 60
SPOILT = 41


async def one_by_one(redrives: Sequence[RedriveBatch]) -> AsyncIterator[RedriveBatch]:
    for batch in redrives:
        yield batch


def letter_about(offset: int, published_ms: int) -> DeadLetter:
    return DeadLetter(
        partition=1, offset=0, written_ms=published_ms, source=Coordinates(1, offset), attempt=1,
        stage="features", error="E", reason="r", original="", published_ms=published_ms,
        event_id="", key=None, value=None, headers=[],
    )  # fmt: skip


async def test_a_mended_event_is_decided_once_and_known_outputs_are_found_by_their_time(
    own: Trained, broker: BrokerSettings
) -> None:
    topology, now_ms = Topology.of(own.pipeline), int(time.time() * 1000)
    values = [value for _, value in simulated(own.pipeline, EVENTS)]
    event = orjson.loads(values[SPOILT])
    values[SPOILT] = orjson.dumps(event | {"amount": str(event["amount"])})
    records = [Record(b"k", value, now_ms) for value in values]
    async with pipeline_running(own, broker):
        await publish_raw(broker, topology.events, 1, records)
        audit = await settled(broker, own.pipeline, EVENTS)
        assert (audit.total.decided, audit.total.dead) == (EVENTS - 1, 1)
        for _ in range(2):
            letters = await read_dead_letters(broker, own.pipeline, payloads=True)
            ready, skipped = due(
                letters, letters.selected(None, None), attempts=3, again=False
            )  # fmt: skip
            selection = validated(own.pipeline, ready, Edit(".amount |= tonumber"))
            batches = redrive_batches(own.pipeline, selection, KnownOutputs())
            sent = await send_and_follow(broker, own.pipeline, one_by_one(batches), quiet_s=60)
            assert [*sent.endings.values()] == ["decision" for each in batches for _ in each.events]
        assert skipped == {"healed": 1}
    audit = await settled(broker, own.pipeline, EVENTS)
    assert audit.passed
    assert (audit.total.decided, audit.total.redriven) == (EVENTS, 1)
    assert len(await records_of(broker, topology.decisions)) == EVENTS

    wanted = [letter_about(offset, now_ms) for offset in (0, SPOILT, EVENTS - 1)]
    tail = TailReader(broker)
    await tail.start()
    known = KnownOutputs()
    await find_outputs(tail, topology, wanted, known)
    for letter in wanted:
        offset, whole = letter.source.offset, {*topology.components}
        assert known.present(letter.source) == (set() if offset == SPOILT else whole)
        for name in whole:
            (batch,) = known.of(1, name, np.array([offset]))
            assert batch.rows.offsets.tolist() == [offset]
    late, unknown = [letter_about(0, now_ms + 3_600_000)], KnownOutputs()
    await find_outputs(tail, topology, late, unknown)
    assert not unknown.of(1, "features", np.array([0]))
    await tail.stop()
