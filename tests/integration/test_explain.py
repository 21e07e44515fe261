"""`anabranch explain`: why an event was decided so, from what the topics hold."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest

from models.registry import Background, RecordedOutput, WeightsCard, digest_of
from models.registry.registry import Registry
from tests.integration import velocity
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    renamed,
    settled,
    simulated,
)
from tests.integration.test_cli import anabranch
from tests.integration.velocity import EVENT
from topics.pipeline.file import load_pipeline
from topics.settings import BrokerSettings

EVENTS = 400
OWN = """
pipeline: {name}
{event}components:
  - name: features
    kind: extract_features
    from: [events]
    features: [{{name: amount, of: amount}}]
  - name: large
    import: tests.integration.velocity:LargeAmount
    options: {{limit: 500}}
    from: [events]
  - name: mendable
    import: tests.integration.velocity:Mendable
    options: {{flag: {folder}/broken, counter: {folder}/mendable, halt: {folder}/halt}}
    from: [features]
weighting:
  from: [large, mendable]
  missing: {missing}
policy: {{thresholds: {{decline: 0.5}}}}
"""

VELOCITY = digest_of(Path(velocity.__file__).read_bytes())
PURE = """
pipeline: own
{event}components:
  - name: features
    kind: extract_features
    from: [events]
    features: [{{name: amount, of: amount}}, {{name: night, of: occurred_at, apply: night}}]
  - name: large
    import: tests.integration.velocity:LargeFeature
    options: {{limit: 500}}
    from: [features]
    pure: true
weighting:
  from: [large]
policy: {{thresholds: {{decline: 0.5}}}}
"""


async def explain(trained: Trained, broker: BrokerSettings, *words: str) -> Any:
    """What `anabranch explain … --json` says."""
    done = await asyncio.to_thread(
        anabranch, trained, "explain", str(trained.file.path), *words, "--json",
        broker=broker.broker,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def refused(trained: Trained, broker: BrokerSettings, *words: str) -> str:
    """Why it does not; an error is on stderr alone, with exit code 1."""
    done = await asyncio.to_thread(
        anabranch, trained, "explain", str(trained.file.path), *words, broker=broker.broker
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


class Scene(NamedTuple):
    """A pipeline that has decided, and the decision with the greatest score."""

    own: Trained
    twice: str
    """The id of two events."""
    decision: Any
    in_order: list[Any]
    """All decisions of its partition."""

    @property
    def place(self) -> str:
        """The coordinates of its event."""
        source = self.decision["source"]
        return f"{source['topic']}/{source['partition']}/{source['offset']}"


async def decided(trained: Trained, home: Path, broker: BrokerSettings) -> Scene:
    own = renamed(trained, home)
    events = simulated(own.pipeline, EVENTS)
    twice = orjson.loads(events[3][1])["transaction_id"]
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, [*events, events[3]], 2000)
        await settled(broker, own.pipeline, EVENTS + 1)
    decisions: list[Any] = await decisions_of(broker, own.pipeline)
    decision = max(
        (each for each in decisions if each["event_id"] != twice), key=lambda each: each["score"]
    )
    partition = decision["source"]["partition"]
    in_order = [each for each in decisions if each["source"]["partition"] == partition]
    return Scene(own, twice, decision, in_order)


async def test_a_decision_is_explained_by_its_id_and_by_its_coordinates(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    scene = await decided(trained, tmp_path, broker)
    own, decision, place = scene.own, scene.decision, scene.place
    name, source = own.pipeline.name, decision["source"]

    said = await explain(own, broker, decision["event_id"])
    assert (said["event_id"], said["source"]) == (decision["event_id"], source)
    assert said["score"] == decision["score"]
    assert said["method"] == "exact"
    groups = {each["group"]: each["value"] for each in said["groups"]}
    assert {*groups} == {"amount", "time of day", "customer's past", "terminal's past"}
    assert said["base"] + sum(groups.values()) == pytest.approx(decision["score"], abs=1e-6)
    assert [each["rank"] for each in said["groups"]] == [1, 2, 3, 4]
    assert sum(each["share"] for each in said["groups"]) == pytest.approx(1)
    assert said["background"] == own.registry.weights(name).background_digest
    weighed = {stage: share["digest"] for stage, share in decision["contributions"].items()
               if share["weight"] > 0}  # fmt: skip
    assert weighed.items() <= said["models"].items(), "and what those read"

    assert await explain(own, broker, place) == said
    assert await explain(own, broker, decision["event_id"], "--since", "2020-01-01") == said
    at = scene.in_order.index(decision)
    place_of_decision = f"{name}.decisions/{source['partition']}/{at}"
    assert await explain(own, broker, place_of_decision) == said

    columns = await explain(own, broker, place, "--each-column")
    assert columns["method"] == "sampled"
    assert len(columns["groups"]) == 15
    total = columns["base"] + sum(each["value"] for each in columns["groups"])
    assert total == pytest.approx(decision["score"], abs=1e-6)
    assert max(each["standard_error"] for each in columns["groups"]) > 0

    by_shap = await explain(own, broker, place, "--method", "shap")
    assert {each["group"] for each in by_shap["groups"]} == {*groups}
    for each in by_shap["groups"]:
        assert each["value"] == pytest.approx(groups[each["group"]], abs=1e-6)
    assert (await explain(own, broker, place, "--method", "lime"))["method"] == "lime"

    shown = anabranch(own, "explain", str(own.file.path), place, broker=broker.broker)
    assert shown.returncode == 0, shown.stderr
    *table, reason = shown.stdout.splitlines()
    assert max(map(len, table)) <= 80
    assert reason == said["reason"]
    assert reason.startswith(f"{decision['decision']}: score {decision['score']:.3f}, ")


async def test_what_cannot_be_explained_is_said_with_what_is_wrong(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    scene = await decided(trained, tmp_path, broker)
    own, twice, source = scene.own, scene.twice, scene.decision["source"]
    name, place, ends_at = own.pipeline.name, scene.place, len(scene.in_order)
    listed = (await refused(own, broker, twice)).splitlines()
    assert f"2 events have the id '{twice}': name one by its coordinates" in listed[0]
    assert len(listed) == 3
    for line in listed[1:]:
        assert (await explain(own, broker, line.split()[0]))["event_id"] == twice

    assert "no decision about an event with the id 'nobody'" in await refused(own, broker, "nobody")
    ends = f"no such event: the topic ends before {ends_at:,} in that partition"
    beyond = f"{source['topic']}/{source['partition']}/{ends_at}"
    assert ends in await refused(own, broker, beyond)
    assert "has 4 partitions" in await refused(own, broker, f"{source['topic']}/7/0")
    of_stage = await refused(own, broker, f"{name}.features/0/0")
    assert f"name the record on {name}.events or {name}.decisions" in of_stage

    forest = own.registry.latest(name, "risk-forest")
    shutil.rmtree(own.home / "registry" / name / "risk-forest")
    gone = await refused(own, broker, place)
    assert f"the model {forest.name} ({forest.digest}) decided about this event and is no" in gone
    (own.home / "registry" / str(own.registry.weights(name).background_file)).unlink()
    assert "weights@1 names it; put it back" in await refused(own, broker, place)
    shutil.rmtree(own.home / "registry" / name / "@weights")
    assert "weights@1 decided about this event and is no" in await refused(own, broker, place)


def own_components(home: Path, missing: str, name: str = "own") -> Trained:
    """A pipeline of own components, one of which fails on some amounts, with weights.

    Tests that share a broker need a *name* each: it is in their topics.
    """
    path = home / "own.yaml"
    path.write_text(OWN.format(name=name, event=EVENT, folder=home, missing=missing))
    own = Trained(home, load_pipeline(path), Registry(home / "registry"))
    card = WeightsCard(
        values={"large": 0.75, "mendable": 0.25}, rows=1, created_at="", metrics={}, models={}
    )
    signal = np.array([0.0, 0.2], np.float32)
    outputs = {name: RecordedOutput(signal[:, None], signal, [name]) for name in card.values}
    own.registry.add_weights(name, card, Background(outputs))
    (home / "broken").touch()
    return own


def amounts_of(events: Sequence[tuple[bytes, bytes]]) -> dict[str, float]:
    decoded = [orjson.loads(value) for _, value in events]
    return {event["transaction_id"]: event["amount"] for event in decoded}


def first_failing(amounts: Mapping[str, float]) -> str:
    return next(name for name, amount in amounts.items() if round(amount * 100) % 4 == 0)


async def test_a_degraded_decision_is_explained_without_what_it_lacked(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    own = own_components(tmp_path, "renormalise")
    events = simulated(own.pipeline, EVENTS)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events, 2000)
        await settled(broker, own.pipeline, EVENTS)
    amounts = amounts_of(events)
    degraded = first_failing(amounts)
    said = await explain(own, broker, degraded)
    groups = {each["group"]: each["value"] for each in said["groups"]}
    assert said["missing"] == ["mendable"]
    assert said["base"] == pytest.approx(0.1)
    whole = min(amounts[degraded] / 500, 1) - 0.1
    assert groups.pop("output of large") == pytest.approx(whole, abs=1e-6)
    assert [*groups.values()] == pytest.approx([0, 0], abs=1e-12)


async def test_a_redriven_event_is_explained_by_what_its_last_attempt_made_of_it(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    own = own_components(tmp_path, "fail")
    path = own.file.path
    events = simulated(own.pipeline, EVENTS)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events, 2000)
        await settled(broker, own.pipeline, EVENTS)
        (tmp_path / "broken").unlink()
        done = await asyncio.to_thread(
            anabranch, own, "dead-letters", "redrive", str(path), "--json", broker=broker.broker
        )
        assert done.returncode == 0, done.stderr
    amounts = amounts_of(events)
    redriven = first_failing(amounts)
    said = await explain(own, broker, redriven)
    groups = {each["group"]: each["value"] for each in said["groups"]}
    assert said["base"] == pytest.approx(0.1)
    assert groups.pop("output of large") == pytest.approx(
        0.75 * (min(amounts[redriven] / 500, 1) - 0.1), abs=1e-6
    )
    assert groups.pop("output of mendable") == pytest.approx(0.25 * (0.5 - 0.1), abs=1e-6)
    assert groups == {"amount": pytest.approx(0, abs=1e-12)}, "it is in what they say already"

    fixed = path.read_text().replace(
        "  missing: fail", "  weights: {large: 0.75, mendable: 0.25}\n  missing: fail"
    )
    path.write_text(fixed)
    assert (await explain(own, broker, redriven)) == said, "what decided counts"


async def test_a_pure_component_is_a_function_of_what_it_reads(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(PURE.format(event=EVENT))
    own = Trained(tmp_path, load_pipeline(path), Registry(tmp_path / "registry"))
    card = WeightsCard(values={"large": 1.0}, rows=1, created_at="", metrics={}, models={})
    amounts = np.array([[0.0, 0.0], [100.0, 1.0]])
    background = RecordedOutput(amounts, np.zeros(2, np.float32), ["amount", "night"])
    own.registry.add_weights("own", card, Background({"features": background}))
    events = simulated(own.pipeline, 50)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events, 2000)
        await settled(broker, own.pipeline, len(events))
    event, amount = next(iter(amounts_of(events).items()))
    said = await explain(own, broker, event)
    groups = {each["group"]: each["value"] for each in said["groups"]}
    assert said["base"] == pytest.approx(0.1)
    assert groups == pytest.approx(
        {"amount": min(amount / 500, 1) - 0.1, "occurred_at": 0}, abs=1e-6
    )
    assert said["models"] == {"large": VELOCITY}

    path.write_text(path.read_text().replace("limit: 500", "limits: 500"))
    assert "error: component large: import 'tests.integration.velocity:LargeFeature' does not " in (
        await refused(own, broker, event)
    )
