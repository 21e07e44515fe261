"""The monitor on a broker: what it counts, and that it counts once, whatever happens to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from agents.broker.log_follower import follower, read_to_end
from agents.broker.log_reader import LogReader
from agents.broker.pipeline_topics import (
    ensure_monitor_topics,
    ensure_outcomes_topic,
    ensure_topics,
)
from agents.monitor.decision_batch import DecisionBatch, MatchedOutcomes
from agents.monitor.decision_store import DecisionStore
from agents.monitor.election import election
from agents.monitor.metrics import MonitorMetrics
from agents.monitor.monitor_worker import MonitorWorker
from agents.monitor.monitor_writer import MonitorWriter
from agents.monitor.watcher import EventBatch, Finding, MonitorContext, MonitorTime
from agents.publish import publisher as publishing
from agents.quality import quality_watcher
from agents.quality.quality_watcher import QualityWatcher
from models.registry.registry import Registry
from tests.contracts import check_values
from topics.kafka.batches import Record, write_batches
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.quality_settings import Quality
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.records import ControlState, QualityFinding, rfc3339_time
from topics.settings import BrokerSettings

DAY_MS = 86_400_000
START_MS = time.time_ns() // 1_000_000 - 60 * DAY_MS


def pipeline(name: str, **outcomes: object) -> Pipeline:
    """Card-fraud under a name of its own."""
    of = load_pipeline(find_pipeline("card-fraud")).pipeline
    given = {"sources": ["chargeback", "analyst"], "keep": "30d", **outcomes}
    return of.model_copy(
        update={"pipeline": name, "outcomes": of.outcomes.model_copy(update=given)}
    )


def decision(of: Pipeline, number: int, day: float = 0, **more: object) -> dict[str, object]:
    stages = of.weighting.inputs
    signal = (number % 97) / 97
    return {
        "event_id": f"e{number}", "decision": "approve", "score": signal, "weights": 1,
        "contributions": {
            stage: {"signal": signal, "weight": 1 / len(stages), "model": f"{stage}@1",
                    "contribution": signal / len(stages), "digest": "sha256:1", "variant": "fp32"}
            for stage in stages
        },
        "policy": f"{of.name}@1", "event_time": rfc3339_time(START_MS + int(day * DAY_MS)),
        "decided_at": rfc3339_time(START_MS + int(day * DAY_MS) + 20),
        "source": {"topic": f"{of.name}.events", "partition": number % 4, "offset": number // 4},
        **more,
    }  # fmt: skip


def outcome(number: int, label: bool, source: str = "", day: float = 0) -> dict[str, object]:
    return {
        "transaction_id": f"e{number}", "customer_id": f"c{number % 4}", "terminal_id": "t",
        "occurred_at": rfc3339_time(START_MS + int(day * DAY_MS)), "outcome": label,
        **({"source": source} if source else {}),
    }  # fmt: skip


async def publish(broker: BrokerSettings, topic: str, values: Sequence[tuple[int, object]]) -> None:
    """Values, each of an event's number, on its partition and with its key."""
    now_ms = time.time_ns() // 1_000_000
    async with publishing.producer(broker) as kafka:
        for partition in range(4):
            records = [
                Record(
                    f"c{number % 4}".encode(),
                    value if isinstance(value, bytes) else orjson.dumps(value), now_ms,
                )
                for number, value in values if number % 4 == partition
            ]  # fmt: skip
            await write_batches(kafka, topic, partition, records)


async def values_of(broker: BrokerSettings, topic: str) -> list[Any]:
    """All records of a topic, as a plain consumer reads them."""
    async with follower(broker, [topic], 4, from_start=True) as consumer:
        return [record async for _, records in read_to_end(consumer) for record in records]


async def made(broker: BrokerSettings, of: Pipeline) -> Topology:
    topology = Topology.of(of)
    await ensure_topics(broker, topology)
    await ensure_outcomes_topic(broker, topology)
    await ensure_monitor_topics(broker, topology)
    return topology


class Counter:
    """A watcher that adds up what it is given."""

    name = "counter"
    reads_events = False

    def __init__(self) -> None:
        self.sums = {"decisions": 0, "known": 0, "positive": 0, "news": 0}
        self.said = dict[str, int]()

    def decisions(self, batch: DecisionBatch) -> None:
        self.sums["decisions"] += len(batch)

    def events(self, batch: EventBatch) -> None:
        raise AssertionError("none were asked for")

    def outcomes(self, matched: MatchedOutcomes) -> None:
        for now, before in zip(matched.positive.tolist(), matched.before.tolist(), strict=True):
            self.sums["known"] += before < 0
            self.sums["positive"] += now - max(0, before)
            self.sums["news"] += 1

    def tick(self, now: MonitorTime) -> Sequence[Finding]:
        if not now.caught_up or self.said == self.sums:
            return []
        self.said = dict(self.sums)
        return [Finding("count", "count/all", orjson.dumps({"kind": "count", **self.sums}))]

    async def act(self) -> None:
        pass

    def snapshot(self) -> bytes:
        return orjson.dumps(self.sums)

    def restore(self, state: bytes) -> None:
        self.sums = orjson.loads(state)


async def counted(
    broker: BrokerSettings, of: Pipeline, folder: Path, *, write: bool = True
) -> tuple[dict[str, int], DecisionStore]:
    """What a monitor comes to that starts now and reads to the end."""
    watcher = Counter()
    async with (
        LogReader.of(broker) as reader,
        MonitorWriter.opened(broker, Topology.of(of)) as writer,
    ):
        with DecisionStore.in_folder(folder, of) as store:
            worker = MonitorWorker(
                of, reader, store, [watcher], MonitorMetrics(of.name), writer if write else None
            )
            await worker.resume()
            await worker.run(until_caught_up=True)
            return watcher.sums, store


async def test_late_doubled_reversed_weaker_and_unmatched_outcomes_each_count_as_they_should(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    of = pipeline("outcomes-versions")
    topology = await made(broker, of)
    await publish(broker, topology.decisions, [(n, decision(of, n)) for n in range(100)])
    await publish(broker, topology.outcomes, [(n, outcome(n, n % 5 == 0)) for n in range(80)])
    assert (await counted(broker, of, tmp_path))[0] == {
        "decisions": 100, "known": 80, "positive": 16, "news": 80,
    }  # fmt: skip
    later = [
        *((n, outcome(n, n % 5 == 0)) for n in range(10)),  # again
        *((n, outcome(n, True, "analyst")) for n in range(20)),  # 16 become positive
        *((n, outcome(n, False, "system")) for n in range(20)),  # weaker
        *((n, outcome(n, False, "chargeback")) for n in range(5)),  # taken back
        *((n, outcome(n, True)) for n in range(200, 210)),  # of no decision yet
        (3, b"{}"),
    ]
    await publish(broker, topology.outcomes, later)
    sums, store = await counted(broker, of, tmp_path)
    assert (sums["known"], sums["positive"]) == (80, 16 + 16 - 5)
    assert (store.unmatched, store.counts.matched) == (10, 80)
    await publish(broker, topology.decisions, [(205, decision(of, 205))])
    sums, _ = await counted(broker, of, tmp_path)
    assert (sums["known"], sums["positive"], sums["decisions"]) == (81, 28, 101)
    # A month passes in event time: nine are of no decision, and say so, once.
    await publish(broker, topology.decisions, [(300, decision(of, 300, day=31))])
    for _ in range(2):
        await counted(broker, of, tmp_path)
    letters = await values_of(broker, topology.outcome_letters)
    errors = [dict(letter.headers)["x-error-class"] for letter in letters]
    assert sorted(errors) == [b"InvalidEvent", *[b"NoDecision"] * 9]
    dead = {orjson.loads(letter.value).get("transaction_id") for letter in letters}
    assert dead == {None, *(f"e{n}" for n in range(200, 210) if n != 205)}


async def test_a_monitor_that_is_killed_at_any_moment_counts_the_same(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    of = pipeline("outcomes-killed")
    topology = await made(broker, of)
    for turn in range(6):
        numbers = range(turn * 50, turn * 50 + 50)
        await publish(broker, topology.outcomes, [(n, outcome(n, n % 3 == 0)) for n in numbers])
        # This one takes all in, and dies before it has written anything.
        await counted(broker, of, tmp_path, write=False)
        await publish(broker, topology.decisions, [(n, decision(of, n)) for n in numbers])
        reversed_ones = [(n, outcome(n, True, "analyst")) for n in numbers if n % 10 == 1]
        await publish(broker, topology.outcomes, reversed_ones)
        if turn % 2:
            await counted(broker, of, tmp_path)
    sums, _ = await counted(broker, of, tmp_path)
    positive = {n for n in range(300) if n % 3 == 0 or n % 10 == 1}
    assert sums == {
        "decisions": 300, "known": 300, "positive": len(positive), "news": sums["news"],
    }  # fmt: skip
    fresh, _ = await counted(broker, of, tmp_path, write=False)
    assert {**fresh, "news": 0} == {**sums, "news": 0}


async def test_the_eldest_counts_and_another_goes_on_when_it_is_gone(
    broker: BrokerSettings,
) -> None:
    topology = await made(broker, pipeline("outcomes-election"))
    async with election(broker, topology) as first:
        await asyncio.wait_for(first.won(), 60)
    async with election(broker, topology) as second:
        await asyncio.wait_for(second.won(), 60)
        assert second.is_won


async def judged(
    broker: BrokerSettings, of: Pipeline, folder: Path, registry: Path
) -> dict[str, QualityFinding]:
    """What a monitor that starts now publishes of quality, by the window's beginning."""
    file = replace(load_pipeline(find_pipeline("card-fraud")), pipeline=of)
    metrics = MonitorMetrics(of.name)
    async with (
        LogReader.of(broker) as reader,
        MonitorWriter.opened(broker, Topology.of(of)) as writer,
    ):
        with DecisionStore.in_folder(folder, of) as store:
            watcher = QualityWatcher(MonitorContext(
                file, Registry(registry), broker, metrics.registry, ControlState, store
            ))  # fmt: skip
            worker = MonitorWorker(of, reader, store, [watcher], metrics, writer)
            await worker.resume()
            await worker.run(until_caught_up=True)
    said = await values_of(broker, Topology.of(of).monitor)
    assert check_values(of, "monitor", [record.value for record in said])
    findings = [QualityFinding.model_validate_json(record.value) for record in said]
    return {finding.since: finding for finding in findings}


async def test_figures_are_those_of_scikit_learn_on_the_same_rows_also_after_reversals(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    of = pipeline("outcomes-quality", delay="2d")
    of = of.model_copy(update={"quality": Quality(window="1d", segments=["terminal_id"])})
    topology = await made(broker, of)
    rng = np.random.default_rng(7)
    days = np.sort(rng.random(1200) * 5)
    scores = rng.random(1200)
    labels = rng.random(1200) < scores
    propensity = rng.choice([1.0, 0.1], 1200)
    midnight_ms = START_MS - START_MS % DAY_MS + DAY_MS

    def day_of(n: int) -> float:
        return (midnight_ms - START_MS) / DAY_MS + float(days[n])

    events = [
        (n, {"transaction_id": f"e{n}", "customer_id": f"c{n % 4}", "terminal_id": f"t{n % 2}",
             "occurred_at": outcome(n, True, day=day_of(n))["occurred_at"], "amount": 1.0})
        for n in range(1200)
    ]  # fmt: skip
    # Coordinates are those of the log: the n-th of a partition.
    await publish(broker, topology.events, events)
    await publish(broker, topology.decisions, [
        (n, decision(of, n, day_of(n), score=float(scores[n]), propensity=float(propensity[n]),
                     explored=bool(propensity[n] < 1)))
        for n in range(1200)
    ])  # fmt: skip
    wrong = [(n, outcome(n, not labels[n], "system", day_of(n))) for n in range(1200)]
    await publish(broker, topology.outcomes, wrong)
    await judged(broker, of, tmp_path, tmp_path)
    right = [(n, outcome(n, bool(labels[n]), "analyst", day_of(n))) for n in range(1200)]
    await publish(broker, topology.outcomes, right)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality_watcher, "REVISE_S", 0.0)
        findings = await judged(broker, of, tmp_path, tmp_path)
    states = [finding.state for _, finding in sorted(findings.items())]
    assert states == ["matured", "matured", "estimated", "estimated"]
    for number, since in enumerate(sorted(findings)[:2]):
        rows = (days >= number) & (days < number + 1)
        (composed,) = (each for each in findings[since].subjects if each.subject == "composed")
        weights = {"sample_weight": 1 / propensity[rows]}
        assert composed.rows == rows.sum()
        assert composed.figures["auc"].value == pytest.approx(
            roc_auc_score(labels[rows], scores[rows], **weights)
        )
        assert composed.figures["average_precision"].value == pytest.approx(
            average_precision_score(labels[rows], scores[rows], **weights)
        )
        segments = {each.subject: each for each in findings[since].subjects if "=" in each.subject}
        assert set(segments) == {"terminal_id=t0", "terminal_id=t1"}
        of_one = rows & (np.arange(1200) % 2 == 1)
        assert segments["terminal_id=t1"].figures["brier"].value == pytest.approx(
            brier_score_loss(labels[of_one], scores[of_one], sample_weight=1 / propensity[of_one])
        )
    estimated = findings[sorted(findings)[2]]
    assert {each.subject for each in estimated.subjects} >= {"composed"}
