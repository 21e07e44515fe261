"""Decisions explained on Apache Kafka: found by time, by the model of two that has decided."""

from __future__ import annotations

from typing import Any

import pytest

from agents.commands import labelled_events
from agents.components.catalogue import open_component
from agents.explanations import (
    DecisionArchive,
    DecisionExplainer,
    Explanation,
    RecordedEvent,
    RegistryVersions,
)
from agents.explanations.errors import OutputGone
from agents.workers.topic_tail import TailReader
from models.training.train import train
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    settled,
    simulated,
)
from tests.kafka.test_hot_swap import FOREST, models
from tests.kafka.topics_changed import delete_records
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

EVENTS = 1500
EXPLAINED = 40


async def test_an_event_that_a_canary_decided_is_explained_by_the_canary(
    own: Trained, trained: Trained, broker: BrokerSettings
) -> None:
    rows = labelled_events.simulated(trained.pipeline, rows=20_000, seed=5)
    train(
        own.pipeline, own.home, rows, own.registry, open_component=open_component, seed=9,
        only=[FOREST],
    )  # fmt: skip
    file, topology = str(own.file.path), Topology.of(own.pipeline)
    await publish(broker, own.pipeline, [], 1000)
    models(own, broker, "promote", f"{file}/{FOREST}@1", "--wait", "0")
    models(own, broker, "canary", f"{file}/{FOREST}@2", "--share", "50%", "--wait", "0")
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, simulated(own.pipeline, EVENTS), 1000)
        await settled(broker, own.pipeline, EVENTS)
    decisions: list[Any] = await decisions_of(broker, own.pipeline)
    tail = TailReader(broker)
    await tail.start()
    try:
        archive = DecisionArchive(tail, topology)
        explainer = DecisionExplainer(own.pipeline, RegistryVersions(own.file, own.registry))

        async def explained(decision: Any) -> Explanation:
            source = decision["source"]
            place = f"{source['topic']}/{source['partition']}/{source['offset']}"
            recorded = await archive.find(place)
            outputs = await archive.outputs(recorded, explainer.wanted(recorded.decision))
            return explainer.explained(RecordedEvent(recorded.decision, outputs))

        digests = set()
        for decision in decisions[-EXPLAINED:]:
            said = await explained(decision)
            total = said.base + sum(each.value for each in said.groups)
            assert total == pytest.approx(decision["score"], abs=1e-6)
            assert said.models[FOREST] == decision["contributions"][FOREST]["digest"]
            digests.add(said.models[FOREST])
        assert len(digests) == 2

        last = decisions[-1]
        await delete_records(broker, topology.stage("features"), last["source"]["partition"])
        with pytest.raises(OutputGone, match=r"features no longer has what features said"):
            await explained(last)
    finally:
        await tail.stop()
