"""Components of a user's own, by import path, on a pipeline without any trained model."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
import yaml

from models.registry.registry import Registry
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    records_of,
    settled,
    simulated,
)
from tests.integration.velocity import EVENT
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.records.decision import Decision
from topics.records.wire import decode
from topics.settings import BrokerSettings

PIPELINE = """
pipeline: own
codec: {codec}
{event}components:
  - name: features
    kind: extract_features
    from: [events]
    features: [{{name: amount, of: amount}}]
  - name: large
    import: tests.integration.velocity:LargeAmount
    options: {{limit: 500}}
    from: [events]
  - name: unlucky
    import: tests.integration.velocity:Unlucky
    from: [features]
weighting:
  from: [large, unlucky]
  weights: {{large: 0.75, unlucky: 0.25}}
  missing: {missing}
policy: {{thresholds: {{decline: 0.5}}}}
"""


def own(folder: Path, *, codec: str = "binary", missing: str = "renormalise") -> Trained:
    path = folder / "own.yaml"
    path.write_text(PIPELINE.format(event=EVENT, codec=codec, missing=missing))
    return Trained(folder, load_pipeline(path), Registry(folder / "registry"))


def unlucky(value: bytes) -> bool:
    return bool(round(orjson.loads(value)["amount"] * 100) % 100 == 13)


@pytest.mark.parametrize("codec", ["binary", "json"])
async def test_own_components_decide_and_a_row_that_one_fails_on_is_weighed_without_it(
    tmp_path: Path, broker: BrokerSettings, codec: str
) -> None:
    pipeline = own(tmp_path, codec=codec)
    events = simulated(pipeline.pipeline, 2000)
    failing = {orjson.loads(v)["transaction_id"] for _, v in events if unlucky(v)}
    assert failing, "the test needs some"
    async with pipeline_running(pipeline, broker):
        await publish(broker, pipeline.pipeline, events, 5000)
        audit = await settled(broker, pipeline.pipeline, len(events))
    assert audit.passed
    amounts = {(e := orjson.loads(v))["transaction_id"]: e["amount"] for _, v in events}
    decisions = [Decision.model_validate(d) for d in await decisions_of(broker, pipeline.pipeline)]
    assert len(decisions) == len(events)
    for decision in decisions:
        assert decision.degraded == (decision.event_id in failing)
        assert decision.missing == (["unlucky"] if decision.degraded else [])
        parts = decision.contributions.values()
        assert sum(part.weight for part in parts) == pytest.approx(1, abs=1e-12)
        assert decision.score == sum(part.contribution for part in parts)
        large = min(amounts[decision.event_id] / 500, 1)
        score = large if decision.degraded else 0.75 * large + 0.25 * 0.5
        assert decision.score == pytest.approx(score, abs=1e-6)
        assert decision.decision == ("decline" if decision.score >= 0.5 else "approve")
        assert all(part.model.startswith(name) for name, part in decision.contributions.items())


async def test_with_missing_fail_a_row_that_a_component_fails_on_becomes_a_dead_letter(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    pipeline = own(tmp_path, missing="fail")
    events = simulated(pipeline.pipeline, 2000)
    failing = [v for _, v in events if unlucky(v)]
    async with pipeline_running(pipeline, broker):
        await publish(broker, pipeline.pipeline, events, 5000)
        audit = await settled(broker, pipeline.pipeline, len(events))
    assert audit.passed
    assert audit.total.dead == len(failing)
    letters = await records_of(broker, Topology.of(pipeline.pipeline).dead_letters)
    assert sorted(letter.value for letter in letters) == sorted(failing)
    for letter in letters:
        about = dict(letter.headers)
        assert about["x-error-stage"] == b"unlucky"
        assert about["x-error-class"] == b"ArithmeticError"
        assert about["x-error-reason"] == b"thirteen"


async def test_stage_topics_are_kafka_topics_that_anyone_can_read(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    pipeline = own(tmp_path)
    events = simulated(pipeline.pipeline, 300)
    async with pipeline_running(pipeline, broker):
        await publish(broker, pipeline.pipeline, events, 5000)
        await settled(broker, pipeline.pipeline, len(events))
    batches = [
        decode(record.value, dict(record.headers))
        for record in await records_of(broker, Topology.of(pipeline.pipeline).stage("features"))
    ]
    assert sum(len(batch) for batch in batches) == len(events)
    assert {batch.component for batch in batches} == {"features"}
    by_id = {(e := orjson.loads(v))["transaction_id"].encode(): e["amount"] for _, v in events}
    for batch in batches:
        amounts = [by_id[event_id] for event_id in batch.rows.ids.items()]
        assert batch.output[:, 0].tolist() == amounts


def _readme(language: str, after: str) -> str:
    """The first code block of a language behind a sentence of the README."""
    text = Path("README.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", text[text.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_component_of_the_readme_runs_from_the_pipeline_files_folder(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    after = "A component of your own"
    (tmp_path / "my_components.py").write_text(_readme("python", after))
    content = yaml.safe_load(PIPELINE.format(event=EVENT, codec="binary", missing="fail"))
    content["components"] = yaml.safe_load(_readme("yaml", after))
    content["weighting"] |= {"from": ["large"], "weights": {"large": 1}}
    path = tmp_path / "readme.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    pipeline = Trained(tmp_path, load_pipeline(path), Registry(tmp_path / "registry"))
    events = simulated(pipeline.pipeline, 200)
    async with pipeline_running(pipeline, broker):
        await publish(broker, pipeline.pipeline, events, 5000)
        audit = await settled(broker, pipeline.pipeline, len(events))
    assert audit.passed
    assert audit.total.decided == 200
    decision = (await decisions_of(broker, pipeline.pipeline))[0]
    model = Decision.model_validate(decision).contributions["large"]
    assert model.model == "large@my_components:LargeAmount"
    assert model.digest.startswith("sha256:")
