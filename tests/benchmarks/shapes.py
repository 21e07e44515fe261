"""Pipelines whose components are measured, their topics and their events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Event as Flag
from typing import Any

import yaml
from aiokafka import AIOKafkaConsumer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from agents.broker.pipeline_topics import ensure_topics
from tests.benchmarks import broker, peer_commands
from tests.benchmarks.card_events import CardEvents
from tests.benchmarks.load import Event
from tests.benchmarks.model_files import PIPELINE, ModelFiles
from tests.benchmarks.pacing import publish_paced
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

SHAPES = ("w1", "windowed", "keyed")
PARTITIONS = 4


def shaped(shape: str, name: str, files: ModelFiles, folder: Path) -> tuple[Path, list[str]]:
    """The pipeline file of *shape* in *folder*, and its components."""
    if shape == "w1":
        return peer_commands.renamed(files, name, folder), ["features", "risk", "decision", "weigh"]
    content: dict[str, Any] = yaml.safe_load(PIPELINE.read_text())
    content |= {"pipeline": name}
    content["event"] |= {"key": "customer_id"}
    over = ["1d", "7d", "30d"]
    past: dict[str, Any] = {"name": "past", "kind": "extract_features", "from": ["events"]}
    plain = {"name": "amount", "of": "amount"}
    past["features"] = [
        *([plain] if shape == "windowed" else []),
        {"name": "count", "apply": "count", "over": over},
        {"name": "mean", "apply": "mean", "of": "amount", "over": over},
    ]
    if shape == "keyed":
        past["key"] = "terminal_id"
    cheap = {"name": "cheap", "import": "tests.benchmarks.cheap:Cheap", "from": ["past"]}
    content["components"] = [past, cheap]
    content["weighting"] |= {"from": ["cheap"], "weights": {"cheap": 1.0}}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path, ["past", "cheap", "weigh"]


def stream(shape: str, count: int) -> list[Event]:
    """The events; with a past they are keyed by customer."""
    events = list(islice(CardEvents().events(), count))
    if shape == "w1":
        return events
    return [replace(event, key=json.loads(event.value)["customer_id"].encode()) for event in events]


async def make_topics(path: Path, running: broker.Broker) -> None:
    """The topics of the pipeline in *path*; decisions have the broker's times."""
    topology = Topology.of(load_pipeline(path).pipeline)
    await ensure_topics(BrokerSettings(broker=running.address), topology)
    async with broker.admin(running) as client:
        await client.alter_configs([
            ConfigResource(ConfigResourceType.TOPIC, topology.decisions, configs=broker.STAMPED)
        ])  # fmt: skip


async def publish_at(
    running: broker.Broker, name: str, events: Sequence[Event], rate: float, start_s: float
) -> None:
    """Publish *events* to pipeline *name*, so many a second from *start_s* on."""
    stop = Flag()
    try:
        topic = f"{name}.events"
        await asyncio.to_thread(publish_paced, running, topic, events, rate, start_s, stop)
    finally:
        stop.set()


async def end_offsets(running: broker.Broker, topics: Sequence[str]) -> dict[str, int]:
    """Topic without its prefix → records so far."""
    consumer = AIOKafkaConsumer(bootstrap_servers=running.address)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
        found: dict[str, int] = {}
        for tp, end in (await consumer.end_offsets(tps)).items():
            name = tp.topic.split(".", 1)[1]
            found[name] = found.get(name, 0) + end
        return found
    finally:
        await consumer.stop()
