"""`anabranch replay` under a change: what it says is what the pipeline decides under it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from agents.broker import LogReader, ensure_outcomes_topic
from agents.commands import labelled_events
from agents.commands.models import service
from agents.components.catalogue import open_component
from agents.control import ControlTopic
from agents.publish import publisher as publishing
from agents.replay import promotion_gate
from agents.replay.decision_reader import DecisionReader
from agents.replay.promotion_gate import passed_gate
from agents.replay.range_choice import chosen_ranges
from agents.replay.what_if import Alteration, WhatIf
from agents.workers import TailReader
from models.registry import WeightsCard
from models.simulators import SIMULATORS
from models.training.train import train
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    publish_raw,
    renamed,
    settled,
)
from tests.integration.test_cli import anabranch
from topics.kafka.batches import Record
from topics.pipeline import load_pipeline
from topics.pipeline.topology import Topology
from topics.records import ControlState, outcome_fields, outcome_of
from topics.settings import BrokerSettings

EVENTS = 3000
STRICT = {"review": 0.004, "decline": 0.008}
OTHER_WEIGHTS = {"features": 0.4, "risk-linear": 0.3, "risk-forest": 0.2, "decision": 0.1}
COSTS = {
    "approve": {"positive": 120, "negative": 0}, "review": {"positive": 5, "negative": 5},
    "decline": {"positive": 0, "negative": 30},
}  # fmt: skip
LABELLED = [*islice(SIMULATORS["card-fraud"](7), EVENTS)]


def events_of(own: Trained) -> list[tuple[bytes, bytes]]:
    return [publishing.encoded(each.event, own.pipeline.event.key) for each in LABELLED]


async def run(own: Trained, broker: BrokerSettings) -> dict[str, dict[str, Any]]:
    """The decisions of the pipeline by event id."""
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events_of(own), 3000)
        await settled(broker, own.pipeline, EVENTS)
    decisions: list[Any] = await decisions_of(broker, own.pipeline)
    return {decision["event_id"]: decision for decision in decisions}


def edited(own: Trained, **changes: Any) -> Trained:
    """The pipeline with other fields in its file."""
    content = yaml.safe_load(own.file.path.read_text())
    own.file.path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return Trained(own.home, load_pipeline(own.file.path), own.registry)


async def what_if(
    own: Trained, broker: BrokerSettings, alteration: Alteration
) -> dict[str, tuple[str, str, float, float]]:
    """By event id: decision before and after, score before and after."""
    tail = TailReader(broker)
    await tail.start()
    try:
        ranges = await chosen_ranges(tail, Topology.of(own.pipeline), None, None)
        engine = WhatIf(broker, own.file, own.registry, tail, ControlState(), alteration)
        async with LogReader.of(broker) as reader:
            topics = DecisionReader(broker, reader, tail, own.pipeline, ranges)
            redecided = await engine.decide(topics)
    finally:
        await tail.stop()
    recorded, altered = redecided.recorded, redecided.altered
    assert redecided.as_recorded == 0
    rows = zip(
        recorded.decisions.ids, altered.before.tolist(), altered.after.tolist(),
        altered.scores_before.tolist(), altered.scores_after.tolist(), strict=True,
    )  # fmt: skip
    names = altered.names
    return {each: (names[before], names[after], *scores) for each, before, after, *scores in rows}


async def check_against_a_run(
    own: Trained, other: Trained, broker: BrokerSettings, alteration: Alteration
) -> Counter[tuple[str, str]]:
    """Replay *own* under the change, run *other*, which has it; the changes, by kind."""
    before = await run(own, broker)
    said = await what_if(own, broker, alteration)
    after = await run(other, broker)
    assert said == {
        name: (before[name]["decision"], after[name]["decision"],
               before[name]["score"], after[name]["score"])
        for name in before
    }  # fmt: skip
    return Counter((was, now) for was, now, *_ in said.values() if was != now)


def second_version(trained: Trained, own: Trained) -> None:
    train(
        own.pipeline, own.home, labelled_events.simulated(trained.pipeline, rows=20_000, seed=5),
        own.registry, open_component=open_component, seed=9, only=["risk-forest"],
    )  # fmt: skip


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    homes = tmp_path / "own", tmp_path / "other"
    for home in homes:
        home.mkdir()
    return homes


async def test_other_thresholds_decide_as_a_run_with_them(
    trained: Trained, homes: tuple[Path, Path], broker: BrokerSettings
) -> None:
    own = renamed(trained, homes[0])
    other = edited(renamed(trained, homes[1]), policy={"version": 2, "thresholds": STRICT})
    changes = await check_against_a_run(
        own, other, broker, Alteration(policy=other.pipeline.policy)
    )
    assert changes["approve", "review"] > 10
    assert changes["approve", "decline"] + changes["review", "decline"] > 3


async def test_other_weights_decide_as_a_run_with_them(
    trained: Trained, homes: tuple[Path, Path], broker: BrokerSettings
) -> None:
    own, other = (renamed(trained, home) for home in homes)
    for each in (own, other):
        card = WeightsCard(values=OTHER_WEIGHTS, rows=1, created_at="", metrics={}, models={})
        if each is other:
            assert other.registry.add_weights(other.pipeline.name, card).version == 2
    before = await run(own, broker)
    same = await what_if(own, broker, Alteration(weights=1))
    assert {name: said[2:] for name, said in same.items()} == {
        name: (each["score"], each["score"]) for name, each in before.items()
    }, "weights that are the same give the same bits"
    own.registry.add_weights(own.pipeline.name, card)
    said = await what_if(own, broker, Alteration(weights=2))
    after = await run(other, broker)
    assert {name: each[1::2] for name, each in said.items()} == {
        name: (each["decision"], each["score"]) for name, each in after.items()
    }
    assert sum(was != now for was, now, *_ in said.values()) > 10


async def test_another_model_decides_as_a_run_with_it(
    trained: Trained, homes: tuple[Path, Path], broker: BrokerSettings
) -> None:
    own, other = (renamed(trained, home) for home in homes)
    second_version(trained, own)
    shutil.copytree(
        own.home / "registry" / own.pipeline.name, other.home / "registry" / other.pipeline.name,
        dirs_exist_ok=True,
    )  # fmt: skip
    own = edited(own, components=with_forest(own, 1))
    before = await run(own, broker)
    same = await what_if(own, broker, Alteration(models={"risk-forest": 1}))
    assert {name: said[2:] for name, said in same.items()} == {
        name: (each["score"], each["score"]) for name, each in before.items()
    }, "the model that is the same gives the same bits"
    said = await what_if(own, broker, Alteration(models={"risk-forest": 2}))
    after = await run(other, broker)
    assert {name: each[1::2] for name, each in said.items()} == {
        name: (each["decision"], each["score"]) for name, each in after.items()
    }
    moved = [name for name, (*_, was, now) in said.items() if was != now]
    assert len(moved) > 50


def with_forest(own: Trained, version: int) -> list[Any]:
    """The components of the file, with the forest kept on a version."""
    components: list[Any] = yaml.safe_load(own.file.path.read_text())["components"]
    for each in components:
        if each["name"] == "risk-forest":
            each["model"]["version"] = version
    return components


async def test_examples_are_explained_before_and_after(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    own = renamed(trained, tmp_path)
    await run(own, broker)
    first = own.registry.weights(own.pipeline.name)
    card = first.card.model_copy(update={"values": OTHER_WEIGHTS})
    own.registry.add_weights(own.pipeline.name, card, first.background())
    report = await replay(own, broker, "--weights", "2", "--examples", "2")
    changing = [flow for flow in report["flows"] if flow["from"] != flow["to"]]
    examples = [(flow, each) for flow in changing for each in flow["examples"]]
    assert examples
    for flow, example in examples:
        assert example["unexplained"] is None
        for side, decided in (("before", flow["from"]), ("after", flow["to"])):
            score = f"{decided}: score {example[f'score_{side}']:.3f}, "
            assert example[f"reason_{side}"].startswith(score)


async def replay(own: Trained, broker: BrokerSettings, *words: str) -> Any:
    done = await asyncio.to_thread(
        anabranch, own, "replay", str(own.file.path), *words, "--json", broker=broker.broker
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_the_report_has_costs_quality_and_segments_where_outcomes_are_known(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    own = renamed(trained, tmp_path)
    before = await run(own, broker)
    await ensure_outcomes_topic(broker, Topology.of(own.pipeline))
    known = LABELLED[: EVENTS // 2]
    fields, topic = outcome_fields(own.pipeline), Topology.of(own.pipeline).outcomes
    values = [orjson.dumps(outcome_of(fields, each.event, label=each.label)) for each in known]
    await publish_raw(broker, topic, 0, [Record(b"", value, 1) for value in values])
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        yaml.safe_dump({"version": 2, "thresholds": STRICT, "costs": COSTS}, sort_keys=False)
    )

    report = await replay(own, broker, "--policy", str(policy), "--segment", "amount")

    def decided(score: float) -> str:
        return "decline" if score >= 0.008 else "review" if score >= 0.004 else "approve"

    after = {name: decided(each["score"]) for name, each in before.items()}
    flows = Counter((each["decision"], after[name]) for name, each in before.items())
    assert {(f["from"], f["to"]): f["events"] for f in report["flows"]} == flows
    assert report["events"]["decided"] == EVENTS
    assert report["changed"] == sum(n for (was, now), n in flows.items() if was != now)
    assert report["scores"]["largest_absolute"] == 0

    labels = {str(each.event["transaction_id"]): each.label for each in known}
    outcomes = report["outcomes"]
    assert (outcomes["known"], outcomes["positives"]) == (len(labels), sum(labels.values()))

    def cost(taken: dict[str, str]) -> float:
        paid = [COSTS[taken[name]]["positive" if label else "negative"]
                for name, label in labels.items()]  # fmt: skip
        return sum(paid) / len(paid)

    was = {name: each["decision"] for name, each in before.items()}
    assert outcomes["cost"] == pytest.approx(cost(after) - cost(was), abs=1e-12)
    flagged = [name for name in labels if after[name] != "approve"]
    hits = sum(labels[name] for name in flagged)
    assert outcomes["after"]["precision"] == pytest.approx(hits / len(flagged))
    assert outcomes["after"]["recall"] == pytest.approx(hits / sum(labels.values()))

    segments = report["segments"]["amount"]
    assert len(segments) == 5
    assert sum(each["events"] for each in segments) == EVENTS
    assert sum(each["changed"] for each in segments) == report["changed"]

    page = tmp_path / "page.html"
    shown = await asyncio.to_thread(
        anabranch, own, "replay", str(own.file.path), "--policy", str(policy),
        "--segment", "amount", "--html", str(page), broker=broker.broker,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    print(shown.stdout)
    changing = [flow for flow in report["flows"] if flow["from"] != flow["to"]]
    for example in [each for flow in changing for each in flow["examples"]]:
        decision = before[example["event_id"]]
        assert example["source"] == decision["source"]
        assert example["reason_before"].startswith(
            f"{decision['decision']}: score {decision['score']:.3f}, "
        )
        assert example["unexplained"] is None
    assert f"{report['changed']:,}" in page.read_text()
    assert f"{report['changed']:,} of {EVENTS:,} decisions change" in shown.stdout


async def promote(own: Trained, broker: BrokerSettings, *words: str) -> Any:
    return await asyncio.to_thread(
        anabranch, own, "models", "promote", *words, "--wait", "0", "--json", broker=broker.broker
    )


async def test_a_gate_promotes_what_changes_little_and_keeps_why(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    own = renamed(trained, tmp_path)
    await run(own, broker)
    strict = edited(own, policy={"version": 2, "thresholds": STRICT})
    target = f"{strict.file.path}/policy"

    much = await promote(strict, broker, target, "--if", "changed <= 0.1%", "--over", "1d")
    assert much.returncode == 1
    assert "is not promoted: 'changed <= 0.1%' is not true of what was replayed" in much.stderr
    assert f"decided {EVENTS:,}" in much.stderr
    unknown = await promote(strict, broker, target, "--if", "changed <= 90% and cost <= 0")
    assert unknown.returncode == 1
    assert "cost <= 0: cannot be known" in unknown.stderr
    assert "no outcome of these events is known" in unknown.stderr
    eon = await promote(strict, broker, target, "--if", "changed <= 1%", "--over", "9999999d")
    assert (eon.returncode, "is more than a century" in eon.stderr) == (2, True)
    wrong = await promote(strict, broker, target, "--if", "changed = 1%")
    assert "at character 9: expected one of <= >= == < >, not '='" in wrong.stderr
    log = await asyncio.to_thread(
        anabranch, strict, "models", "log", str(strict.file.path), "--json", broker=broker.broker
    )
    assert json.loads(log.stdout)["audit"] == [], "nothing is written of what was refused"

    done = await promote(strict, broker, target, "--if", "changed <= 90%", "--reason", "stricter")
    assert done.returncode == 0, done.stderr
    log = await asyncio.to_thread(
        anabranch, strict, "models", "log", str(strict.file.path), "--json", broker=broker.broker
    )
    (entry,) = json.loads(log.stdout)["audit"]
    evidence = entry["evidence"]
    assert (entry["reason"], entry["version"]) == ("stricter", 2)
    assert evidence["condition"] == "changed <= 90%"
    assert (evidence["decided"], evidence["outcomes"]) == (EVENTS, 0)
    assert 0.001 < evidence["figures"]["changed"] < 0.9
    (kept,) = (own.home / "reports").glob("what-if-*.json")
    assert evidence["report"] == f"sha256:{sha256(kept.read_bytes()).hexdigest()}"
    assert json.loads(kept.read_bytes())["changed_share"] == evidence["figures"]["changed"]

    # The same weights, and the same model: nothing moves by a bit.
    for what in ("weights@1", "risk-forest@1"):
        same = await promote(
            strict, broker, f"{strict.file.path}/{what}", "--if",
            "changed == 0 and shift.largest == 0 and decided == 3000",
        )  # fmt: skip
        assert same.returncode == 0, same.stderr
        assert json.loads(same.stdout)["evidence"]["figures"]["shift.largest"] == 0


async def test_what_was_judged_is_promoted_though_a_newer_version_has_come(
    trained: Trained, tmp_path: Path, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = renamed(trained, tmp_path)
    await run(own, broker)
    card = WeightsCard(values=OTHER_WEIGHTS, rows=1, created_at="", metrics={}, models={})
    assert own.registry.add_weights(own.pipeline.name, card).version == 2

    async def and_another_training(*judged: Any) -> Any:
        passed = await passed_gate(*judged)
        assert own.registry.add_weights(own.pipeline.name, card).version == 3
        return passed

    monkeypatch.setattr(promotion_gate, "passed_gate", and_another_training)
    monkeypatch.setenv("ANABRANCH_EMBEDDED", "true")
    monkeypatch.setenv("ANABRANCH_HOME", str(own.home))
    monkeypatch.setenv("ANABRANCH_REGISTRY", str(own.registry.root))
    await asyncio.to_thread(
        service.promote, f"{own.file.path}/weights", "changed <= 100%", wait=0,
        broker=broker.broker,
    )  # fmt: skip
    async with ControlTopic(broker, Topology.of(own.pipeline)) as control:
        weights = control.state.weights
    assert weights is not None
    assert weights.version == 2
