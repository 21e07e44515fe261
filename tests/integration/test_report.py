"""The report, read from an embedded broker: what stands on the topics is what it counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import orjson
import pytest

from agents.broker.pipeline_topics import ensure_topics
from agents.publish import publisher as publishing
from agents.report import PipelineFigures, collected
from agents.workers import TailReader
from topics.kafka.batches import Record, write_batches
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import Topology
from topics.records import rfc3339_time
from topics.records.dead_letter import dead_letter
from topics.records.stage_batch import Failure
from topics.settings import BrokerSettings

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline.model_copy(
    update={"pipeline": "reported"}
)
TOPOLOGY = Topology.of(PIPELINE)


def decision(number: int, taken: str, *, explored: bool = False) -> bytes:
    now = rfc3339_time(time.time_ns() // 1_000_000)
    return orjson.dumps({
        "event_id": f"e{number}", "pipeline": "reported", "decision": taken, "score": 0.25,
        "contributions": {
            "decision": {"signal": 0.25, "weight": 1, "contribution": 0.25, "model": "decision@1",
                         "digest": "sha256:1", "variant": "fp32"},
        },
        "degraded": number % 4 == 0, "missing": [], "weights": 3, "policy": "reported@1",
        "source": {"topic": "reported.events", "partition": 0, "offset": number},
        "event_time": now, "decided_at": now, "latency_ms": 40, "explored": explored,
        **({"instead_of": "decline", "propensity": 0.1} if explored else {}),
    })  # fmt: skip


async def written(broker: BrokerSettings, topic: str, records: Sequence[Record]) -> None:
    async with publishing.producer(broker) as kafka:
        await write_batches(kafka, topic, 0, records)


async def reported(broker: BrokerSettings) -> PipelineFigures:
    tail = TailReader(broker)
    await tail.start()
    try:
        return await collected(broker, PIPELINE, tail, None)
    finally:
        await tail.stop()


def test_what_stands_on_the_topics_is_counted_once_and_what_does_not_is_said(
    broker: BrokerSettings,
) -> None:
    async def main() -> PipelineFigures:
        await ensure_topics(broker, TOPOLOGY)
        now = time.time_ns() // 1_000_000
        made = [decision(n, "review" if n % 5 else "approve", explored=n == 5) for n in range(40)]
        records = [Record(b"k", value, now) for value in [*made, b"no decision", b""]]
        await written(broker, TOPOLOGY.decisions, records)
        failure = Failure(0, "features", "InvalidEvent", "amount: -1 is below 0")
        letters = [
            dead_letter(failure, ("reported.events", 0, n), None, now, published_ms=now)
            for n in range(3)
        ]
        await written(broker, TOPOLOGY.dead_letters, letters)
        return await reported(broker)

    figures = asyncio.run(main())
    assert figures.decided == 40
    assert figures.decisions == {"approve": 8, "review": 32}
    assert figures.degraded == 10
    assert figures.explored == {"approve": 1}
    assert sum(period.decided for period in figures.periods) == 40
    assert figures.latency_p50_ms == pytest.approx(40, rel=0.12)
    assert [(each.component, each.error, each.letters) for each in figures.letters] == [
        ("features", "InvalidEvent", 3)
    ]
    assert figures.letters[0].example == "amount: -1 is below 0"
    assert {each.version: each.decisions for each in figures.versions} == {
        "decision@1": 40, "policy reported@1": 40, "weights@3": 40,
    }  # fmt: skip
    assert "reported.monitor: no monitor has run" in figures.not_read
    assert "2 records that are none of the pipeline's" in figures.not_read
