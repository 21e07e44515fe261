"""Versions go into service, beside the champion and back, at 5,000 events a second on Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import islice
from typing import Any

from agents.commands import labelled_events
from agents.components.catalogue import open_component
from agents.control.control_topic import ControlTopic
from agents.publish import publisher as publishing
from models.simulators import SIMULATORS
from models.training.train import train
from tests.integration.harness import (
    EVERYTHING,
    Trained,
    decided,
    decisions_of,
    publish,
    settled,
    simulated,
    worker_process,
)
from topics.pipeline.topology import Topology
from topics.records.control import Challenger, Deployment, VersionRef, deploy_key
from topics.settings import BrokerSettings

RATE = 5000
FOREST = "risk-forest"
STEPS = (
    ("promote", "@2"), ("rollback", ""), ("shadow", "@2"), ("canary", "@2", "--share", "20%"),
    ("shadow", "", "--stop"), ("promote", "@2"),
)  # fmt: skip


def models(own: Trained, broker: BrokerSettings, *words: str) -> Any:
    """`anabranch models …` as somebody would type it; what it says as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "agents", "models", *words, "--json"],
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": broker.broker},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def flowing(own: Trained, broker: BrokerSettings, ending: asyncio.Event) -> int:
    """Publish at RATE until it is to end; how many events that were."""
    key, count = own.pipeline.event.key, 0
    events = (publishing.encoded(each.event, key) for each in SIMULATORS["card-fraud"](7))
    while not ending.is_set():
        await publish(broker, own.pipeline, list(islice(events, RATE)), RATE)
        count += RATE
    return count


async def test_swaps_shadows_and_rollbacks_under_load_lose_and_repeat_nothing(
    own: Trained, trained: Trained, broker: BrokerSettings
) -> None:
    file = str(own.file.path)
    rows = labelled_events.simulated(trained.pipeline, rows=20_000, seed=5)
    train(
        own.pipeline, own.home, rows, own.registry, open_component=open_component, seed=9,
        only=[FOREST],
    )  # fmt: skip
    await publish(broker, own.pipeline, [], RATE)
    models(own, broker, "promote", f"{file}/{FOREST}@1", "--wait", "0")
    others = [name for name in EVERYTHING if name != FOREST]
    with (
        worker_process(own, broker, *others),
        worker_process(own, broker, FOREST),
        worker_process(own, broker, FOREST),
    ):
        ending = asyncio.Event()
        published = asyncio.create_task(flowing(own, broker, ending))
        await decided(broker, own.pipeline, RATE)
        for step, version, *more in STEPS:
            target = f"{file}/{FOREST}{version}"
            await asyncio.to_thread(models, own, broker, step, target, *more)
            await asyncio.sleep(1)
        ending.set()
        events = await published
        audit = await settled(broker, own.pipeline, events)
    assert (audit.total.lost, audit.total.duplicated, audit.total.decided) == (0, 0, events)
    decisions: list[dict[str, Any]] = await decisions_of(broker, own.pipeline)
    versions = Counter(decision["contributions"][FOREST]["model"] for decision in decisions)
    assert set(versions) == {f"{FOREST}@1", f"{FOREST}@2"}
    last: dict[int, tuple[int, str]] = defaultdict(lambda: (-1, ""))
    for decision in decisions:
        source = decision["source"]
        model = decision["contributions"][FOREST]["model"]
        last[source["partition"]] = max(last[source["partition"]], (source["offset"], model))
    assert {model for _, model in last.values()} == {f"{FOREST}@2"}
    told = await asyncio.to_thread(models, own, broker, "log", file)
    assert [entry["action"] for entry in told["audit"]] == [
        "promote", "promote", "rollback", "shadow", "canary", "end-challenge", "promote",
    ]  # fmt: skip


async def test_a_challenger_without_its_topic_is_refused_at_once_and_events_are_decided(
    own: Trained, broker: BrokerSettings
) -> None:
    pipeline, topology = own.pipeline, Topology.of(own.pipeline)
    await publish(broker, pipeline, simulated(pipeline, 500), RATE)
    first = own.registry.get(pipeline.name, FOREST, 1)
    added = own.registry.add(pipeline.name, FOREST, first.read(), first.card, first.probe())
    async with ControlTopic(broker, topology) as control:
        wanted = Deployment(
            champion=VersionRef(version=1, digest=first.digest),
            challenger=Challenger(version=added.version, digest=added.digest, share=0.5),
        )
        await control.write({deploy_key(FOREST): wanted})
        control.listen()
        with worker_process(own, broker):
            audit = await settled(broker, pipeline, 500)
            while not control.reports.workers:
                await control.more()
    assert audit.total.decided == 500
    (report,) = control.reports.workers.values()
    assert report.state == "refused"
    assert topology.shadow(FOREST) in report.reason
    decisions: list[dict[str, Any]] = await decisions_of(broker, pipeline)
    assert {decision["contributions"][FOREST]["model"] for decision in decisions} == {f"{FOREST}@1"}


def test_a_pipeline_that_has_no_topics_yet_is_one_clear_message(
    own: Trained, broker: BrokerSettings
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agents", "models", "log", str(own.file.path)],
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": broker.broker},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "anabranch topics PIPELINE --create" in done.stderr
    assert "Traceback" not in done.stderr
