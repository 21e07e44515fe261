"""Scores are explained by groups of features: additively, exactly, of the whole composed score."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.arrays import Floats32, Floats64
from models.explain.attribution import BackgroundOutOfDate, Explainer, check_columns
from models.explain.column_groups import ColumnGroups
from models.explain.composed_score import ComposedScore, ModelUnnamed, needed_components
from models.explain.libraries import Library
from models.explain.stage_functions import ModelOfOtherColumns
from models.onnx.session import ModelSession
from models.registry import Background, RecordedOutput
from tests.unit.test_fusing import fitted
from topics.errors import MissingExtra
from topics.pipeline import Pipeline, explained_groups, find_pipeline, load_pipeline

SHAP: tuple[Library | None, ...] = (None, "shap")
LIME: tuple[Library | None, ...] = (None, "lime")
WIDTHS = {"features": 9, "terminals": 6}
WEIGHTS = {"features": 0.1, "risk-linear": 0.2, "risk-forest": 0.3, "decision": 0.4}
OWN = {
    "name": "velocity", "import": "my.module:Velocity", "from": ["features"],
}  # fmt: skip


def card_fraud(edit: Mapping[str, Any] | None = None) -> Pipeline:
    content = load_pipeline(find_pipeline("card-fraud")).pipeline.model_dump(by_alias=True)
    return Pipeline.model_validate({**content, "explain": {}, **(edit or {})})


def with_own_component() -> Pipeline:
    """What `risk-linear` reads of features is a component of one's own."""
    content = card_fraud().model_dump(by_alias=True)
    content["components"].append(OWN)
    for component in content["components"]:
        if component["name"] == "risk-linear":
            component["from"] = ["velocity", "terminals"]
    content["weighting"]["from"].append("velocity")
    return Pipeline.model_validate(content)


@cache
def sessions() -> dict[str, ModelSession]:
    return {
        "features": fitted("novelty", 9), "risk-linear": fitted("linear", 15),
        "risk-forest": fitted("forest", 15), "decision": fitted("linear", 17),
    }  # fmt: skip


def recorded(rows: int, seed: int, widths: Mapping[str, int] = WIDTHS) -> Background:
    rng = np.random.default_rng(seed)
    return Background({
        name: RecordedOutput(
            rng.normal(size=(rows, width)), rng.random(rows).astype(np.float32),
            [f"{name}_{place}" for place in range(width)],
        )
        for name, width in widths.items()
    })  # fmt: skip


def one_by_one(outputs: Mapping[str, RecordedOutput], weights: Mapping[str, float]) -> Floats64:
    """The score as the agents come to it."""
    features, terminals = (outputs[name].output.astype(np.float32) for name in WIDTHS)
    both = np.concatenate([features, terminals], axis=1)
    models = sessions()
    signals: dict[str, Floats32] = {
        "features": models["features"].signal(features),
        "risk-linear": models["risk-linear"].signal(both),
        "risk-forest": models["risk-forest"].signal(both),
    }
    read = np.stack([signals["risk-linear"], signals["risk-forest"]], axis=1)
    signals["decision"] = models["decision"].signal(np.concatenate([both, read], axis=1))
    total = np.zeros(len(both))
    for name, weight in weights.items():
        total += weight * signals[name].astype(np.float64)
    return total


def explainer(
    weights: Mapping[str, float], background: Background, groups: ColumnGroups | None = None
) -> Explainer:
    score = ComposedScore.of(card_fraud(), weights, sessions(), WIDTHS)
    return Explainer(score, groups or ColumnGroups.of(card_fraud()), background)


def by_definition(event: Background, background: Background, weights: Mapping[str, float]) -> Any:
    """Values by each order of the four groups, a background row after the other."""
    groups, of_columns = ColumnGroups.of(card_fraud()), {}
    for name, width in WIDTHS.items():
        of_columns[name] = groups.of_columns(name, width)
    worth: dict[frozenset[int], float] = {}

    def value(inside: frozenset[int]) -> float:
        if inside not in worth:
            mixed = {
                name: RecordedOutput(
                    np.where(
                        np.isin(of_columns[name], [*inside]),
                        event.outputs[name].output, rows.output,
                    ),
                    rows.signal, rows.columns,
                )
                for name, rows in background.outputs.items()
            }  # fmt: skip
            worth[inside] = float(one_by_one(mixed, weights).mean())
        return worth[inside]

    values = np.zeros(4)
    orders = [*permutations(range(4))]
    for order in orders:
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            values[player] += value(before | {player}) - value(before)
    return values / len(orders)


def test_by_default_a_group_is_a_field_or_the_past_of_a_key() -> None:
    groups = explained_groups(card_fraud())
    assert [*groups] == ["amount", "occurred_at", "past of customer_id", "past of terminal_id"]
    assert [feature.feature for feature in groups["occurred_at"]] == ["is_weekend", "is_night"]
    columns = ColumnGroups.of(card_fraud())
    assert columns.of_columns("features", 9).tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 2]
    assert columns.of_columns("terminals", 6).tolist() == [3] * 6


def test_the_file_puts_features_together_otherwise_and_the_others_stay() -> None:
    groups = {"money": ["amount", "customer_mean_amount"], "terminal": ["terminals"],
              "risk": ["features.is_night"]}  # fmt: skip
    pipeline = card_fraud({"explain": {"groups": groups}})
    columns = ColumnGroups.of(pipeline)
    assert columns.names == ["money", "terminal", "risk", "occurred_at", "past of customer_id"]
    assert columns.of_columns("features", 9).tolist() == [0, 3, 2, 4, 4, 4, 0, 0, 0]
    assert columns.of_columns("terminals", 6).tolist() == [1] * 6


def test_values_are_those_of_the_definition_and_sum_to_the_score() -> None:
    background, events = recorded(20, 1), recorded(5, 2)
    explained = explainer(WEIGHTS, background).explain(events.outputs)
    assert explained.errors is None
    assert explained.base == pytest.approx(one_by_one(background.outputs, WEIGHTS).mean())
    assert explained.scores == pytest.approx(one_by_one(events.outputs, WEIGHTS), abs=1e-12)
    assert explained.base + explained.values.sum(axis=1) == pytest.approx(
        explained.scores, abs=1e-12
    )
    for row, values in enumerate(explained.values):
        one = slice(row, row + 1)
        event = Background({
            name: RecordedOutput(each.output[one], each.signal[one], each.columns)
            for name, each in events.outputs.items()
        })  # fmt: skip
        assert values == pytest.approx(by_definition(event, background, WEIGHTS), abs=1e-9)


def test_stages_that_are_missing_count_for_nothing() -> None:
    background, events = recorded(20, 1), recorded(3, 2)
    present = {"risk-linear": 0.25, "risk-forest": 0.75}
    assert needed_components(card_fraud(), present) == [
        "features", "terminals", "risk-linear", "risk-forest",
    ]  # fmt: skip
    explained = explainer(present, background).explain(events.outputs)
    assert explained.scores == pytest.approx(one_by_one(events.outputs, present), abs=1e-12)
    alone = explainer({"features": 1.0}, background).explain({
        "features": events.outputs["features"]
    })  # fmt: skip
    assert alone.scores == pytest.approx(one_by_one(events.outputs, {"features": 1.0}), abs=1e-12)
    assert alone.values[:, 3] == pytest.approx(0, abs=1e-12), "novelty knows no terminal"
    assert (np.abs(alone.values[:, :3]) > 1e-6).any(axis=0).all()


def test_a_stage_without_weight_is_not_even_run() -> None:
    weights = {"features": 0.0, "risk-linear": 1.0, "decision": 0.0}
    assert needed_components(card_fraud(), weights) == ["features", "terminals", "risk-linear"]
    only = {"risk-linear": sessions()["risk-linear"]}
    score = ComposedScore.of(card_fraud(), weights, only, WIDTHS)
    events = recorded(4, 3)
    outputs = {name: each.output for name, each in events.outputs.items()}
    signals = {name: each.signal for name, each in events.outputs.items()}
    assert score.scores(outputs, signals) == pytest.approx(
        one_by_one(events.outputs, {"risk-linear": 1.0}), abs=1e-12
    )


def test_a_component_of_ones_own_is_one_player_with_what_it_said() -> None:
    pipeline, widths = with_own_component(), {**WIDTHS, "velocity": 9}
    weights = {"risk-linear": 0.5, "velocity": 0.5}
    assert needed_components(pipeline, weights) == ["terminals", "velocity", "risk-linear"]
    score = ComposedScore.of(pipeline, weights, sessions(), widths)
    groups, background = ColumnGroups.of(pipeline), recorded(10, 1, widths)
    explained = Explainer(score, groups, background).explain(recorded(2, 2, widths).outputs)
    assert explained.base + explained.values.sum(axis=1) == pytest.approx(explained.scores)
    named = dict(zip(groups.names, explained.values.T, strict=True))
    assert (np.abs(named.pop("output of velocity")) > 1e-6).all()
    terminals = next(name for name in groups.names if "terminal" in name)
    assert (np.abs(named.pop(terminals)) > 1e-6).all()
    others = np.array([*named.values()])
    assert others == pytest.approx(0, abs=1e-12), "what it read adds nothing beside it"


def test_many_groups_are_estimated_with_their_errors() -> None:
    background, events = recorded(10, 1), recorded(2, 2)
    groups = ColumnGroups.of_each_column(card_fraud(), background)
    assert len(groups.names) == 15
    explained = explainer(WEIGHTS, background, groups).explain(events.outputs)
    assert explained.errors is not None
    assert explained.values.shape == explained.errors.shape == (2, 15)
    assert explained.base + explained.values.sum(axis=1) == pytest.approx(
        explained.scores, abs=1e-12
    )
    again = explainer(WEIGHTS, background, groups).explain(events.outputs)
    assert (again.values == explained.values).all(), "the same orders, so the same estimates"
    whole = explainer(WEIGHTS, background).explain(events.outputs).values
    of_columns = [ColumnGroups.of(card_fraud()).of_columns(*item) for item in WIDTHS.items()]
    summed = np.stack(
        [
            explained.values[:, np.concatenate(of_columns) == group].sum(axis=1)
            for group in range(4)
        ],
        axis=1,
    )
    assert np.abs(summed - whole).max() < 0.1, "the columns of a group add about what it adds"


def test_values_are_those_of_shaps_own_exact_explainer() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, which it brings along
        import shap

    background, events = recorded(20, 1), recorded(3, 2)
    groups = ColumnGroups.of(card_fraud())
    explained = explainer(WEIGHTS, background).explain(events.outputs)
    for row in range(3):

        def mean_score(coalitions: Floats64, row: int = row) -> Floats64:
            scores = []
            for inside in coalitions.astype(bool):
                mixed = {
                    name: RecordedOutput(
                        np.where(
                            inside[groups.of_columns(name, WIDTHS[name])],
                            events.outputs[name].output[row], rows.output,
                        ),
                        rows.signal, rows.columns,
                    )
                    for name, rows in background.outputs.items()
                }  # fmt: skip
                scores.append(one_by_one(mixed, WEIGHTS).mean())
            return np.array(scores)

        oracle = shap.explainers.Exact(mean_score, np.zeros((1, 4)))(np.ones((1, 4)))
        assert oracle.values[0] == pytest.approx(explained.values[row], abs=1e-6)
        assert float(np.ravel(oracle.base_values)[0]) == pytest.approx(explained.base, abs=1e-6)


def test_columns_that_are_called_by_values_of_a_sensitive_field_are_one_group() -> None:
    content = card_fraud().model_dump(by_alias=True)
    content["event"]["fields"]["country"] = {"type": "string", "sensitive": True}
    content["components"][0]["features"] = [
        {"name": "amount", "of": "amount"},
        {"name": "country", "of": "country", "apply": "one_hot", "choices": ["CH", "DE"]},
    ]
    columns = ["amount", "country=CH", "country=DE"]
    rows = RecordedOutput(np.zeros((3, 3)), np.zeros(3, np.float32), columns)
    of_columns = ColumnGroups.of_each_column(
        Pipeline.model_validate(content), Background({"features": rows})
    )
    assert of_columns.names == ["amount", "country"]
    assert of_columns.of_columns("features", 3).tolist() == [0, 1, 1]


@pytest.mark.parametrize("columns", [False, True])
def test_shap_says_the_same_by_request(columns: bool) -> None:
    background, events = recorded(10, 1), recorded(2, 2)
    groups = ColumnGroups.of_each_column(card_fraud(), background) if columns else None
    explain = explainer(WEIGHTS, background, groups)
    ours, theirs = (explain.explain(events.outputs, library=each) for each in SHAP)
    assert theirs.values.sum(axis=1) + theirs.base == pytest.approx(theirs.scores, abs=1e-6)
    if columns:
        assert ours.errors is not None
        assert (np.abs(theirs.values - ours.values) < 0.01 + 6 * ours.errors).all()
    else:
        assert theirs.values == pytest.approx(ours.values, abs=1e-6)


def test_lime_ranks_the_groups_of_a_score_that_is_a_sum_in_the_same_way() -> None:
    background, events = recorded(10, 1), recorded(5, 2)
    explain = explainer(WEIGHTS, background)
    ours, theirs = (explain.explain(events.outputs, library=each) for each in LIME)
    top = [np.abs(each.values).argmax(axis=1) for each in (ours, theirs)]
    assert (top[0] == top[1]).sum() >= 4
    assert (
        np.sign(ours.values)[range(5), top[0]] == np.sign(theirs.values)[range(5), top[0]]
    ).all()
    again = explain.explain(events.outputs, library="lime")
    assert (again.values == theirs.values).all()


def test_a_library_that_is_not_there_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lime.lime_tabular", None)
    explain = explainer(WEIGHTS, recorded(10, 1))
    with pytest.raises(MissingExtra, match="--method lime needs the extra 'explain'"):
        explain.explain(recorded(1, 2).outputs, library="lime")


def test_a_background_of_other_columns_is_refused() -> None:
    events = recorded(2, 2).outputs
    renamed = RecordedOutput(events["terminals"].output, events["terminals"].signal, [*"abcdef"])
    explain = explainer(WEIGHTS, recorded(5, 1))
    with pytest.raises(BackgroundOutOfDate, match=r"of terminals than .*terminals_5 instead of a,"):
        explain.explain({**events, "terminals": renamed})
    with pytest.raises(BackgroundOutOfDate, match="none instead of amount"):
        check_columns({}, {"features": ["amount"]})


def test_a_model_that_reads_other_columns_than_were_recorded_is_refused() -> None:
    with pytest.raises(ModelOfOtherColumns, match=r"risk-forest reads 15 columns, .* given 14"):
        ComposedScore.of(
            card_fraud(), {"risk-forest": 1.0}, sessions(), {"features": 9, "terminals": 5}
        )


def test_a_score_whose_model_nothing_names_is_refused() -> None:
    with pytest.raises(ModelUnnamed, match="risk-linear"):
        ComposedScore.of(card_fraud(), {"risk-linear": 1.0}, {}, WIDTHS)


def test_a_file_says_of_every_word_of_its_groups_what_is_wrong(tmp_path: Path) -> None:
    from topics.pipeline.file import PipelineFileError

    text = find_pipeline("card-fraud").read_text().split("\nexplain:")[0]
    text = text.replace("{name: terminal_count,", "{name: is_night,")
    text += """
explain:
  groups:
    money: [amount, amuont]
    time: [is_night, is_weekend, amount]
    risk: [risk-linear]
"""
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(PipelineFileError) as caught:
        load_pipeline(path)
    told = {field: message for _, field, message in caught.value.problems}
    assert told == {
        "explain.groups.money[1]": "no feature 'amuont'; known: amount, is_weekend, is_night, "
        "customer_count, customer_mean_amount, terminal_risk",
        "explain.groups.time[0]": "'is_night' is a feature of several components: say "
        "features.is_night or terminals.is_night",
        "explain.groups.time[2]": "'amount' is in 'money' already: a feature is in one group",
        "explain.groups.risk[0]": "'risk-linear' is computed from other components: name the "
        "features that it reads",
    }
