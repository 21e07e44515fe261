"""Models that cannot be used, and dead letters that cannot be written."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from models.simulators import LabelledEvent
from tests.faults.conftest import EVENTS, Judge
from tests.faults.scene import streaming
from tests.faults.test_load import COMPONENTS, amounts, pipeline_with
from tests.faults.test_workers import EVERYTHING, RATE
from tests.faults.verdict import Reference, check_commits
from tests.integration.harness import Trained, decisions_of, publish_raw
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

Damage = Callable[[Path], object]


def truncated(model: Path) -> None:
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])


def of_another_digest(model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)


def of_another_component(model: Path) -> None:
    pipeline = model.parents[1]
    card = (pipeline / "features" / "1" / "card.json").read_bytes()
    (pipeline / "decision" / "1" / "card.json").write_bytes(card)


@pytest.mark.parametrize(
    "damage", [Path.unlink, truncated, of_another_digest, of_another_component],
    ids=["missing", "truncated", "of another digest", "the card of another component"],
)  # fmt: skip
async def test_model_that_cannot_be_used(
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference, damage: Damage,
) -> None:  # fmt: skip
    version = pipeline.registry.get(pipeline.pipeline.name, "decision", 1)
    model = Path(version.location)
    card = model.parents[1] / "decision" / "1" / "card.json"
    kept = {path: path.read_bytes() for path in (model, card)}
    others = tuple(name for name in EVERYTHING if name != "decision")
    async with streaming(pipeline, kafka, events, rate=4 * RATE) as scene:
        scene.workers(*others)
        damage(model)
        refused = scene.workers("decision")
        assert await refused.ended(30) == 1
        assert refused.said is not None
        text = refused.said.read_text().strip()
        assert text.startswith("error: ")
        assert len(text.splitlines()) == 1
        assert "decision" in text
        for path, content in kept.items():
            path.write_bytes(content)
        refused.start()
        await scene.ended(EVENTS)
    await judge(scene, reference)


async def test_model_that_returns_nan(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge
) -> None:
    trained = pipeline_with(tmp_path, "NotANumber")
    async with streaming(trained, kafka, events, rate=4 * RATE) as scene:
        scene.workers(*COMPONENTS)
        await scene.ended(EVENTS)
    scene.may_degrade = True
    alone = {row: {"amount": said["amount"]} for row, said in amounts(events).items()}
    await judge(scene, alone)
    decisions = await decisions_of(kafka, trained.pipeline)
    assert all(decision["missing"] == ["second"] for decision in decisions)


async def test_dead_letter_topic_that_cannot_be_written(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge
) -> None:
    trained = pipeline_with(tmp_path, "Slow", flag="/nowhere", us_per_row=0)
    topology = Topology.of(trained.pipeline)
    async with streaming(trained, kafka, events, rate=RATE) as scene:
        workers = scene.workers(*COMPONENTS)
        await scene.ended(EVENTS // 16)
        await configured(kafka, topology.dead_letters, {"max.message.bytes": "10"})
        bad = [Record(b"k", b"no event", int(time.time() * 1000))] * 3
        await publish_raw(kafka, topology.events, 1, bad)
        assert await workers.ended(60) == 1
        await check_commits(trained, kafka, COMPONENTS)
        await configured(kafka, topology.dead_letters, {"max.message.bytes": "16777216"})
        workers.start()
        await scene.recovered()
        await scene.ended(EVENTS + len(bad))
    scene.invalid = len(bad)
    await judge(scene, amounts(events))


async def configured(broker: BrokerSettings, topic: str, configs: dict[str, str]) -> None:
    """Change what a topic is set to."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
    finally:
        await admin.close()
