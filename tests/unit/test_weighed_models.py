"""Weights name the models they were learned for: with others it is said, counted or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from agents.cli import app
from agents.join.stage_rows import JoinedRows, ModelRun, StageRows
from agents.service.open_pipeline import check_weighed_models, open_pipeline
from agents.service.open_version import open_weights
from agents.weigh.decision_records import Weights
from agents.weigh.decision_rule import ActiveDecisionRule, DecisionRule, rows_of_other_models
from models.onnx.weighed_models import WeightsOfOtherModels, learned_for
from models.registry.registry import Registry, WeightsCard
from tests.unit.onnx_networks import network
from tests.unit.registry_cards import CARD
from tests.unit.test_importing import PIPELINE
from topics.pipeline.file import PipelineFile, load_pipeline
from topics.records.control import ControlState, Deployment, VersionRef
from topics.records.stage_batch import ModelRef

READS = CARD.model_copy(update={"inputs": ["a", "b", "c"], "n_inputs": 3})
ONE, OTHER, THIRD = network(3), network(3) + b"\x5a\x00", network(3) + b"\x5a\x01x"
"""Three files: the last fields are a description of the graph's maker."""


def card(models: Mapping[str, str]) -> WeightsCard:
    return WeightsCard(
        values={"risk": 0.5, "filed": 0.5}, rows=9, created_at="2026-01-01T00:00:00+00:00",
        metrics={}, models=dict(models),
    )  # fmt: skip


def file_in(folder: Path, weights: str = "learned", version: int | None = None) -> PipelineFile:
    """A pipeline of a registered model and of a file, both weighed."""
    written = PIPELINE.model_dump(by_alias=True, mode="json", exclude_defaults=True)
    keep = ("features", "risk", "filed")
    written["components"] = [each for each in written["components"] if each["name"] in keep]
    if version is not None:
        written["components"][1]["model"]["version"] = version
    written["weighting"] = {"from": ["risk", "filed"], "weights": weights}
    (folder / "filed.onnx").write_bytes(ONE)
    (folder / "p.yaml").write_text(yaml.safe_dump(written))
    return load_pipeline(folder / "p.yaml")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """One version of risk, and weights that were learned for it and for the file."""
    monkeypatch.setenv("ANABRANCH_REGISTRY", str(tmp_path / "registry"))
    registry = Registry(tmp_path / "registry")
    version = registry.add("p", "risk", ONE, READS)
    registry.add_weights("p", card({"risk": version.digest, "filed": version.digest}))
    return registry


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.message
        for record in caplog.records
        if "were learned for other models" in record.message
    ]


def test_with_the_models_they_were_learned_for_weights_say_nothing(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for weights in ("learned", "strict"):
        open_pipeline(file_in(tmp_path, weights), registry)
    assert said(caplog) == []


def test_another_model_is_said_at_the_start_and_refused_where_weights_are_strict(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.add("p", "risk", OTHER, READS)
    open_pipeline(file_in(tmp_path), registry)
    (line,) = said(caplog)
    assert "weights@1 of p" in line
    assert "in service: risk@2 instead of risk@1; " in line
    with pytest.raises(WeightsOfOtherModels, match=r"\(risk@2 instead of risk@1\).*weights: stri"):
        open_pipeline(file_in(tmp_path, "strict"), registry)
    open_pipeline(file_in(tmp_path, "strict"), registry, ["risk"])  # it weighs nothing
    open_pipeline(file_in(tmp_path, "strict", version=1), registry)


def test_another_file_is_another_model(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = file_in(tmp_path)
    (tmp_path / "filed.onnx").write_bytes(OTHER)
    open_pipeline(file, registry)
    (line,) = said(caplog)
    assert "filed@filed.onnx instead of filed sha256:" in line


def test_what_is_promoted_counts_and_not_what_is_newest(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = registry.get("p", "risk", 1), registry.add("p", "risk", OTHER, READS)
    for version, expected in ((first, 0), (second, 1)):
        caplog.clear()
        ref = VersionRef(version=version.version, digest=version.digest)
        state = ControlState(deployments={"risk": Deployment(champion=ref)})
        open_pipeline(file_in(tmp_path), registry, None, state)
        assert len(said(caplog)) == expected


def test_a_variant_counts_as_the_model_that_it_was_made_of(
    registry: Registry, tmp_path: Path
) -> None:
    variant = READS.model_copy(update={"variant": "int8-static", "parent": 1})
    made = registry.add("p", "risk", OTHER, variant)
    file = file_in(tmp_path, "strict")
    check_weighed_models(file, registry, ControlState(), 1)
    assert made.digest in open_weights(file.pipeline, registry).learned_for["risk"]
    registry.add_weights("p", card({"risk": made.digest}))
    back = file_in(tmp_path, "strict", version=1)
    check_weighed_models(back, registry, ControlState(), 2)
    registry.add("p", "risk", THIRD, READS.model_copy(update={"parent": 1}))  # fine-tuned of it
    with pytest.raises(WeightsOfOtherModels, match="risk@3 instead of risk@2"):
        check_weighed_models(file, registry, ControlState(), 2)


def test_weights_of_the_file_and_old_ones_that_name_no_models_hold_for_any(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.add("p", "risk", OTHER, READS)
    check_weighed_models(file_in(tmp_path, "strict"), registry, ControlState(), 0)
    registry.add_weights("p", card({}))
    open_pipeline(file_in(tmp_path, "strict"), registry)
    assert said(caplog) == []
    assert learned_for(registry, "p", {}) == {}


def test_rows_are_counted_by_what_has_made_them() -> None:
    right, wrong = ModelRef("risk@1", "sha256:1", "fp32"), ModelRef("risk@2", "sha256:2", "fp32")
    present = np.array([True, True, False, True, True])
    stage = StageRows(
        present, np.zeros((5, 1)), np.zeros(5), (ModelRun(0, right), ModelRun(2, wrong)), (),
        np.ones(5, np.bool_),
    )  # fmt: skip
    joined = JoinedRows.__new__(JoinedRows)
    object.__setattr__(joined, "stages", {"risk": stage, "plain": stage})
    assert rows_of_other_models(joined, {"risk": frozenset(["sha256:1"])}) == {"risk": 2}
    assert rows_of_other_models(joined, {"risk": frozenset(["sha256:1", "sha256:2"])}) == {}
    assert rows_of_other_models(joined, {}) == {}


def test_weights_that_hold_for_more_models_by_now_have_not_taken_over(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    before = DecisionRule.of(file, Weights({"risk": 0.5, "filed": 0.5}, 3))
    slot, noted = ActiveDecisionRule(before), list[int]()

    def note(versions: tuple[int, int], partition: int, offset: int, *, takes_over: bool) -> None:
        assert (partition, takes_over) == (0, versions[0] == 4)
        noted.append(offset)

    slot.starts.listener = note
    slot.decided(before, 0, 10)
    more = replace(before.weights, learned_for={"risk": frozenset(["sha256:1"])})
    slot.decided(DecisionRule.of(file, more), 0, 20)
    slot.decided(DecisionRule.of(file, replace(more, version=4)), 0, 30)
    assert noted == [10, 30]


def test_the_list_of_models_and_check_say_it(registry: Registry, tmp_path: Path) -> None:
    file = file_in(tmp_path, "strict").path
    run = CliRunner()
    assert run.invoke(app, ["check", str(file)]).exit_code == 0
    registry.add("p", "risk", OTHER, READS)
    listed = run.invoke(app, ["models", "list", str(file)]).stdout
    assert "weights@1 were learned for other models than risk@2" in " ".join(listed.split())
    (weights,) = json.loads(run.invoke(app, ["models", "list", str(file), "--json"]).stdout)[
        "weights"
    ]
    assert weights["other_models"] == {"risk": "risk@2"}
    assert weights["models"]["risk"] == registry.get("p", "risk", 1).digest
    checked = run.invoke(app, ["check", str(file)])
    assert checked.exit_code != 0
    assert "weighting.weights: weights@1" in str(checked.exception)
