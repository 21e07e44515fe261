"""Reading to an end, and on from there: no record is passed over."""

from __future__ import annotations

import time

from agents.broker.log_follower import follower, read_until
from agents.broker.pipeline_topics import ensure_topics
from tests.integration.harness import Trained, publish_raw
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings


async def test_what_was_fetched_beyond_the_end_comes_again(
    trained: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(trained.pipeline)
    await ensure_topics(broker, topology)
    now_ms = int(time.time() * 1000)
    await publish_raw(
        broker, topology.events, 1, [Record(b"", b"%d" % n, now_ms) for n in range(9)]
    )
    async with follower(broker, (topology.events,), 4, from_start=True) as consumer:
        (tp,) = (tp for tp in consumer.assignment() if tp.partition == 1)
        read: list[bytes | None] = []
        for end in (3, 3, 4, 9):
            async for _, records in read_until(consumer, {tp: end}):
                read += [record.value for record in records]
            assert len(read) == await consumer.position(tp) == end
    assert read == [b"%d" % n for n in range(9)]
