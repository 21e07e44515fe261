"""Windowed features on a broker: what is streamed is what the same code says of all rows."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import pytest

from agents.broker.pipeline_topics import ensure_topics
from agents.publish import publisher as publishing
from agents.publish.outcome_publisher import OutcomePublisher
from models.simulators import LabelledEvent
from models.simulators.card_fraud import simulate
from tests.integration.harness import (
    Trained,
    decided,
    pipeline_running,
    settled,
    stopped,
    trained_small,
    worker_process,
)
from tests.integration.skew import check_no_skew
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

STATEFUL = ("features", "terminals", "visits")
EVENTS = 3500  # about a month of 60 customers: outcomes are known, and windows reach back
CHUNK = 50


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Card fraud with terminals: windows by the partition key, and by another."""
    home = tmp_path_factory.mktemp("terminals")
    return trained_small("card-fraud", home, rows=60_000, trees=5, edit=with_visits)


def with_visits(content: Any) -> None:
    """Add a component that is repartitioned too, but needs no outcomes."""
    visits = {"name": "visits", "apply": "count", "over": ["1d", "7d"]}
    component = {"name": "visits", "kind": "extract_features", "from": ["events"],
                 "key": "terminal_id", "features": [visits]}  # fmt: skip
    content["components"].insert(2, component)
    content["components"][3]["from"].append("visits")


def transactions() -> list[LabelledEvent]:
    return list(islice(simulate(3, customers=60, terminals=80, radius=30.0), EVENTS))


async def publish_with_outcomes(
    broker: BrokerSettings, pipeline: Pipeline,
    labelled: Sequence[tuple[Mapping[str, object], bool | None]], rate: float, start: int = 0,
    most: int = CHUNK,
) -> None:  # fmt: skip
    """Publish in chunks of *most*: each is a record in every lane; small brokers give one of them.

    Those before *start* are not published, but their outcomes are.
    """
    topology, outcomes = Topology.of(pipeline), OutcomePublisher(pipeline)
    await ensure_topics(broker, topology)
    events = outcomes.following(labelled)
    deque(islice(events, start), maxlen=0)
    async with publishing.producer(broker) as kafka:
        while chunk := list(islice(events, most)):
            await outcomes.publish_known(kafka)
            await publishing.publish_chunk(kafka, topology.events, topology.partitions, chunk)
            await asyncio.sleep(most / rate)


async def test_streamed_windows_are_those_of_training_to_the_bit(
    trained: Trained, broker: BrokerSettings
) -> None:
    labelled = transactions()
    async with pipeline_running(trained, broker):
        await publish_with_outcomes(broker, trained.pipeline, labelled, 3000)
        audit = await settled(broker, trained.pipeline, EVENTS)
    assert audit.passed
    await check_no_skew(trained, broker, labelled)


@pytest.mark.faults
async def test_windows_survive_workers_that_come_and_go_to_the_bit(
    trained: Trained, broker: BrokerSettings
) -> None:
    labelled = transactions()
    pipeline = trained.pipeline
    publishing = asyncio.create_task(publish_with_outcomes(broker, pipeline, labelled, 250))
    others = worker_process(trained, broker, "risk-linear", "risk-forest", "decision", "weigh")
    with others, worker_process(trained, broker, *STATEFUL) as first:
        await decided(broker, pipeline, EVENTS // 4)
        with worker_process(trained, broker, *STATEFUL):
            await decided(broker, pipeline, EVENTS // 2)
            await asyncio.to_thread(stopped, first, signal.SIGTERM)
            await publishing
            audit = await settled(broker, pipeline, EVENTS)
    assert audit.passed
    await check_no_skew(trained, broker, labelled)


@pytest.mark.faults
async def test_windows_survive_a_killed_worker_to_the_bit(
    trained: Trained, broker: BrokerSettings
) -> None:
    labelled = transactions()
    pipeline = trained.pipeline
    publishing = asyncio.create_task(publish_with_outcomes(broker, pipeline, labelled, 250))
    with worker_process(trained, broker, "risk-linear", "risk-forest", "decision", "weigh"):
        with worker_process(trained, broker, *STATEFUL) as first:
            await decided(broker, pipeline, EVENTS // 2)
            await asyncio.to_thread(stopped, first, signal.SIGKILL)
        with worker_process(trained, broker, *STATEFUL):
            await publishing
            audit = await settled(broker, pipeline, EVENTS)
    assert audit.passed
    await check_no_skew(trained, broker, labelled)
