"""An explored outcome counts 1 / propensity times: in fits, in figures, and in comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.commands.labelled_events import from_file
from models.errors import NoWeights
from models.learned_weights import learn_weights
from models.onnx.session import ModelSession
from models.registry.registry import Registry
from models.report.decision_costs import least_cost, policy_result
from models.report.quality import curves, quality
from models.report.sequential_test import SequentialTest
from models.report.training_report import cutoffs
from models.training.data import TrainingData
from models.training.estimators import load_estimator
from models.training.fit import fitted_model
from tests.unit.test_comparer import decision, shadow
from tests.unit.test_training import card_fraud, trained, transactions
from topics.pipeline.policy import Policy
from topics.pipeline.schema import Pipeline

COSTS = {
    "approve": {"positive": 100, "negative": 0}, "review": {"positive": 10, "negative": 5},
    "decline": {"positive": 0, "negative": 20},
}  # fmt: skip


def rows(n: int = 600, seed: int = 0) -> tuple[Any, Any, Any]:
    """Scores, labels, and how often each row counts, in whole numbers."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.2
    scores = np.clip(rng.beta(2, 8, n) + 0.3 * labels, 0, 1)
    return scores, labels, rng.choice([1, 5, 20], n)


def test_figures_of_weighed_rows_are_those_of_rows_that_are_there_so_often() -> None:
    scores, labels, counts = rows()
    weighed = quality(labels, scores, counts.astype(float))
    repeated = quality(labels.repeat(counts), scores.repeat(counts))
    assert weighed.model_dump() == pytest.approx(repeated.model_dump())
    one = curves(labels, scores, counts.astype(float))
    other = curves(labels.repeat(counts), scores.repeat(counts))
    assert np.array(one.roc) == pytest.approx(np.array(other.roc))
    assert cutoffs(labels, scores, counts.astype(float)).as_many == pytest.approx(
        cutoffs(labels.repeat(counts), scores.repeat(counts)).as_many, abs=0.01
    )


def test_thresholds_and_costs_of_weighed_rows_are_those_of_rows_that_are_there_so_often() -> None:
    policy = Policy.model_validate({
        "otherwise": "approve", "thresholds": {"review": 0.3, "decline": 0.6}, "costs": COSTS,
    })  # fmt: skip
    scores, labels, counts = rows()
    best = least_cost(policy, labels, scores, counts.astype(float))
    assert best == least_cost(policy, labels.repeat(counts), scores.repeat(counts))
    one = policy_result(policy, best, labels, scores, counts.astype(float))
    other = policy_result(policy, best, labels.repeat(counts), scores.repeat(counts))
    assert one.cost == pytest.approx(other.cost)


def test_learned_weights_are_those_of_rows_that_are_there_so_often() -> None:
    one, labels, counts = rows()
    two = np.clip(one + np.random.default_rng(3).normal(0, 0.2, len(one)), 0, 1)
    signals = np.stack([one, two], axis=1)
    weighed = learn_weights(signals, labels, ["one", "two"], counts.astype(float))
    repeated = learn_weights(signals.repeat(counts, axis=0), labels.repeat(counts), ["one", "two"])
    assert weighed.values == pytest.approx(repeated.values, abs=1e-4)
    assert weighed.loss == pytest.approx(repeated.loss, abs=1e-6)


@pytest.mark.parametrize("calibration", ["none", "sigmoid", "isotonic"])
def test_a_fit_of_weighed_rows_knows_what_they_stand_for(calibration: Any) -> None:
    """Of what other components found bad one in ten was let through: unweighed, all is too good."""
    rng = np.random.default_rng(1)
    x, z = rng.normal(size=(40_000, 1)), rng.normal(size=40_000)
    y = rng.random(40_000) < 1 / (1 + np.exp(-x[:, 0] - 2 * z))
    declined = z > 0
    known = ~declined | (rng.random(40_000) < 0.1)
    weights = np.where(declined, 10.0, 1.0)[known]
    own, labels = x[known].astype(np.float32), y[known]
    estimator = load_estimator("sklearn.naive_bayes.GaussianNB", {}, 0)
    everything = slice(0, len(own))
    means = {}
    for name, counts in (("weighed", weights), ("not", None)):
        onnx = fitted_model(estimator, own, labels, everything, ["x"], calibration, counts).onnx
        means[name] = float(ModelSession.of(onnx, name).signal(x.astype(np.float32)).mean())
    assert means["weighed"] == pytest.approx(y.mean(), abs=0.02)
    assert abs(means["not"] - y.mean()) > 0.1


def test_an_estimator_that_takes_no_weights_is_refused() -> None:
    estimator = load_estimator("sklearn.neighbors.KNeighborsClassifier", {}, 0)
    x, y = np.eye(20, 2, dtype=np.float32), np.arange(20) % 2 == 0
    with pytest.raises(NoWeights, match="KNeighborsClassifier takes no sample_weight"):
        fitted_model(estimator, x, y, slice(0, 20), ["a", "b"], "none", np.full(20, 2.0))


def test_a_training_weighs_its_figures_and_is_another_training(tmp_path: Path) -> None:
    data, pipeline = transactions(), card_fraud()
    large = data.columns["amount"] > 100
    weighed = TrainingData(data.columns, data.labels, {}, np.where(large, 20.0, 1.0))
    plain = trained(tmp_path / "one", data, pipeline=pipeline)
    other = trained(tmp_path / "two", weighed, pipeline=pipeline)
    assert plain.composed.brier != other.composed.brier
    assert (other.composed.brier or 0) > (plain.composed.brier or 1)  # most frauds are large
    one, two = (Registry(tmp_path / name / "registry") for name in ("one", "two"))
    name = pipeline.name
    assert one.latest(name, "risk-linear").digest != two.latest(name, "risk-linear").digest
    assert one.latest(name, "features").digest == two.latest(name, "features").digest


def served(tmp_path: Path, pipeline: Pipeline, **columns: Any) -> Path:
    """A file as `anabranch dataset` writes it."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    data, path = transactions(200), tmp_path / "served.parquet"
    times = pa.array(data.columns["occurred_at"], pa.int64()).cast(pa.timestamp("ms", "UTC"))
    fields = {**data.columns, "occurred_at": times, "outcome": data.labels, **columns}
    table = pa.table({
        name: pa.array(values) if isinstance(values, np.ndarray | list) else values
        for name, values in fields.items()
    })  # fmt: skip
    metadata = {b"anabranch.pipeline": pipeline.name.encode()}
    write_table(table.replace_schema_metadata(metadata), path)
    return path


def test_rows_of_a_data_set_count_by_their_propensity(tmp_path: Path) -> None:
    pipeline = card_fraud()
    explored: list[bool | None] = [False] * 200
    propensity: list[float | None] = [1.0] * 200
    explored[0], propensity[0] = True, 0.05
    propensity[1] = 0.95  # it might have been explored
    explored[2] = propensity[2] = None  # a dead letter
    path = served(tmp_path, pipeline, explored=explored, propensity=propensity)
    data = from_file(pipeline, str(path))
    assert data.rows == 199
    assert data.weights is not None
    assert data.weights.tolist() == [20.0] + [1.0] * 198
    assert "t-1" not in data.columns["transaction_id"].tolist()


def test_without_exploration_no_row_has_a_weight(tmp_path: Path) -> None:
    pipeline = card_fraud()
    path = served(tmp_path, pipeline, explored=[False] * 200, propensity=[1.0] * 200)
    assert from_file(pipeline, str(path)).weights is None


def test_a_comparison_weighs_outcomes() -> None:
    from agents.service.challenger_comparison import Comparer

    explore = {"of": ["decline"], "as": "approve", "share": 0.05}
    policy = Policy.model_validate({
        "otherwise": "approve", "thresholds": {"review": 0.3, "decline": 0.6}, "explore": explore,
    })  # fmt: skip
    ours = Comparer("risk", "risk@1", "risk@2", policy, on="signal")
    ours.shadowed(shadow([1, 2, 3], [0.5, 0.5, 0.5]))
    for offset, signal, changes in (
        (1, 0.25, {}),
        (2, 0.75, {"explored": True, "propensity": 0.05}),
        (3, 1.0, {"propensity": 0.95}),
    ):
        ours.decided(decision(offset, signal).model_copy(update=changes))
        ours.outcome(f"event-{offset}", label=offset == 2)
    said = ours.comparison()
    assert (said.rows, said.labelled, said.explored) == (3, 2, 1)
    assert said.quality["champion"].brier == pytest.approx((0.25**2 + 20 * 0.25**2) / 21)
    assert said.quality["challenger"].brier == pytest.approx(0.5**2)


@given(st.integers(0, 2**32 - 1))
def test_weights_of_one_change_nothing_in_the_test(seed: int) -> None:
    one, other = np.random.default_rng(seed).random((2, 50))
    plain, weighed = SequentialTest(), SequentialTest()
    assert plain.add(one, other).p_better == weighed.add(one, other, np.ones(50)).p_better
    assert plain.gain == pytest.approx(float((one - other).mean()))


def test_of_two_models_that_are_equal_once_weighed_none_is_called_better() -> None:
    """Unweighed the challenger is: it is worse where outcomes are seldom seen."""
    rng, wrong, fooled = np.random.default_rng(0), 0, 0
    for _ in range(200):
        rare = rng.random(3000) < 0.05 / 1.05  # as many events, one in 20 explored
        gain = np.where(rare, -0.2, 0.2 * 1.0) * rng.uniform(0.5, 1.5, 3000)
        base = np.full(3000, 0.5)
        weights = np.where(rare, 20.0, 1.0)
        wrong += SequentialTest(0.05, 20).add(base, base - gain, weights).verdict != "undecided"
        fooled += SequentialTest(0.05).add(base, base - gain).verdict == "better"
    assert wrong <= 200 * 0.05 + 2 * np.sqrt(200 * 0.05)
    assert fooled == 200


def test_a_challenger_that_is_better_once_weighed_is_found() -> None:
    rng = np.random.default_rng(1)
    rare = rng.random(20_000) < 0.05
    gain = np.where(rare, 0.2, 0.0) * rng.uniform(0.5, 1.5, 20_000)
    base = np.full(20_000, 0.5)
    test = SequentialTest(0.05, 20).add(base, base - gain, np.where(rare, 20.0, 1.0))
    assert test.verdict == "better"
    assert test.gain == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("most", [0.5, np.inf, np.nan])
def test_a_bound_that_is_none_is_refused(most: float) -> None:
    with pytest.raises(ValueError, match="counts for one at least"):
        SequentialTest(most_weight=most)
