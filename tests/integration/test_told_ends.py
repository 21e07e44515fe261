"""What is dealt out by another key tells where its sources end: nobody has to ask the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.broker.log_follower import follower
from agents.stages import keyed_stage
from tests.integration.harness import (
    Trained,
    decided,
    pipeline_running,
    publish,
    records_of,
    renamed,
    settled,
    simulated,
    trained_small,
)
from topics.pipeline.topology import Topology
from topics.records.ends_header import Ends, ends_of
from topics.settings import BrokerSettings

EVENTS = 60


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_small("card-fraud", tmp_path_factory.mktemp("told"), rows=20_000, trees=5)


async def test_rows_are_decided_by_ends_that_are_told_alone(
    small: Trained, broker: BrokerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In service a lane asks after 0.1 s all the same, as in all other tests: not in this one.
    monkeypatch.setattr(keyed_stage, "_TOLD_WITHIN_S", 3600.0)
    own = renamed(small, tmp_path)
    topology, events = Topology.of(own.pipeline), simulated(own.pipeline, EVENTS)
    async with pipeline_running(own, broker):
        for number in range(3):  # each time to the last one, also those of few sources
            await publish(broker, own.pipeline, events[number * 20 : number * 20 + 20], 200)
            await decided(broker, own.pipeline, number * 20 + 20)
        audit = await settled(broker, own.pipeline, EVENTS)
    assert (audit.total.lost, audit.total.duplicated) == (0, 0)
    sources = topology.sources_of("terminals")
    async with follower(broker, sources, 4, from_start=False) as consumer:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
    last: dict[int, Ends | None] = {}
    for record in await records_of(broker, topology.keyed("terminals")):
        told = ends_of(dict(record.headers), 4)
        last[record.partition] = told or last.get(record.partition)
    expected = tuple({tp.partition: end for tp, end in ends.items() if tp.topic == topic}
                     for topic in (topology.events, topology.outcomes))  # fmt: skip
    assert last == dict.fromkeys(range(4), expected), "as a plain consumer has them"
