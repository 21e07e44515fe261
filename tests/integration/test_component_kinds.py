"""A new kind of component is one file and one entry: checked, fitted, run, and weighed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.commands import labelled_events
from agents.components.catalogue import open_component
from models.registry.registry import Registry
from models.training.train import train
from tests.integration import toy_kind
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    settled,
    simulated,
)
from tests.integration.velocity import EVENT
from topics.pipeline.component_kinds import KINDS, ComponentKind
from topics.pipeline.file import PipelineFileError, load_pipeline
from topics.records.decision import Decision
from topics.settings import BrokerSettings

PIPELINE = f"""
pipeline: toy
{EVENT}data:
  label: TX_FRAUD
  columns:
    TRANSACTION_ID: transaction_id
    TX_DATETIME: occurred_at
    CUSTOMER_ID: customer_id
    TERMINAL_ID: terminal_id
    TX_AMOUNT: amount
components:
  - name: features
    kind: extract_features
    from: [events]
    features: [{{name: amount, of: amount}}]
  - name: large
    kind: toy_large
    from: [events]
  - name: judged
    kind: toy_judge
    from: [features, large]
    model: {{estimator: sklearn.linear_model.LogisticRegression}}
weighting: {{from: [large, judged]}}
policy: {{thresholds: {{decline: 0.5}}}}
"""
STATELESS = Path(__file__).parents[1] / "unit" / "stateless.yaml"
"""Its events are the same, and are simulated."""
EVENTS = 1000


@pytest.fixture(autouse=True)
def entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one entry of each."""
    monkeypatch.setitem(KINDS, "toy_judge", ComponentKind(
        reads_events=False, passes_on_features=False, has_model=True, needs_model=True,
        is_novelty=False, implementation="tests.integration.toy_kind:judge",
    ))  # fmt: skip
    monkeypatch.setitem(KINDS, "toy_large", ComponentKind(
        reads_events=True, passes_on_features=False, has_model=False, needs_model=False,
        is_novelty=False, implementation="tests.integration.toy_kind:large",
    ))  # fmt: skip
    monkeypatch.setattr(toy_kind, "opened", [])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: toy_large\n    from: [events]", "kind: toy_large\n    from: [features]",
         "toy_large reads events: from: [events]"),
        ("from: [features, large]", "from: [events]",
         "toy_judge reads components, for example features"),
        ("    model: {estimator: sklearn.linear_model.LogisticRegression}\n", "",
         "toy_judge needs a model:"),
        ("kind: toy_large", "kind: toy_large\n    model: {path: a.onnx}",
         "toy_large has no model:"),
        ("kind: toy_large", "kind: toy_other",
         "Input should be 'extract_features', 'assess_risk', 'decide', 'toy_judge' or 'toy_large'"),
    ],
)  # fmt: skip
def test_what_its_entry_says_is_checked(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "toy.yaml"
    assert old in PIPELINE
    path.write_text(PIPELINE.replace(old, new))
    with pytest.raises(PipelineFileError) as exc:
        load_pipeline(path)
    assert message in str(exc.value)


async def test_it_is_fitted_runs_and_decides(tmp_path: Path, broker: BrokerSettings) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(PIPELINE)
    file, registry = load_pipeline(path), Registry(tmp_path / "registry")
    data = labelled_events.simulated(load_pipeline(STATELESS).pipeline, rows=20_000, seed=0)
    train(file.pipeline, tmp_path, data, registry, open_component=open_component)
    assert registry.get("toy", "judged", None).card.inputs == ["amount", "large"]
    toy_kind.opened.clear()
    own = Trained(tmp_path, file, registry)
    async with pipeline_running(own, broker):
        assert toy_kind.opened == ["large", "judged"]
        await publish(broker, own.pipeline, simulated(own.pipeline, EVENTS), 5000)
        audit = await settled(broker, own.pipeline, EVENTS)
    assert audit.passed
    decisions = [Decision.model_validate(each) for each in await decisions_of(broker, own.pipeline)]
    assert len(decisions) == EVENTS
    for decision in decisions:
        assert {*decision.contributions} == {"large", "judged"}
        assert decision.contributions["judged"].model == "judged@1"
