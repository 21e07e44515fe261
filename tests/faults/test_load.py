"""Stages that are slow or hang, bursts, and workers that should not be in one group."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import pytest

from agents.commands import labelled_events
from agents.components.catalogue import open_component
from agents.process.liveness import STUCK_EXIT_CODE
from models.registry.registry import Registry
from models.simulators import LabelledEvent
from models.training.train import train
from tests.faults.conftest import EVENTS, Judge
from tests.faults.scene import Workers, streaming
from tests.faults.test_workers import EVERYTHING, RATE
from tests.faults.verdict import Reference, check_commits
from tests.integration.harness import Trained, decisions_of
from tests.integration.velocity import EVENT
from topics.pipeline.file import load_pipeline
from topics.settings import BrokerSettings

PIPELINE = """
pipeline: load-{number}
{event}components:
  - {{name: amount, import: tests.faults.components:Amount, from: [events]}}
  - name: second
    import: tests.faults.components:{kind}
    options: {options}
    from: [amount]
weighting:
  from: [amount, second]
  weights: {{amount: 0.5, second: 0.5}}
  max_in_flight: 1000  # so few that a join that held more would be seen among 8,000 events
policy: {{thresholds: {{decline: 0.5}}}}
"""
COMPONENTS = ("amount", "second", "weigh")
_numbers = count(1)


def pipeline_with(home: Path, kind: str, **options: object) -> Trained:
    """A pipeline whose second component is *kind*; it needs no models."""
    path = home / "load.yaml"
    text = PIPELINE.format(number=next(_numbers), event=EVENT.lstrip(), kind=kind, options=options)
    path.write_text(text)
    return Trained(home, load_pipeline(path), Registry(home / "registry"))


def amounts(events: list[LabelledEvent]) -> Reference:
    """What both stages of `PIPELINE` must say."""
    found: dict[str, Mapping[str, float]] = {}
    for labelled in events:
        share = float(np.float32(np.clip(float(str(labelled.event["amount"])) / 1000, 0, 1)))
        found[str(labelled.event["transaction_id"])] = {"amount": share, "second": share}
    return found


def memory_mb(workers: Workers) -> float:
    """Resident memory of the process."""
    assert workers.process is not None
    return float(psutil.Process(workers.process.pid).memory_info().rss) / 2**20


async def test_stage_ten_times_slower(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge
) -> None:
    flag = tmp_path / "slow"
    trained = pipeline_with(tmp_path, "Slow", flag=str(flag), us_per_row=3000)
    async with streaming(trained, kafka, events, rate=RATE) as scene:
        workers = scene.workers(*COMPONENTS)
        await scene.ended(EVENTS // 16)
        before = memory_mb(workers)
        flag.touch()  # 30 ms a row: 133 rows/s in four threads, where 250 come
        await asyncio.sleep(15)
        behind = sum(scene.progress.published) - sum(scene.progress.ended)
        assert behind > 1000, "it should have fallen behind"
        assert memory_mb(workers) < before + 30, "what waits should be on the broker"
        flag.unlink()
        await scene.recovered()
        await scene.ended(EVENTS)
        assert_still_there(workers)
    await judge(scene, amounts(events))


async def test_burst_of_ten_times_the_rate(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge
) -> None:
    trained = pipeline_with(tmp_path, "Slow", flag="/nowhere", us_per_row=1000)
    async with streaming(trained, kafka, events, rate=10 * RATE) as scene:
        workers = scene.workers(*COMPONENTS)
        await scene.ended(1)
        before = memory_mb(workers)
        await scene.published(EVENTS)
        assert memory_mb(workers) < before + 30, "what waits should be on the broker"
        await scene.ended(EVENTS)
        assert_still_there(workers)
    await judge(scene, amounts(events))


def assert_still_there(workers: Workers) -> None:
    assert workers.process is not None
    assert workers.process.poll() is None
    assert workers.said is not None
    text = workers.said.read_text()
    assert "another worker may own" not in text, "it was thrown out of its group"


@pytest.mark.core
async def test_handler_that_hangs(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge
) -> None:
    flag = tmp_path / "hang"
    trained = pipeline_with(tmp_path, "Hanging", flag=str(flag))
    async with streaming(trained, kafka, events, rate=RATE) as scene:
        # Two minutes by default: it is about that the process ends, not about when.
        workers = scene.workers("amount", "second", stuck_after_s="5")
        scene.workers("weigh")
        await scene.ended(EVENTS // 16)
        flag.touch()
        assert await workers.ended(60) in (1, STUCK_EXIT_CODE), "it should have ended by itself"
        flag.unlink()
        workers.start()
        await scene.recovered()
        await scene.ended(EVENTS)
    await judge(scene, amounts(events))


async def test_two_workers_with_one_static_member_id(
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference,
) -> None:  # fmt: skip
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        first = scene.workers(*EVERYTHING, instance_id="worker-1")
        await scene.ended(EVENTS // 16)
        second = scene.workers(*EVERYTHING, instance_id="worker-1")
        assert await first.ended(40) == 1, "the broker knows the second by that name now"
        assert first.said is not None
        assert "ANABRANCH_INSTANCE_ID" in first.said.read_text()
        await second.killed()  # as its supervisor does when it has been thrown out of a group too
        await check_commits(pipeline, kafka, EVERYTHING)
        second.start()
        await scene.recovered()
        await scene.ended(EVENTS)
    await judge(scene, reference)


async def test_two_versions_of_a_component_in_one_group(
    pipeline: Trained, shipped: Trained, kafka: BrokerSettings, events: list[LabelledEvent],
    judge: Judge, tmp_path: Path,
) -> None:  # fmt: skip
    newer = Registry(tmp_path / "newer")
    shutil.copytree(pipeline.registry.root, newer.root)
    data = labelled_events.simulated(shipped.pipeline, rows=60_000, seed=1)
    await asyncio.to_thread(
        train, pipeline.pipeline, tmp_path, data, newer, open_component=open_component
    )
    risk = ("risk-linear", "risk-forest")
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        scene.workers("features", "terminals", "decision", "weigh")
        scene.workers(*risk)
        await scene.ended(EVENTS // 16)
        scene.workers(*risk, registry=str(newer.root))
        await scene.recovered()
        await scene.ended(EVENTS)
    await judge(scene, None)
    decisions = await decisions_of(kafka, pipeline.pipeline)
    used = {str(d["contributions"][name]["model"]) for d in decisions for name in risk}  # type: ignore[index]
    assert used == {f"{name}@{version}" for name in risk for version in (1, 2)}
