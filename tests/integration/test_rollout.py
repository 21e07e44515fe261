"""A rollout, command by command, on the embedded broker; under load it is tried on Apache Kafka."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agents.broker.pipeline_topics import ensure_topics
from models.registry.registry import Registry
from tests.integration.harness import Trained, simulated
from tests.integration.velocity import EVENT
from tests.rollout_scene import Producer, Scene, plain_producer, topic_of
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

PIPELINE = """
pipeline: {name}
{event}components:
  - name: large
    import: tests.integration.velocity:LargeAmount
    options: {{limit: {limit}}}
    from: [events]
weighting:
  from: [large]
  weights: {{large: 1}}
policy: {{thresholds: {{decline: 0.5}}}}
"""
EVENTS = 200


def pipeline(home: Path, name: str, limit: int) -> Trained:
    path = home / f"{name}.yaml"
    path.write_text(PIPELINE.format(event=EVENT, name=name, limit=limit))
    return Trained(home, load_pipeline(path), Registry(home / "registry"))


@pytest.fixture
def own(tmp_path: Path) -> tuple[Trained, Trained]:
    """A pipeline, and a changed one: what is large is less there."""
    return pipeline(tmp_path, "before", 500), pipeline(tmp_path, "after", 100)


async def test_a_changed_pipeline_is_filled_compared_switched_to_and_left_again(
    own: tuple[Trained, Trained], broker: BrokerSettings, tmp_path: Path
) -> None:
    before, after = own
    for each in own:
        await ensure_topics(broker, Topology.of(each.pipeline))
    events = iter(simulated(before.pipeline, 10 * EVENTS))
    with ExitStack() as stack:
        scene = Scene(before, after, broker, tmp_path, stack)
        for each in own:
            scene.start(each)
        async with plain_producer(broker) as client:
            producer = Producer(client, topic_of(before), events)
            await producer.send(EVENTS, 1000)
            said = await scene.run("switch", code=1)
            assert "nobody copies" in said
            assert (await scene.run("copy", "--once"))["copied"] == EVENTS
            assert (await scene.run("copy", "--once"))["copied"] == 0
            stack.enter_context(scene.copying())
            check(await scene.compared(EVENTS), EVENTS)
            ledger = stack.enter_context(scene.consuming())
            await ledger.has(EVENTS)
            async with scene.asked("switch") as process:
                process.kill()
                await process.wait()
            assert "still run after" in await scene.run("switch", "--wait", "0", code=1)
            await scene.turn("switch")
            await producer.send(EVENTS, 1000)  # still to the topic of before
            producer.topic = topic_of(after)
            await producer.send(EVENTS, 1000)
            await ledger.has(3 * EVENTS)
            await scene.turn("back")
            await producer.send(EVENTS, 1000)
            await ledger.has(4 * EVENTS)
            assert "is in service already" in await scene.run("back", code=1)
        rows = ledger.rows()
        check(await scene.compared(4 * EVENTS), 4 * EVENTS)
    assert {event_id: (pipeline, topic) for event_id, pipeline, topic, _ in rows} == {
        event_id: [
            ("before", topic_of(before)), ("after", topic_of(before)),
            ("after", topic_of(after)), ("before", topic_of(after)),
        ][number // EVENTS]
        for number, event_id in enumerate(producer.sent)
    }  # fmt: skip
    assert len(rows) == 4 * EVENTS


def check(compared: dict[str, Any], events: int) -> None:
    """What is large is five times less in the changed pipeline: more are declined."""
    assert (compared["compared"], compared["not_decided_by_both"]) == (events, 0)
    assert {(each["from"], each["to"]) for each in compared["changed"]} == {("approve", "decline")}
    assert compared["score_difference"]["mean"] == compared["score_difference"]["mean_absolute"] > 0
