"""The embedded broker drops what is old without a word: its topics are the same all the while."""

from __future__ import annotations

import time

from tests.integration.harness import (
    Trained,
    decided,
    pipeline_running,
    publish,
    publish_raw,
    records_of,
    simulated,
)
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

_LARGE = 200_000


async def test_workers_go_on_where_the_records_that_they_have_dealt_with_are_gone(
    trained: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(trained.pipeline)
    async with pipeline_running(trained, broker) as workers:
        await publish(broker, trained.pipeline, simulated(trained.pipeline, 200), 2000)
        await decided(broker, trained.pipeline, 200)
        await workers.topics.look()
        await workers.topics.look()
    for _ in range(4):  # 8 MB, of which 5 MiB are kept
        large = [Record(None, b"x" * _LARGE, int(time.time() * 1000)) for _ in range(10)]
        await publish_raw(broker, topology.events, 0, large)
    kept = [
        each.offset for each in await records_of(broker, topology.events) if each.partition == 0
    ]
    assert min(kept) > 0
    async with pipeline_running(trained, broker) as workers:
        await publish(broker, trained.pipeline, simulated(trained.pipeline, 200, seed=8), 2000)
        await decided(broker, trained.pipeline, 400)
        await workers.topics.look()
        await workers.topics.look()
