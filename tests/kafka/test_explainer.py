"""Explainers on Apache Kafka: killed, joined by another, each decision is explained once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from agents.broker.pipeline_topics import check_topics, ensure_topics
from agents.process.runner import run_workers
from agents.service.open_pipeline import open_pipeline
from agents.workers.metrics import Metrics
from tests.integration.harness import (
    EVERYTHING,
    PATIENCE_S,
    Trained,
    decided,
    explaining,
    publish,
    settled,
    simulated,
    stopped,
    worker_process,
    written,
)
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

EVENTS, RATE = 6000, 1000


def read(broker: BrokerSettings, topic: str) -> list[Any]:
    """All records of *topic* that are committed, by a consumer that knows nothing of us."""
    consumer = Consumer({
        "bootstrap.servers": broker.broker, "group.id": "plain", "enable.auto.commit": False,
        "isolation.level": "read_committed",
    })  # fmt: skip
    tps = [TopicPartition(topic, partition, 0) for partition in range(4)]
    consumer.assign(tps)
    ends = [consumer.get_watermark_offsets(tp, timeout=30)[1] for tp in tps]
    values: list[Any] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(values) < sum(ends) and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            values.append(json.loads(message.value() or b""))
    consumer.close()
    return values


def place(record: Any) -> tuple[int, int]:
    return record["source"]["partition"], record["source"]["offset"]


def check(explanations: list[Any], decisions: list[Any]) -> None:
    """By coordinates: each decision of `when` has one explanation, which sums to its score."""
    scores = {place(each): each["score"] for each in decisions}
    assert Counter(map(place, explanations)) == Counter(dict.fromkeys(scores, 1))
    for each in explanations:
        total = each["base"] + sum(group["value"] for group in each["groups"])
        assert total == pytest.approx(scores[place(each)], abs=1e-6)


async def test_without_their_topic_workers_decide_and_an_explainer_says_what_to_do(
    own: Trained, broker: BrokerSettings
) -> None:
    before = own.pipeline
    await ensure_topics(broker, Topology.of(before))
    own = explaining(own, when=["decline"])
    topology = Topology.of(own.pipeline)
    await check_topics(broker, topology)
    async with run_workers(open_pipeline(own.file, own.registry), broker, Metrics()):
        await publish(broker, before, simulated(before, 50), RATE)
        await settled(broker, before, 50)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "agents", "run", str(own.file.path), "--component", "explainer"],
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": broker.broker},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"topic {topology.explanations} is missing" in done.stderr


async def test_explainers_that_are_killed_and_joined_explain_each_decision_once(
    own: Trained, broker: BrokerSettings
) -> None:
    own = explaining(own, when=["decline", "review", "approve"])
    topology = Topology.of(own.pipeline)
    await ensure_topics(broker, topology)
    published = asyncio.create_task(
        publish(broker, own.pipeline, simulated(own.pipeline, EVENTS), RATE)
    )
    with ExitStack() as stack:
        stack.enter_context(worker_process(own, broker, *EVERYTHING))
        with worker_process(own, broker, "explainer") as first:
            await written(broker, topology.explanations, EVENTS // 20)
            assert await asyncio.to_thread(stopped, first, signal.SIGKILL) == -signal.SIGKILL
        stack.enter_context(worker_process(own, broker, "explainer"))
        await written(broker, topology.explanations, EVENTS // 10)
        with worker_process(own, broker, "explainer") as another:  # and shares the partitions
            await decided(broker, own.pipeline, EVENTS // 2)
            await asyncio.to_thread(stopped, another, signal.SIGKILL)
        await published
        await settled(broker, own.pipeline, EVENTS)
        await written(broker, topology.explanations, EVENTS)
    decisions = await asyncio.to_thread(read, broker, topology.decisions)
    assert len(decisions) == EVENTS
    check(await asyncio.to_thread(read, broker, topology.explanations), decisions)
