"""The explainer: decisions that the pipeline file asks for are explained as they come."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.explainer import explainer_worker
from agents.explainer.selection import Selection
from agents.process.active_pipeline import ActivePipeline
from agents.process.runner import PipelineRun, run_workers
from agents.service.open_pipeline import open_pipeline
from agents.workers.metrics import Metrics
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    decisions_of,
    explaining,
    pipeline_running,
    publish,
    publish_raw,
    records_of,
    renamed,
    settled,
    simulated,
    worker_process,
    written,
)
from tests.integration.test_cli import anabranch
from topics.events.record_keys import murmur2_partitions
from topics.kafka.batches import Record
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

EVENTS = 600
EXPLAIN: dict[str, Any] = {"when": ["decline", "review"], "share_of_others": 0.1}
TEXTS: dict[str, Any] = {
    "en": {"groups": {"amount": "amount {amount:.2f} of {customer_id}"}},
    "de": {"groups": {"amount": "Betrag {amount:.2f}", "time of day": "Tageszeit"}},
}


def asked_for(decisions: Sequence[Any], pipeline: Pipeline) -> list[Any]:
    """Those decisions that the explainer is to explain."""
    selection = Selection(pipeline.explain)
    return [each for each in decisions if selection.asks_for(each["decision"], place_of(each))]


def place_of(record: Any) -> bytes:
    source = record["source"]
    return f"{source['topic']}/{source['partition']}/{source['offset']}".encode()


def check(explanations: Sequence[Any], decisions: Sequence[Any]) -> None:
    """Each decision has one explanation, and values that sum to its score."""
    counts = Counter(map(place_of, explanations))
    assert counts == Counter({place_of(each): 1 for each in decisions})
    by_place = {place_of(each): each for each in decisions}
    for each in explanations:
        decision = by_place[place_of(each)]
        total = each["base"] + sum(group["value"] for group in each["groups"])
        assert total == pytest.approx(decision["score"], abs=1e-6)
        assert each["event_id"] == decision["event_id"]
        assert each["decision"] == decision["decision"]


async def test_each_decision_that_is_asked_for_is_explained_once(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    own = explaining(renamed(trained, tmp_path), **EXPLAIN, reasons=TEXTS)
    topic = Topology.of(own.pipeline).explanations
    events = simulated(own.pipeline, EVENTS)
    async with pipeline_running(own, broker):
        with worker_process(own, broker, "explainer"):
            await publish(broker, own.pipeline, events, 2000)
            await settled(broker, own.pipeline, EVENTS)
            decisions = asked_for(await decisions_of(broker, own.pipeline), own.pipeline)
            await written(broker, topic, len(decisions))
        said = anabranch(
            own, "explain", str(own.file.path), place_of(decisions[0]).decode(),
            "--language", "de", broker=broker.broker,
        )  # fmt: skip
    assert {each["decision"] for each in decisions} >= {"decline", "approve"}
    records = await records_of(broker, topic)
    explanations = [json.loads(record.value) for record in records]
    check(explanations, decisions)
    for partition in range(4):
        places = [each["source"]["offset"] for each in explanations
                  if each["source"]["partition"] == partition]  # fmt: skip
        assert places == sorted(places)
    decided = {place: dict(record.headers) for place, record in (
        (dict(record.headers)["ce_id"], record)
        for record in await records_of(broker, Topology.of(own.pipeline).decisions)
    )}  # fmt: skip
    amounts = {event["transaction_id"]: event for event in (json.loads(v) for _, v in events)}
    for record, each in zip(records, explanations, strict=True):
        headers = dict(record.headers)
        assert headers["ce_id"] == place_of(each)
        assert headers["ce_type"] == b"anabranch.explanation"
        assert headers["ce_source"] == decided[place_of(each)]["ce_source"]
        event = amounts[each["event_id"]]
        assert record.key == event["customer_id"].encode()
        assert [*each["reasons"]] == ["en", "de"]
        assert each["reason"] == each["reasons"]["en"]
        if "amount" in each["reason"]:
            assert f"amount {event['amount']:.2f} of {event['customer_id']} (" in each["reason"]
    by_place = {place_of(each): each for each in explanations}
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == by_place[place_of(decisions[0])]["reasons"]["de"]


class Explaining:
    """An explainer in this process, and what it counts."""

    def __init__(self, run: PipelineRun) -> None:
        self._run = run

    @property
    def explained(self) -> int:
        return sum(self._run.stages["explainer"].stats.explained.values())

    @property
    def unexplained(self) -> dict[str, int]:
        return {
            reason: count
            for reason, count in self._run.stages["explainer"].stats.unexplained.items()
            if count
        }

    async def until(self, dealt_with: int) -> None:
        """Wait until so many decisions are explained, or not."""
        deadline = time.monotonic() + PATIENCE_S
        while self.explained + sum(self.unexplained.values()) < dealt_with:
            assert self._run.failure() is None
            assert time.monotonic() < deadline, (self.explained, self.unexplained)
            await asyncio.sleep(0.05)


def explainer_of(own: Trained) -> ActivePipeline:
    return open_pipeline(own.file, own.registry, ["explainer"])


async def decided_by(own: Trained, broker: BrokerSettings, events: int) -> list[Any]:
    """All decisions about so many events, which no explainer has seen."""
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, simulated(own.pipeline, events), 2000)
        await settled(broker, own.pipeline, events)
    decisions: list[Any] = await decisions_of(broker, own.pipeline)
    return decisions


async def test_what_is_too_old_is_counted_and_not_explained(
    trained: Trained, tmp_path: Path, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = explaining(renamed(trained, tmp_path), when=["decline", "review", "approve"])
    topology = Topology.of(own.pipeline)
    decisions = await decided_by(own, broker, 200)
    async with run_workers(explainer_of(own), broker, Metrics()) as run:
        await Explaining(run).until(len(decisions))
    own = explaining(own, shed_after="1s")
    newer = simulated(own.pipeline, 300)[200:]
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, newer, 2000)
        await settled(broker, own.pipeline, 300)
    await asyncio.sleep(1.1)
    async with run_workers(explainer_of(own), broker, Metrics()) as run:
        of_newer = Explaining(run)
        await of_newer.until(100)
        assert (of_newer.explained, of_newer.unexplained) == (0, {"shed": 100})
        async with pipeline_running(own, broker):
            monkeypatch.setattr(explainer_worker, "_AT_ONCE", 7)
            await publish(broker, own.pipeline, simulated(own.pipeline, 320)[300:], 2000)
            await settled(broker, own.pipeline, 320)
            await of_newer.until(120)
        assert of_newer.explained + of_newer.unexplained["shed"] == 120
        assert of_newer.explained, "it goes on with what is new"
    explanations = [json.loads(r.value) for r in await records_of(broker, topology.explanations)]
    assert len({place_of(each) for each in explanations}) == len(explanations)
    assert len(explanations) == 200 + of_newer.explained


async def test_decisions_of_before_there_was_an_explainer_are_nobodys(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    own = explaining(renamed(trained, tmp_path), when=["decline", "approve"], shed_after="1s")
    await decided_by(own, broker, 100)
    await asyncio.sleep(1.1)
    async with run_workers(explainer_of(own), broker, Metrics()) as run:
        async with pipeline_running(own, broker):
            await publish(broker, own.pipeline, simulated(own.pipeline, 120)[100:], 2000)
            await settled(broker, own.pipeline, 120)
        of_new = Explaining(run)
        await of_new.until(10)
        assert of_new.explained + sum(of_new.unexplained.values()) <= 20, "what came since"


async def test_an_explainer_that_was_away_counts_what_it_sheds_of_an_empty_partition_too(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    own = explaining(renamed(trained, tmp_path), when=["decline", "review", "approve"])
    by_partition: dict[int, list[Any]] = {}
    for key, value in simulated(own.pipeline, 200):
        (partition,) = murmur2_partitions([key], own.pipeline.partitions).tolist()
        by_partition.setdefault(partition, []).append((key, value))
    before, after, *_ = by_partition.values()
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, before, 2000)
        await settled(broker, own.pipeline, len(before))
    async with run_workers(explainer_of(own), broker, Metrics()) as run:
        await Explaining(run).until(len(before))
    own = explaining(own, shed_after="1s")
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, after, 2000)
        await settled(broker, own.pipeline, len(before) + len(after))
    await asyncio.sleep(1.1)
    async with run_workers(explainer_of(own), broker, Metrics()) as run:
        await Explaining(run).until(len(after))
        assert Explaining(run).unexplained == {"shed": len(after)}


async def test_what_cannot_be_explained_is_counted_by_reason_and_holds_up_nothing(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    when = ["decline", "review", "approve"]
    own = explaining(renamed(trained, tmp_path), when=when, reasons=TEXTS)
    topology = Topology.of(own.pipeline)
    decisions = await decided_by(own, broker, 120)
    (record, *_) = [r for r in await records_of(broker, topology.decisions) if r.partition == 0]
    content = json.loads(record.value)
    now = int(time.time() * 1000)

    def altered(offset: int, **change: Any) -> Record:
        """A decision about an event that never was, or with something else in it."""
        own_source = {**content["source"], "offset": offset}
        value = {**content, "source": own_source, **change}
        return Record(
            record.key, json.dumps(value).encode(), now, [("ce_id", place_of(value))]
        )  # fmt: skip

    same = content["source"]["offset"]
    elsewhere = {**content["source"], "topic": "no-such-topic", "partition": 7}
    odd = {
        name: {**share, "digest": "sha256:00"} for name, share in content["contributions"].items()
    }
    await publish_raw(broker, topology.decisions, 0, [
        altered(9000), altered(same, score=None), altered(same, weights=0),
        altered(same, weights=77), altered(same, contributions=odd),
        altered(same, score=content["score"] / 2),
        Record(b"k", b"nonsense", now, [("ce_id", b"x")]),
        altered(same, event_id=7), altered(same, decided_at="yesterday"),
        altered(same, decided_at="0001-01-01T00:00:00Z", latency_ms=1e300),
        altered(same, source=elsewhere), altered(same, source={**elsewhere, "partition": 0}),
        altered(same, source={**content["source"], "partition": 1}),
        altered(same)._replace(headers=[("ce_id", b"x")]),
        altered(same, contributions={}), altered(same),
    ])  # fmt: skip
    async with run_workers(explainer_of(own), broker, Metrics()) as run:
        counts = Explaining(run)
        await counts.until(len(decisions) + 16)
        assert counts.unexplained == {
            "output_gone": 1, "no_score": 1, "weights_fixed": 1, "version_gone": 2,
            "score_differs": 1, "unreadable": 7, "not_computed": 1,
        }  # fmt: skip
        assert counts.explained == len(decisions) + 2


async def test_a_model_that_fails_on_one_event_fails_on_that_alone(
    trained: Trained, tmp_path: Path, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = explaining(renamed(trained, tmp_path), when=["decline", "review", "approve"])
    decisions = await decided_by(own, broker, 60)
    active = explainer_of(own)
    assert active.explainer is not None
    explain = active.explainer.explain
    bad = place_of(decisions[30])

    def fails(events: Any) -> Any:
        if any(place_of(event.decision.model_dump()) == bad for event in events):
            raise ValueError("odd")
        return explain(events)

    monkeypatch.setattr(active.explainer, "explain", fails)
    async with run_workers(active, broker, Metrics()) as run:
        await Explaining(run).until(60)
        assert Explaining(run).unexplained == {"not_computed": 1}
        assert Explaining(run).explained == 59


async def test_what_runs_everything_explains_too_in_a_process_of_its_own(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    own = explaining(renamed(trained, tmp_path), **EXPLAIN)
    topic = Topology.of(own.pipeline).explanations
    with worker_process(own, broker):
        await publish(broker, own.pipeline, simulated(own.pipeline, EVENTS), 2000)
        await settled(broker, own.pipeline, EVENTS)
        decisions = asked_for(await decisions_of(broker, own.pipeline), own.pipeline)
        await written(broker, topic, len(decisions))
    explanations = [json.loads(record.value) for record in await records_of(broker, topic)]
    check(explanations, decisions)


def test_a_file_that_asks_for_none_has_no_explainer(trained: Trained, tmp_path: Path) -> None:
    own = renamed(trained, tmp_path)
    done = anabranch(own, "run", str(own.file.path), "--component", "explainer")
    assert done.returncode == 1
    assert "has no component 'explainer'" in done.stderr
    assert "explain: when:" in done.stderr
