"""Candidates are judged on later rows only, the same on every engine, and nothing is registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from agents.cli import app
from models.errors import EstimatorError, FitFailed, NotTrainable, OneClass, UnknownParameter
from models.registry.registry import Registry
from models.training.data import TrainingData
from models.training.engines import Engine, InProcess
from models.training.tune import TuningResult, choices, fewest_rows, forward_folds
from models.training.tune_pipeline import tune
from tests.unit.test_engines import opened
from tests.unit.test_training import FOLDER, card_fraud, open_component, transactions
from topics.pipeline.edits import ParametersNotEditable, with_parameters
from topics.pipeline.schema import Pipeline

CANDIDATES: dict[str, dict[str, list[Any]]] = {
    "risk-forest": {"max_depth": [1, 4, 6], "min_samples_leaf": [20, 900]},
    "decision": {"C": [1e-9, 1.0]},
}


def with_candidates(candidates: dict[str, dict[str, list[Any]]] = CANDIDATES) -> Pipeline:
    written = card_fraud().model_dump(by_alias=True)
    for component in written["components"]:
        component["model"]["candidates"] = candidates.get(component["name"], {})
    return Pipeline.model_validate(written)


def tuned(
    tmp_path: Path, data: TrainingData | None = None, engine: Engine | None = None, **options: Any
) -> list[TuningResult]:
    pipeline = options.pop("pipeline", None) or with_candidates()
    return tune(
        pipeline, FOLDER, data or transactions(), Registry(tmp_path / "registry"),
        open_component=open_component, engine=engine or InProcess(), **options,
    )  # fmt: skip


def test_folds_are_fitted_on_rows_before_those_that_they_are_judged_on() -> None:
    times, labels = np.arange(400, dtype=np.int64), np.arange(400) % 3 == 0
    for before, after in forward_folds(times, labels, delay_ms=30):
        assert before[-1] + 30 <= after[0]
        assert before[-1] + 31 > after[0], "no more is left out than need be"
        assert before[0] == 0
    assert len(after) == 100
    assert after[-1] == 399


def test_rows_without_times_are_all_fitted_on() -> None:
    labels = np.arange(400) % 3 == 0
    assert [len(before) for before, _ in forward_folds(None, labels, 30)] == [100, 200, 300]
    assert [len(before) for before, _ in forward_folds(np.arange(400), labels, 900)] == [
        100, 200, 300,
    ]  # fmt: skip


def test_a_fold_of_one_label_is_an_error() -> None:
    with pytest.raises(OneClass, match=r"all labels are 0 in rows 0 to 99"):
        forward_folds(None, np.arange(400) >= 150, 0)


def test_the_best_candidate_is_one_that_can_learn(tmp_path: Path) -> None:
    forest, decision = tuned(tmp_path)
    assert (forest.component, forest.rows) == ("risk-forest", 1800)
    assert (decision.component, decision.rows) == ("decision", 600)
    assert forest.best.parameters["min_samples_leaf"] == 20
    assert forest.best.average_precision > 1.5 * forest.candidates[-1].average_precision
    assert len(forest.candidates) == 6
    assert [candidate.parameters for candidate in forest.candidates if candidate.in_file] == [
        {"max_depth": 4, "min_samples_leaf": 20}
    ]
    assert not (tmp_path / "registry").exists(), "tuning registers nothing"


def test_rows_that_training_reports_on_change_no_score(tmp_path: Path) -> None:
    data = transactions()
    labels = data.labels.copy()
    labels[2400:] = ~labels[2400:]
    assert tuned(tmp_path, TrainingData(data.columns, labels)) == tuned(tmp_path)
    labels[1800:2400] = ~labels[1800:2400]
    forest, decision = tuned(tmp_path, TrainingData(data.columns, labels))
    assert [forest] == tuned(tmp_path, only=["risk-forest"])
    assert [decision] != tuned(tmp_path, only=["decision"])


@pytest.mark.parametrize("name", ["local", "ray"])
def test_scores_are_the_same_on_every_engine(name: str, tmp_path: Path) -> None:
    with opened(name) as engine:
        assert tuned(tmp_path, engine=engine) == tuned(tmp_path)


def test_rounds_are_told(tmp_path: Path) -> None:
    rounds: list[str] = []
    tuned(tmp_path, only=["risk-forest"], on_round=rounds.append)
    assert set(rounds) == {"risk-forest"}


def test_candidates_start_on_few_rows_where_positives_allow_it() -> None:
    assert fewest_rows(9000, count=9, rarest=1000) == 1000
    assert fewest_rows(9000, count=9, rarest=40) == 3000
    assert fewest_rows(9000, count=9, rarest=5) == 9000
    assert fewest_rows(9000, count=1, rarest=1000) == 9000


def test_of_many_combinations_some_are_drawn_and_the_files_own_is_among_them() -> None:
    grid: dict[str, list[Any]] = {"a": list(range(10)), "b": list(range(10))}
    drawn = choices(grid, {"a": 99, "b": 0}, most=7, seed=1)
    assert drawn[0] == {"a": 99, "b": 0}
    assert len(drawn) == 8
    assert drawn == choices(grid, {"a": 99, "b": 0}, most=7, seed=1)
    assert drawn != choices(grid, {"a": 99, "b": 0}, most=7, seed=2)


@pytest.mark.parametrize(
    ("candidates", "error", "message"),
    [
        ({}, NotTrainable, "no component has model: candidates:"),
        ({"risk-forest": {"depth": [1]}}, UnknownParameter, "no parameter depth; it has"),
        ({"risk-forest": {"max_depth": [-1]}}, FitFailed, "max_depth"),
    ],
)
def test_candidates_that_cannot_be_tried_are_one_line(
    candidates: dict[str, Any], error: type[EstimatorError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message) as caught:
        tuned(tmp_path, pipeline=with_candidates(candidates))
    assert "\n" not in str(caught.value)


def test_a_component_without_candidates_is_named_with_those_that_have_some(tmp_path: Path) -> None:
    with pytest.raises(NotTrainable, match=r"'features' .*candidates: .*: risk-forest, decision"):
        tuned(tmp_path, only=["features"])


FILE = """\
components:
  - name: forest      # the best one
    model:
      estimator: a.B
      parameters:     # by hand
        depth: 4      # deep enough
        leaf: 5
  - {name: linear, model: {estimator: a.C, parameters: {C: 1.0, l1: null}}}  # short
"""


def test_parameters_are_written_and_nothing_else_changes() -> None:
    changed = with_parameters(FILE, "forest", {"depth": 8, "kind": "gini"})
    assert changed == FILE.replace("depth: 4 ", "kind: gini\n        depth: 8 ")
    changed = with_parameters(FILE, "linear", {"l1": 1e-05, "C": None})
    assert changed == FILE.replace("C: 1.0, l1: null", "C: null, l1: 1.0e-05")


@pytest.mark.parametrize(
    "text", [FILE.replace("a.B", "&b a.B").replace("depth: 4", "depth: *b"), "components: []"]
)
def test_a_file_that_is_not_understood_is_left_alone(text: str) -> None:
    with pytest.raises(ParametersNotEditable, match="parameters of linear are not written"):
        with_parameters(text.replace("name: linear", "name: other"), "linear", {"C": 2})


def test_the_command_says_what_is_best_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANABRANCH_HOME", str(tmp_path / "home"))
    text = (FOLDER / "tumour-triage.yaml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)
    place, forest = next(
        (at, each) for at, each in enumerate(written["components"]) if each["name"] == "risk-forest"
    )
    forest["model"]["candidates"] = {"max_depth": [1, 5]}
    forest["model"]["parameters"]["max_depth"] = 1
    forest["model"]["parameters"]["n_estimators"] = 10
    file = tmp_path / "triage.yaml"
    file.write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    command = ["tune", str(file), "--component", "risk-forest"]
    done = CliRunner().invoke(app, [*command, "--json", "--write"], catch_exceptions=False)
    (content,) = json.loads(done.stdout)
    assert content["component"] == "risk-forest"
    assert {each["parameters"]["max_depth"] for each in content["candidates"]} == {1, 5}
    best = content["candidates"][0]["parameters"]["max_depth"]
    forest["model"]["parameters"]["max_depth"] = best
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["components"][place] == forest
    shown = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "average precision" in " ".join(shown.split())
    assert "keep them" in shown
    assert not (tmp_path / "home" / "registry").exists()
