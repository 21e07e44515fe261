"""Components declared pure are functions in explanations: their inputs are the players."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.components.catalogue import open_component
from agents.explanations.deciding_functions import RegistryVersions
from agents.explanations.errors import CodeFails, NotExplained, VersionGone
from agents.explanations.explained_decision import DecisionExplainer, Explanation
from agents.explanations.recorded_event import RecordedEvent
from models.arrays import Floats64
from models.component import Batch, Component, Floats, StageOutput
from models.explain.attribution import Attributions, Explainer
from models.explain.column_groups import ColumnGroups
from models.explain.composed_score import ComposedScore, needed_components
from models.explain.stage_functions import ModelOfOtherColumns, PureComponentFailed
from models.onnx.session import ModelSession
from models.registry import Background, RecordedOutput, WeightsCard
from models.registry.registry import Registry
from tests.unit.evidence_pack import EVENT, SOURCE
from tests.unit.evidence_pack import stage_row as row_of
from tests.unit.onnx_networks import network
from tests.unit.test_fusing import fitted
from topics.pipeline.file import PipelineFile, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.records.decision import Decision, rfc3339_time
from topics.records.stage_batch import ModelRef

FILE = """
pipeline: p
event:
  id: name
  key: name
  time: at
  fields:
    name: {type: string}
    at: {type: timestamp}
    a: {type: number}
    b: {type: number}
    c: {type: number}
components:
  - name: features
    kind: extract_features
    from: [events]
    features: [{name: a, of: a}, {name: b, of: b}, {name: c, of: c}]
  - {name: product, import: "tests.unit.test_pure_components:Product", from: [features], pure: true}
  - {name: risk, kind: assess_risk, from: [features, product], model: {path: risk.onnx}}
  - {name: decision, kind: decide, from: [risk, product], model: {path: decision.onnx}}
weighting: {from: [product, risk, decision]}
policy: {thresholds: {decline: 0.5}}
"""
WEIGHTS = {"product": 0.2, "risk": 0.3, "decision": 0.5}
COLUMNS = ["a", "b", "c"]


class Product(Component):
    """a · b, and as a signal a share of it."""

    def transform(self, batch: Batch) -> StageOutput:
        a, b, _ = batch.inputs["features"].output.T
        return StageOutput((a * b)[:, None], (1 / (1 + np.exp(-a * b))).astype(np.float32))


class Share(Component):
    """a · b of numbers in [0, 1]."""

    def transform(self, batch: Batch) -> StageOutput:
        a, b, _ = batch.inputs["features"].output.T
        return StageOutput.of_signal(a * b)


class Novelty(Component):
    """What features' own model says."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(batch.inputs["features"].signal)


class Brittle(Share):
    """Fails on rows of an event with c above 10."""

    def transform(self, batch: Batch) -> StageOutput:
        if (batch.inputs["features"].output[:, 2] > 10).any():
            raise ArithmeticError("too much")
        return super().transform(batch)


class Unmade(Share):
    """Cannot be opened."""

    def load(self) -> None:
        raise OSError("no table")


class Shapeless(Component):
    """An output for one row, of however many."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput(np.zeros((1, 1)), np.zeros(batch.rows, np.float32))


class Boundless(Component):
    """Says what is no signal."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.full(batch.rows, 1.5))


class Meddling(Share):
    """Changes what it is given."""

    def transform(self, batch: Batch) -> StageOutput:
        batch.inputs["features"].output[:] = 0
        return super().transform(batch)


class Nothing(Component):
    """Forgets to return anything."""

    def transform(self, batch: Batch) -> Any:
        return None


def file_of(folder: Path, *changes: tuple[str, str]) -> PipelineFile:
    text = FILE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "risk.onnx").write_bytes(network(4))
    (folder / "decision.onnx").write_bytes(network(2))
    path = folder / "p.yaml"
    path.write_text(text)
    return load_pipeline(path)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return file_of(tmp_path).pipeline


def recorded(rows: int, seed: int) -> Floats64:
    return np.random.default_rng(seed).normal(size=(rows, 3))


def said(output: Floats, signal: Any = None) -> dict[str, RecordedOutput]:
    signal = np.zeros(len(output), np.float32) if signal is None else signal
    return {"features": RecordedOutput(output, signal, COLUMNS)}


SESSIONS = {"risk": fitted("forest", 4), "decision": fitted("linear", 2)}


def score_of(features: Floats64) -> Floats64:
    """As the agents come to it, from the features (N, 3)."""
    a, b, _ = features.T
    product = (a * b).astype(np.float32)[:, None]
    share = (1 / (1 + np.exp(-a * b))).astype(np.float32)
    risk = SESSIONS["risk"].signal(np.hstack([features.astype(np.float32), product]))
    decision = SESSIONS["decision"].signal(np.hstack([risk[:, None], product]))
    stages = {"product": share, "risk": risk, "decision": decision}
    score = np.zeros(len(features))
    for name, weight in WEIGHTS.items():
        score += weight * stages[name].astype(np.float64)
    return score


def explained(
    pipeline: Pipeline, events: Floats64, background: Floats64, weights: Mapping[str, float],
    component: Component,
) -> Attributions:  # fmt: skip
    score = ComposedScore.of(pipeline, weights, SESSIONS, {"features": 3}, {"product": component})
    explainer = Explainer(score, ColumnGroups.of(pipeline), Background(said(background)))
    return explainer.explain(said(events))


def test_the_players_are_what_a_pure_component_reads(pipeline: Pipeline) -> None:
    assert needed_components(pipeline, {"product": 1.0}) == ["features", "product"]
    assert ColumnGroups.of(pipeline).names == COLUMNS


def test_values_of_a_product_are_those_of_the_definition(pipeline: Pipeline) -> None:
    events, background = np.array([[0.5, 0.8, 9.0]]), np.array([[0.0, 0.0, 1.0], [0.2, 0.4, 2.0]])
    only = explained(pipeline, events, background, {"product": 1.0}, Share())
    # Of a · b in place of p · q: a gets ((a - p) · b + (a - p) · q) / 2, as b does in turn.
    of_a = np.mean([0.5 * 0.8 / 2, (0.3 * 0.8 + 0.3 * 0.4) / 2])
    of_b = np.mean([0.5 * 0.8 / 2, (0.4 * 0.5 + 0.4 * 0.2) / 2])
    assert only.base == pytest.approx(0.04)
    assert only.values[0] == pytest.approx([of_a, of_b, 0], abs=1e-7)


def test_values_are_those_of_shaps_own_exact_explainer(pipeline: Pipeline) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, which it brings along
        import shap

    events, background = recorded(4, 1), recorded(20, 2)
    ours = explained(pipeline, events, background, WEIGHTS, Product())
    assert ours.scores == pytest.approx(score_of(events), abs=1e-12)
    assert ours.base + ours.values.sum(axis=1) == pytest.approx(ours.scores, abs=1e-6)
    for row, event in enumerate(events):

        def mean_score(coalitions: Floats64, event: Floats64 = event) -> Floats64:
            return np.array([
                score_of(np.where(inside, event, background)).mean()
                for inside in coalitions.astype(bool)
            ])  # fmt: skip

        oracle = shap.explainers.Exact(mean_score, np.zeros((1, 3)))(np.ones((1, 3)))
        assert oracle.values[0] == pytest.approx(ours.values[row], abs=1e-6)
        assert float(np.ravel(oracle.base_values)[0]) == pytest.approx(ours.base, abs=1e-6)


def test_the_same_component_is_one_player_where_it_is_not_declared_pure(tmp_path: Path) -> None:
    pure, other = file_of(tmp_path).pipeline, file_of(tmp_path, (", pure: true", "")).pipeline
    events, background = recorded(3, 1), recorded(20, 2)

    def with_product(features: Floats64) -> dict[str, RecordedOutput]:
        stage = Product().transform(Batch(len(features), inputs={
            "features": StageOutput(features, np.zeros(len(features), np.float32)),
        }))  # fmt: skip
        product = RecordedOutput(stage.output, stage.signal, ["product"])
        return {**said(features), "product": product}

    score = ComposedScore.of(other, WEIGHTS, SESSIONS, {"features": 3, "product": 1})
    groups = ColumnGroups.of(other)
    assert groups.names == [*COLUMNS, "output of product"]
    explainer = Explainer(score, groups, Background(with_product(background)))
    as_player = explainer.explain(with_product(events))
    as_function = explained(pure, events, background, WEIGHTS, Product())
    assert as_player.scores == pytest.approx(as_function.scores, abs=1e-12)
    assert as_player.base == pytest.approx(as_function.base, abs=1e-12)
    assert (np.abs(as_player.values[:, 3]) > 1e-3).all()
    assert (np.abs(as_player.values[:, :2] - as_function.values[:, :2]).max(axis=1) > 1e-3).all()


def test_a_background_of_before_it_was_pure_has_no_player_for_it(pipeline: Pipeline) -> None:
    background = Background({
        **said(recorded(4, 1)),
        "product": RecordedOutput(np.zeros((4, 1)), np.zeros(4, np.float32), ["product"]),
    })  # fmt: skip
    assert ColumnGroups.of_each_column(pipeline, background).names == COLUMNS


def test_it_reads_features_as_they_were_recorded(pipeline: Pipeline) -> None:
    read = []

    class Reading(Share):
        def transform(self, batch: Batch) -> StageOutput:
            read.append(batch.inputs["features"].output.dtype)
            return super().transform(batch)

    events = np.array([[0.1, 0.1, 1e300]])  # as no model could read it
    explained(pipeline, events, np.zeros((2, 3)), {"product": 1.0}, Reading())
    assert {*read} == {np.dtype(np.float64)}


def test_it_reads_what_the_model_of_features_says_of_the_same_rows(tmp_path: Path) -> None:
    model = ", of: c}]\n    model: {path: novelty.onnx}"
    (tmp_path / "novelty.onnx").write_bytes(network(3))
    pipeline = file_of(tmp_path, (", of: c}]", model)).pipeline
    novelty = ModelSession.open(tmp_path / "novelty.onnx")
    events, background = recorded(2, 1), recorded(5, 2)
    sessions, weights = {"features": novelty}, {"product": 1.0}
    score = ComposedScore.of(pipeline, weights, sessions, {"features": 3}, {"product": Novelty()})
    wrong = np.full(5, 0.9, np.float32)
    explainer = Explainer(score, ColumnGroups.of(pipeline), Background(said(background, wrong)))
    ours = explainer.explain(said(events))
    assert ours.base == pytest.approx(novelty.signal(background.astype("f4")).mean())
    assert ours.scores == pytest.approx(novelty.signal(events.astype("f4")))


@pytest.mark.parametrize(
    ("component", "cause"),
    [
        (Brittle(), "ArithmeticError: too much"),
        (Shapeless(), r"output \(1, 1\) and signal \(2,\) instead of \(2, F\) and \(2,\)"),
        (Boundless(), r"its signal is not in \[0, 1\]"),
        (Meddling(), "read-only"),
        (Nothing(), "AttributeError"),
    ],
)
def test_what_breaks_the_promise_is_told(
    pipeline: Pipeline, component: Component, cause: str
) -> None:
    with pytest.raises(PureComponentFailed, match=f"product is declared pure, and fails .*{cause}"):
        explained(pipeline, np.ones((1, 3)), np.full((2, 3), 11.0), {"product": 1.0}, component)


def test_a_model_that_reads_other_columns_than_it_gives_is_refused(pipeline: Pipeline) -> None:
    class Wide(Component):
        def transform(self, batch: Batch) -> StageOutput:
            return StageOutput(np.zeros((batch.rows, 3)), np.zeros(batch.rows, np.float32))

    with pytest.raises(ModelOfOtherColumns, match=r"risk reads 4 columns, .* given 6"):
        explained(pipeline, recorded(1, 1), recorded(2, 2), {"risk": 1.0}, Wide())


def versions_of(file: PipelineFile) -> tuple[RegistryVersions, Registry]:
    registry = Registry(file.path.parent / "registry")
    card = WeightsCard(values={"product": 1.0}, rows=2, created_at="", metrics={}, models={})
    registry.add_weights("p", card, Background(said(np.array([[0.0, 0.0, 1.0], [0.2, 0.4, 2.0]]))))
    return RegistryVersions(file, registry), registry


def event_of(file: PipelineFile, features: list[float], score: float, code: str) -> RecordedEvent:
    """An event that component *product* alone has decided about."""
    share = {"signal": score, "weight": 1.0, "contribution": score, "model": "product",
             "digest": code, "variant": "code"}  # fmt: skip
    decision = Decision.model_validate({
        "schema": 1, "event_id": EVENT["name"], "pipeline": "p", "decision": "approve",
        "decided_by": "score", "score": score, "contributions": {"product": share},
        "degraded": True, "missing": ["risk", "decision"], "missing_because": {}, "weights": 1,
        "policy": "p@1", "source": SOURCE.model_dump(), "event_time": rfc3339_time(1),
        "decided_at": rfc3339_time(2), "latency_ms": 1.0,
    })  # fmt: skip
    row = row_of("features", features, 0, ModelRef("features", "", "code"))
    return RecordedEvent(decision, {"features": row}, {})


def test_decisions_are_explained_by_the_code_that_decided(tmp_path: Path) -> None:
    file = file_of(tmp_path, (":Product", ":Brittle"))
    versions, registry = versions_of(file)
    code = open_component(file.pipeline, "product", registry, tmp_path).model.digest
    explainer = DecisionExplainer(file.pipeline, versions)
    good = event_of(file, [0.5, 0.5, 1], 0.25, code)
    bad = event_of(file, [0.5, 0.5, 11], 0.25, code)
    assert explainer.wanted(good.decision) == ["features"]
    first, failed, last = explainer.explain([good, bad, good])
    assert isinstance(first, Explanation)
    assert first == last, "what it fails on costs that event"
    assert first.models == {"product": code}
    assert {each.group: each.value for each in first.groups} == pytest.approx(
        {"a": np.mean([0.125, 0.3 * 0.9 / 2]), "b": np.mean([0.125, 0.1 * 0.7 / 2]), "c": 0},
        abs=1e-7,
    )
    assert isinstance(failed, CodeFails)
    assert failed.reason == "own_code"
    assert "ArithmeticError: too much; mend it, or take pure: true out" in str(failed)


def refusal(file: PipelineFile, code: str = "") -> NotExplained:
    versions, _ = versions_of(file)
    (result,) = DecisionExplainer(file.pipeline, versions).explain([
        event_of(file, [0.5, 0.5, 1], 0.25, code)
    ])  # fmt: skip
    assert isinstance(result, NotExplained)
    return result


def test_code_that_is_gone_or_does_not_load_is_told(tmp_path: Path) -> None:
    other = refusal(file_of(tmp_path), "sha256:0")
    assert isinstance(other, VersionGone)
    assert "the code of product (sha256:0) decided about this event and is no longer" in str(other)
    unmade = refusal(file_of(tmp_path, (":Product", ":Unmade")))
    assert isinstance(unmade, CodeFails)
    assert "component product: import 'tests.unit.test_pure_components:Unmade' does not load: " in (
        str(unmade)
    )
    assert "OSError: no table" in str(unmade)
    missing = refusal(file_of(tmp_path, (":Product", ":Missing")))
    assert isinstance(missing, CodeFails)


def test_pure_is_for_own_components_that_read_others_and_implies_deterministic(
    tmp_path: Path,
) -> None:
    assert file_of(tmp_path).pipeline.component("product").is_deterministic
    not_pure = file_of(tmp_path, (", pure: true", "")).pipeline
    assert not not_pure.component("product").is_deterministic
    assert not not_pure.component("risk").is_deterministic
