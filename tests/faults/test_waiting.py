"""A stage that is away: rows wait for it, and only what is really down is missing."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml

from models.simulators import LabelledEvent
from tests.faults.conftest import EVENTS, Judge
from tests.faults.scene import Scene, Workers, streaming
from tests.faults.test_load import amounts, memory_mb, pipeline_with
from tests.faults.test_workers import EVERYTHING, KINDS, RATE
from tests.faults.verdict import Reference
from tests.integration.harness import Trained, decisions_of
from topics.pipeline.file import load_pipeline
from topics.settings import BrokerSettings

SUPERVISOR_S = 2.0
"""So long a supervisor takes to start a worker again."""


def reasons(decisions: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """How many decisions lack which stage, and why."""
    return Counter(why for decision in decisions for why in decision["missing_because"].items())


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
async def test_one_component_is_ended_and_started_again(
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference, name: str, number: signal.Signals,
) -> None:  # fmt: skip
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        workers = {each: scene.workers(each) for each in EVERYTHING}
        await scene.ended(EVENTS // 16)
        workers[name].signal(number)
        await workers[name].ended(15)
        await asyncio.sleep(SUPERVISOR_S)
        workers[name].start()
        await scene.recovered()
        await scene.ended(EVENTS)
    await judge(scene, reference)


async def test_two_components_are_killed_at_once(
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference, seed: int,
) -> None:  # fmt: skip
    random = Random(seed)
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        workers = [scene.workers(*kind) for kind in KINDS]
        await scene.ended(EVENTS // 16)
        victims = random.sample(workers, 2)
        for victim in victims:
            await victim.killed()
        await asyncio.sleep(SUPERVISOR_S)
        for victim in victims:
            victim.start()
        await scene.recovered()
        await scene.ended(EVENTS)
    await judge(scene, reference)


async def test_features_killed_while_one_lane_is_frozen(
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference,
) -> None:  # fmt: skip
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        features = scene.workers("features")
        lanes = [scene.workers("terminals") for _ in range(2)]
        scene.workers("risk-linear", "risk-forest", "decision", "weigh")
        await scene.ended(EVENTS // 16)
        lanes[0].signal(signal.SIGSTOP)
        await features.killed()
        await asyncio.sleep(9)
        features.start()
        await asyncio.sleep(13)
        lanes[0].signal(signal.SIGCONT)
        async with lanes[0].supervision():
            await scene.recovered()
            await scene.ended(EVENTS)
    await judge(scene, reference)


FROZEN = ("terminals", "features", "risk-linear", "weigh", "risk-forest", "decision")
"""In turn, by seed."""


@pytest.mark.core
async def test_a_worker_frozen_for_10_s(
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference, seed: int,
) -> None:  # fmt: skip
    name, random = FROZEN[seed % len(FROZEN)], Random(seed)
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        await frozen(scene, name, 10, random)
    await judge(scene, reference)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["features", "terminals", "risk-linear", "weigh"])
async def test_a_worker_frozen_for_much_longer_than_the_stall_time_out(
    request: pytest.FixtureRequest, pipeline: Trained, kafka: BrokerSettings,
    events: list[LabelledEvent], judge: Judge, reference: Reference, name: str, tmp_path: Path,
) -> None:  # fmt: skip
    """60 s, or 5 minutes: it is down by then, and only rows of that time may lack it."""
    frozen_s = 300.0 if request.config.getoption("--long", False) else 60.0
    pipeline = with_fixed_weights(pipeline, tmp_path)
    async with streaming(pipeline, kafka, events, rate=EVENTS / (frozen_s + 30)) as scene:
        await frozen(scene, name, frozen_s, Random(0))
    scene.may_degrade = name != "weigh"
    await judge(scene, reference)
    missing = reasons(await decisions_of(kafka, pipeline.pipeline))
    assert {why for _, why in missing} <= {"down"}


async def frozen(scene: Scene, name: str, frozen_s: float, random: Random) -> None:
    """A component alone in its process is stopped, and goes on, in mid-stream."""
    worker = scene.workers(name)
    scene.workers(*(each for each in EVERYTHING if each != name))
    await scene.ended(EVENTS // 16)
    await asyncio.sleep(random.uniform(0, 0.5))
    async with worker.supervision():
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(frozen_s)
        worker.signal(signal.SIGCONT)
        await scene.recovered()
        await scene.ended(scene.events)


FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@pytest.mark.skipif(not FAKETIME.exists(), reason=f"needs {FAKETIME}, of the package libfaketime")
@pytest.mark.parametrize("off", ["+1h", "-1h", "+0 x1.05"])
async def test_clocks_of_workers_are_wrong(
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference, off: str,
) -> None:  # fmt: skip
    """One is an hour ahead, or behind, or 5 % too fast; the others are right."""
    clock = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": off, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    async with streaming(pipeline, kafka, events, rate=2 * RATE) as scene:
        for name in EVERYTHING:
            scene.workers(name, environment=clock if name in ("terminals", "risk-linear") else {})
        await scene.ended(EVENTS)
    await judge(scene, reference)


async def test_a_stage_that_is_down_is_missing_until_it_has_caught_up(
    request: pytest.FixtureRequest, pipeline: Trained, kafka: BrokerSettings,
    events: list[LabelledEvent], judge: Judge, reference: Reference, tmp_path: Path,
) -> None:  # fmt: skip
    """risk-forest is away for longer than the stall time-out, and with it what reads it.

    The weights are fixed: learned ones may leave risk-linear without any, and so without a quorum.
    """
    pipeline = with_fixed_weights(pipeline, tmp_path)
    away_s = 3600.0 if request.config.getoption("--long", False) else 60.0
    async with streaming(pipeline, kafka, events, rate=EVENTS / (away_s + 90)) as scene:
        forest = scene.workers("risk-forest")
        others = scene.workers(*(each for each in EVERYTHING if each != "risk-forest"))
        await scene.ended(EVENTS // 32)
        before = memory_mb(others)
        await forest.killed()
        await asyncio.sleep(away_s)
        assert memory_mb(others) < before + 30, "what waits should be on the broker"
        forest.start()
        await scene.recovered()
        await scene.ended(EVENTS)
    scene.may_degrade = True
    await judge(scene, reference)
    decisions = await decisions_of(kafka, pipeline.pipeline)
    missing = reasons(decisions)
    assert set(missing) == {("risk-forest", "down"), ("decision", "down")}
    last = sorted(decisions, key=lambda decision: str(decision["decided_at"]))[-EVENTS // 16 :]
    assert not any(decision["degraded"] for decision in last), "it counts again at the end"


async def test_nothing_is_decided_by_a_novelty_signal_alone(
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference,
) -> None:  # fmt: skip
    """Every stage that was fitted on labels is away for longer than the stall time-out.

    Once one of them is back it decides, if the others are still down by then.
    """
    labelled = ("risk-linear", "risk-forest", "decision")
    async with streaming(pipeline, kafka, events, rate=EVENTS / 100) as scene:
        away = scene.workers(*labelled)
        scene.workers("features", "terminals", "weigh")
        await scene.ended(EVENTS // 16)
        await away.killed()
        ended = sum(scene.progress.ended)
        await asyncio.sleep(45)
        assert sum(scene.progress.ended) < ended + EVENTS // 16, "rows should wait"
        away.start()
        await scene.recovered()
        await scene.ended(EVENTS)
    scene.may_degrade = True
    await judge(scene, reference)
    stages = [set(each["contributions"]) for each in await decisions_of(kafka, pipeline.pipeline)]  # type: ignore[call-overload]
    assert all(present & set(labelled) for present in stages)


@pytest.mark.core
async def test_a_row_that_ends_every_worker_is_passed_over(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge
) -> None:
    victim = events[EVENTS // 8]
    cents = round(float(str(victim.event["amount"])) * 100)
    poison = {
        str(each.event["transaction_id"])
        for each in events
        if round(float(np.float32(float(str(each.event["amount"])) / 1000)) * 100_000) == cents
    }
    trained = pipeline_with(tmp_path, "Poisoned", cents=cents)
    async with streaming(trained, kafka, events, rate=RATE) as scene:
        scene.workers("amount", "weigh")
        poisoned = scene.workers("second")
        async with poisoned.supervision():
            await scene.ended(EVENTS)
        assert 17 in poisoned.exits
        # One in mid-stream, two at a batch, three at the row alone.
        assert len(poisoned.exits) <= 6 * len(poison)
    scene.may_degrade = True
    expected = {
        row: {"amount": said["amount"]} if row in poison else said
        for row, said in amounts(events).items()
    }
    await judge(scene, expected)
    decisions = await decisions_of(kafka, trained.pipeline)
    degraded = {str(each["event_id"]): each["missing_because"] for each in decisions
                if each["degraded"]}  # fmt: skip
    assert degraded == {key: {"second": "failed"} for key in poison}


async def test_a_stage_that_ends_at_every_row_is_down(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge
) -> None:
    trained = pipeline_with(tmp_path, "Ending")
    some = events[: EVENTS // 8]
    async with streaming(trained, kafka, some, rate=RATE) as scene:
        scene.workers("amount", "weigh")
        ending = scene.workers("second")
        async with ending.supervision():
            await scene.ended(len(some))
    scene.may_degrade = True
    await judge(scene, {row: {"amount": said["amount"]} for row, said in amounts(some).items()})
    missing = reasons(await decisions_of(kafka, trained.pipeline))
    assert {stage for stage, _ in missing} == {"second"}
    assert missing["second", "down"] > len(some) / 2


def with_fixed_weights(trained: Trained, home: Path) -> Trained:
    """The pipeline, in which every stage has a weight."""
    path = home / "weighted.yaml"
    content = yaml.safe_load(trained.file.path.read_text())
    stages = content["weighting"]["from"]
    content["weighting"]["weights"] = dict.fromkeys(stages, 1 / len(stages))
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return Trained(home, load_pipeline(path), trained.registry)


def with_late(trained: Trained, late: str, home: Path) -> Trained:
    """The pipeline with another `late:` and a deadline that is soon over."""
    path = home / "late.yaml"
    text = trained.file.path.read_text()
    path.write_text(text.replace("  max_in_flight", f"  late: {late}\n  max_in_flight"))
    return Trained(home, load_pipeline(path), trained.registry)


@pytest.mark.parametrize("late", ["degrade", "{fallback: decline}"])
async def test_where_somebody_must_answer_in_time_a_late_stage_is_not_waited_for(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge, late: str
) -> None:
    """A stage is frozen for 8 s: longer than the deadline, shorter than the stall time-out."""
    trained = with_late(pipeline_with(tmp_path, "Slow", flag="/nowhere", us_per_row=0), late,
                        tmp_path)  # fmt: skip
    async with streaming(trained, kafka, events, rate=RATE) as scene:
        scene.workers("amount", "weigh")
        frozen = scene.workers("second")
        await scene.ended(EVENTS // 16)
        frozen.signal(signal.SIGSTOP)
        await asyncio.sleep(8)
        frozen.signal(signal.SIGCONT)
        await scene.recovered()
        await scene.ended(EVENTS)
    scene.may_degrade = True
    decisions = await decisions_of(kafka, trained.pipeline)
    missing = reasons(decisions)
    assert set(missing) == {("second", "late")}
    assert RATE < missing["second", "late"] < EVENTS / 2
    if late == "degrade":
        await judge(scene, None)
        return
    by_late = [each for each in decisions if each["decided_by"] == "late"]
    assert by_late
    assert all((each["decision"], each["score"]) == ("decline", None) for each in by_late)
    assert len({each["event_id"] for each in decisions}) == len(decisions) == EVENTS


@pytest.mark.timeout(900)
@pytest.mark.core
async def test_a_burst_to_one_healthy_process(
    pipeline: Trained, kafka: BrokerSettings,
    many: list[LabelledEvent], judge: Judge, seed: int,
) -> None:  # fmt: skip
    """They are published as fast as they can be: in a few seconds, of which it needs many."""
    async with streaming(pipeline, kafka, many, rate=1e9, most=20_000) as scene:
        workers: Workers = scene.workers(*EVERYTHING)
        await scene.ended(len(many))
        assert workers.exits == []
    await judge(scene, None)


async def test_one_of_three_replicas_is_killed_and_the_others_go_on(
    pipeline: Trained, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge,
    reference: Reference,
) -> None:  # fmt: skip
    async with streaming(pipeline, kafka, events, rate=RATE) as scene:
        scene.workers(*(each for each in EVERYTHING if each != "risk-forest"))
        replicas = [
            scene.workers("risk-forest", instance_id=f"risk-forest-{number}") for number in range(3)
        ]
        await asyncio.gather(*(replica.up() for replica in replicas))
        await asyncio.sleep(5)
        before = scene.progress.ended
        await replicas[0].killed()
        await asyncio.sleep(6)  # less than the session: nobody has taken its partitions over
        gone_on = [now > then + RATE / 4 for now, then in
                   zip(scene.progress.ended, before, strict=True)]  # fmt: skip
        assert gone_on.count(True) >= 2, "the partitions of the others stand still"
        replicas[0].start()
        await scene.recovered()
        await scene.ended(EVENTS)
    await judge(scene, reference)
