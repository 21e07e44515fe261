"""A changed pipeline takes the place of another one under load, and gives it back."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.broker.pipeline_topics import ensure_topics
from tests.integration.harness import Trained, renamed, settled, simulated, written
from tests.rollout_scene import Ledger, Producer, Scene, plain_producer, topic_of
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

HISTORY, MOST = 1500, 60_000
RATE = 120.0
"""Events a second of each of two producers."""


def changed(trained: Trained, home: Path) -> Trained:
    """The pipeline by another name, with six partitions and another threshold."""
    home.mkdir()
    own = renamed(trained, home, partitions=6)
    content = yaml.safe_load(own.file.path.read_text())
    content["policy"] = {"version": 2, "otherwise": "approve", "thresholds": {"review": 0.01}}
    content.pop("explain")  # it has words for decisions that are no more
    own.file.path.write_text(yaml.safe_dump(content, sort_keys=False))
    return Trained(own.home, load_pipeline(own.file.path), own.registry)


async def test_every_event_is_counted_once_through_a_switch_and_back_under_load(
    kafka: BrokerSettings, trained: Trained, tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    before, after = renamed(trained, tmp_path / "before"), changed(trained, tmp_path / "after")
    for own in (before, after):
        await ensure_topics(kafka, Topology.of(own.pipeline))
    events = iter(simulated(before.pipeline, MOST))
    with ExitStack() as stack:
        scene = Scene(before, after, kafka, tmp_path, stack)
        scene.start(before)
        ledger = stack.enter_context(scene.consuming())
        async with AsyncExitStack() as load:
            client = await load.enter_async_context(plain_producer(kafka))
            first, second = (Producer(client, topic_of(before), events) for _ in range(2))
            await first.send(HISTORY, 1000)
            for producer in (first, second):
                await load.enter_async_context(producer.sending(RATE))
            scene.start(after)
            with scene.copying():  # killed while it fills
                await written(kafka, topic_of(after), HISTORY // 3)
            stack.enter_context(scene.copying())
            filled = await scene.compared(HISTORY // 2)
            assert filled["score_difference"]["largest_absolute"] == 0, filled
            await there_and_back(scene, ledger, first, second)
        sent = first.sent + second.sent
        await ledger.has(len(sent))
        audits = [await settled_copies(kafka, own, len(sent)) for own in (before, after)]
        await asyncio.sleep(3)  # for what should not come
        rows = ledger.rows()
        compared = await scene.compared(len(sent))

    counted = Counter(event_id for event_id, *_ in rows)
    assert [event for event, times in counted.items() if times > 1] == [], "decided twice"
    assert set(counted) == set(sent), "lost"
    by = Counter((pipeline, topic) for _, pipeline, topic, _ in rows)
    names = [own.pipeline.name for own in (before, after)]
    assert set(by) == {(name, topic_of(own)) for name in names for own in (before, after)}
    for audit in audits:
        assert (audit.lost, audit.duplicated, audit.dead) == (0, 0, 0)
    assert compared["compared"] == len(sent)
    assert compared["not_decided_by_both"] == 0
    assert {each["to"] for each in compared["changed"]} <= {"review", "approve"}
    assert compared["changed"], "another threshold decides otherwise"


async def there_and_back(scene: Scene, ledger: Ledger, first: Producer, second: Producer) -> None:
    """Switch and go back; after each, one producer moves, and then the other."""
    before, after = scene.before, scene.after
    await turned(scene, "switch", after)
    assert "is in service already" in await scene.run("switch", code=1)
    await goes_on(ledger, first, second)
    first.topic = topic_of(after)
    ledger.end()  # killed wherever it is, and started again by `has`
    await goes_on(ledger, first, second)
    second.topic = topic_of(after)
    await goes_on(ledger, first, second)
    await turned(scene, "back", before)
    await goes_on(ledger, first, second)
    second.topic = topic_of(before)
    await goes_on(ledger, first, second)
    first.topic = topic_of(before)
    await goes_on(ledger, first, second)


async def turned(scene: Scene, name: str, target: Trained) -> None:
    turn = await scene.turn(name)
    assert turn["in_service"] == target.pipeline.name
    assert {topic: len(offsets) for topic, offsets in turn["since"].items()} == {
        topic_of(scene.before): 4, topic_of(scene.after): 6,
    }  # fmt: skip


async def goes_on(ledger: Ledger, *producers: Producer) -> None:
    """Some 400 events more are published, and as many counted."""
    before = sum(len(producer.sent) for producer in producers)
    while sum(len(producer.sent) for producer in producers) < before + 400:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    await ledger.has(before)


async def settled_copies(kafka: BrokerSettings, own: Trained, events: int) -> Any:
    """The audit's totals of a pipeline, which has every event, its own or a copy, by now."""
    return (await settled(kafka, own.pipeline, events)).total


pytestmark = pytest.mark.timeout(580)
