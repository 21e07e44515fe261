"""A calibrated signal is a monotone map of the model's own, fitted on rows it has not seen."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import NotCalibratable
from models.onnx.bit_stability import moving_rows
from models.onnx.session import ModelSession
from models.report.quality import quality
from models.training.calibration import FOLDS, Sigmoid, calibrated, fitted_map, unseen_signals
from models.training.estimators import load_estimator
from models.training.fit import fitted_model
from models.training.training_plan import plan_training
from tests.unit.test_training import card_fraud, trained, transactions
from topics.pipeline.schema import ModelSpec, Pipeline

Kind = Literal["sigmoid", "isotonic"]
KINDS: list[Kind] = ["sigmoid", "isotonic"]
ESTIMATORS = {
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 20},
    "sklearn.naive_bayes.GaussianNB": {},
    "sklearn.ensemble.IsolationForest": {"n_estimators": 20},
}


def rows(count: int = 3000, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    x[:, 1] = x[:, 0]  # naive Bayes counts it twice, and is too sure
    return x, rng.random(count) < 1 / (1 + np.exp(2 - 1.5 * x[:, 0]))


def model(path: str, kind: Any, labels: NDArray[np.bool_] | None = None) -> ModelSession:
    x, y = rows()
    estimator = load_estimator(path, dict(ESTIMATORS[path]), seed=1)
    names = ["a", "b", "c", "d"]
    onnx = fitted_model(
        estimator, x, y if labels is None else labels, slice(0, 2400), names, kind
    ).onnx
    return ModelSession.of(onnx, "model.onnx")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ESTIMATORS)
def test_the_map_is_monotone_in_the_graph_and_rows_keep_their_bits(path: str, kind: Kind) -> None:
    x = rows(1501, seed=9)[0]
    raw, made = model(path, "none").signal(x), model(path, kind).signal(x)
    order = np.argsort(raw, kind="stable")
    assert (np.diff(made[order]) >= -1e-7).all()
    equal = np.diff(raw[order]) == 0
    assert (np.diff(made[order])[equal] == 0).all()
    assert made.min() >= 0
    assert made.max() <= 1
    assert moving_rows(model(path, kind).signal, x) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_too_sure_a_model_and_a_novelty_become_probabilities(kind: Kind) -> None:
    x, y = rows(20_000, seed=7)
    for path in ("sklearn.naive_bayes.GaussianNB", "sklearn.ensemble.IsolationForest"):
        before = quality(y, model(path, "none").signal(x))
        after = quality(y, model(path, kind).signal(x))
        assert after.calibration_error < before.calibration_error / 1.5
        assert after.log_loss < before.log_loss
        assert after.auc > before.auc - 0.005


def test_each_row_is_judged_by_a_model_that_has_not_seen_it() -> None:
    x = np.arange(103, dtype=np.float32)[:, None]
    labels = np.arange(103) % 2 == 0
    seen: list[set[int]] = []

    def fit(others: NDArray[np.int64]) -> Any:
        seen.append(set(others.tolist()))

        def signal(some: NDArray[np.float32]) -> NDArray[np.float32]:
            assert seen[-1].isdisjoint(some[:, 0].astype(int).tolist())
            return some[:, 0] / np.float32(103)

        return signal

    assert unseen_signals(x, labels, fit).tolist() == (x[:, 0] / np.float32(103)).tolist()
    assert len(seen) == FOLDS
    assert all(len(others) >= 82 for others in seen)


def test_positives_of_one_span_of_time_cannot_calibrate() -> None:
    x = np.zeros((100, 1), np.float32)
    with pytest.raises(NotCalibratable, match="10 of 100 rows are positive"):
        unseen_signals(x, np.arange(100) >= 90, lambda _: lambda some: some[:, 0])


def test_the_sigmoid_of_a_calibrated_signal_changes_little() -> None:
    rng = np.random.default_rng(2)
    signals = rng.beta(0.5, 4, 50_000)
    found = fitted_map("sigmoid", signals, rng.random(len(signals)) < signals)
    assert isinstance(found, Sigmoid)
    assert found.slope == pytest.approx(1, abs=0.05)
    assert found.shift == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_that_ranks_the_wrong_way_says_the_base_rate(kind: Kind) -> None:
    rng = np.random.default_rng(3)
    signals = rng.random(5000)
    found = fitted_map(kind, signals, rng.random(5000) < 0.2 * (1 - signals))
    assert found.of(np.array([0.05, 0.95])) == pytest.approx([0.1, 0.1], abs=0.06)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=2, max_size=60),
       st.sampled_from(KINDS))  # fmt: skip
def test_any_map_is_monotone_and_stays_in_0_to_1(
    drawn: list[tuple[float, bool]], kind: Kind
) -> None:
    said, labels = np.array([each for each, _ in drawn]), np.array([each for _, each in drawn])
    if labels.all() or not labels.any():
        labels[0] = not labels[0]
    made = fitted_map(kind, said, labels).of(np.linspace(0, 1, 301))
    assert (np.diff(made) >= 0).all()
    assert made.min() >= 0
    assert made.max() <= 1


@pytest.mark.parametrize(
    ("place", "level"), [(0, 0), (1, 1)], ids=["features are read, not their novelty", "a signal"]
)
def test_a_calibrated_detector_counts_as_taught_where_its_signal_is_read(
    place: int, level: int
) -> None:
    written = card_fraud().model_dump(by_alias=True)
    for component in written["components"][1:3]:
        component["model"] = {"estimator": "sklearn.ensemble.IsolationForest"}
    before = plan_training(Pipeline.model_validate(written), transactions(), 0, None)
    written["components"][place]["model"]["calibration"] = "sigmoid"
    after = plan_training(Pipeline.model_validate(written), transactions(), 0, None)
    assert (before.levels["decision"], after.levels["decision"]) == (0, level)


def test_an_onnx_file_has_the_calibration_that_it_has() -> None:
    with pytest.raises(ValueError, match="calibration are for an estimator"):
        ModelSpec(path="a.onnx", calibration="sigmoid")


def test_a_pipeline_with_calibrated_stages_trains(tmp_path: Any) -> None:
    written = card_fraud().model_dump(by_alias=True)
    for component in written["components"][1:]:
        component["model"]["calibration"] = "sigmoid"
    report = trained(tmp_path, pipeline=Pipeline.model_validate(written))
    assert (report.composed.auc or 0) > 0.75
    assert (report.composed.log_loss or 1) < 0.325


def test_the_same_rows_give_the_same_bytes() -> None:
    x, y = rows(600)
    estimator = load_estimator("sklearn.naive_bayes.GaussianNB", {}, seed=0)
    plain = fitted_model(estimator, x, y, slice(0, 600), list("abcd")).onnx
    one, two = (calibrated(plain, Sigmoid(0.7, -0.2), x) for _ in range(2))
    assert one == two != plain
