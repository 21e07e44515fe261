"""Stage batches of two models: the challenger's must never be in the champion's way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.components.active_component import ActiveComponent
from agents.components.catalogue import OpenComponent
from agents.components.challenger import ActiveChallenger
from agents.stages.stage_writer import StageWriter
from agents.workers.metrics import Metrics
from agents.workers.stage_metrics import StageMetrics
from agents.workers.wiring import Wiring
from models.component import Batch, Component, StageOutput
from tests.unit.stage_batches import rows_of
from topics.errors import LeaseLost, NotAuthorized
from topics.kafka.batches import Record
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.records.stage_batch import ModelRef
from topics.settings import BrokerSettings

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
NAME = "risk-forest"
SHADOW = f"{PIPELINE.name}.shadow.{NAME}"


class Half(Component):
    """Says 0.5 of every row."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.full(batch.rows, 0.5, np.float32))


@dataclass
class Broker:
    """Takes what is written, but nothing on topics that fail."""

    failing: dict[str, Exception]
    written: list[str] = field(default_factory=list)

    async def write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        if topic in self.failing:
            raise self.failing[topic]
        self.written.append(topic)


def challenged(broker: Broker) -> tuple[StageWriter, ActiveComponent, Metrics]:
    metrics = Metrics()
    app: Any = SimpleNamespace(writer=broker)
    wiring = Wiring(PIPELINE, app, BrokerSettings(), StageMetrics(metrics, PIPELINE.name, NAME))
    ours, theirs = (
        OpenComponent(Half(), ModelRef(f"{NAME}@{version}", f"sha256:{version}", "fp32"))
        for version in (1, 2)
    )
    slot = ActiveComponent(ours, ActiveChallenger(theirs, 0.0))
    return StageWriter(wiring, NAME, slot), slot, metrics


async def written(writer: StageWriter) -> None:
    rows = rows_of(range(3))
    made = await writer.transform(Batch(rows=3), np.arange(3), 3)
    await writer.write([writer.batch(0, 0, rows, made, {})])


async def test_what_a_challenger_says_goes_to_its_own_topic() -> None:
    broker = Broker({})
    writer, _, _ = challenged(broker)
    await written(writer)
    assert broker.written == [f"{PIPELINE.name}.{NAME}", SHADOW]


async def test_a_shadow_topic_that_cannot_be_written_ends_the_challenge_and_no_worker() -> None:
    broker = Broker({SHADOW: NotAuthorized(SHADOW, "to be written by us")})
    writer, slot, metrics = challenged(broker)
    await written(writer)
    assert broker.written == [f"{PIPELINE.name}.{NAME}"]
    assert slot.challenger is None
    labels = {"pipeline": PIPELINE.name, "component": NAME, "result": "refused"}
    assert metrics.registry.get_sample_value("anabranch_swaps_total", labels) == 1
    await written(writer)
    assert broker.written == [f"{PIPELINE.name}.{NAME}"] * 2


async def test_a_lease_that_is_lost_while_a_shadow_is_written_still_ends_the_worker() -> None:
    broker = Broker({SHADOW: LeaseLost("group", 31)})
    with pytest.raises(LeaseLost):
        await written(challenged(broker)[0])
