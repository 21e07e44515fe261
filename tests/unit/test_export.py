"""The ONNX form of a model says what scikit-learn says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from models.features.vector import FeatureVector
from models.simulators.card_fraud import simulate
from models.training import export as exporting
from models.training.estimators import fit, load_estimator
from models.training.export import BatchDependent, ExportMismatch, NotExportable, export
from topics.errors import AnabranchError
from topics.pipeline.fields import Feature

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
Singles = NDArray[np.float32]
Runner = Callable[[bytes], Callable[[Singles], Singles]]
ISOLATION = "sklearn.ensemble.IsolationForest"
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "sklearn.linear_model.LogisticRegression": {"max_iter": 1000},
    "sklearn.ensemble.RandomForestClassifier": {
        "n_estimators": 50, "max_depth": 8, "min_samples_leaf": 20,
    },
    "sklearn.ensemble.ExtraTreesClassifier": {"n_estimators": 20, "max_depth": 8},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 30},
    "sklearn.neural_network.MLPClassifier": {"hidden_layer_sizes": (16, 8), "max_iter": 20},
    "sklearn.tree.DecisionTreeClassifier": {"max_depth": 6},
    "sklearn.naive_bayes.GaussianNB": {},
}  # fmt: skip
EVERY = [*CLASSIFIERS, ISOLATION]


@cache
def transactions() -> tuple[Singles, NDArray[np.bool_]]:
    """Features of simulated card transactions, and which are fraud."""
    drawn = list(simulate(5, customers=600, terminals=1000, days=6))
    at = [np.datetime64(str(event["occurred_at"])[:-1], "ms") for event, _ in drawn]
    columns = {
        "amount": np.array([event["amount"] for event, _ in drawn], dtype=np.float64),
        "at": np.array(at).astype(np.int64),
    }
    vector = FeatureVector(
        [
            Feature(name="amount", of="amount"),
            Feature(name="amount_log", of="amount", apply="log1p"),
            Feature(name="hour", of="at", apply="hour"),
            Feature(name="is_night", of="at", apply="night"),
            Feature(name="is_weekend", of="at", apply="weekend"),
        ]
    )
    labels = np.array([label for _, label in drawn])
    assert len(labels) > 4000
    assert labels.sum() > 20
    return vector.compute(columns).astype(np.float32), labels


@cache
def fitted(path: str) -> Pipeline:
    x, y = transactions()
    estimator = load_estimator(path, CLASSIFIERS.get(path, {"n_estimators": 50}), seed=3)
    return fit(estimator, x, y if path in CLASSIFIERS else None)


@cache
def exported(path: str) -> bytes:
    return export(fitted(path), transactions()[0])


def run(content: bytes, x: Singles) -> Singles:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    signal: Singles = session.run(None, {"input": x})[0]
    return signal


@pytest.mark.parametrize("path", CLASSIFIERS)
def test_a_classifier_gives_its_probability_of_class_1_on_every_real_row(path: str) -> None:
    x, _ = transactions()
    expected = fitted(path).predict_proba(x)[:, 1]
    assert np.ptp(expected) > 0.05
    assert np.abs(run(exported(path), x) - expected).max() <= 1e-5


def test_an_outlier_detector_gives_its_novelty_on_every_real_row() -> None:
    x, _ = transactions()
    scores = fitted(ISOLATION).score_samples(x)
    middle, extreme = np.quantile(scores, [0.5, 0.001])
    expected = np.clip((middle - scores) / (middle - extreme), 0, 1)
    signal = run(exported(ISOLATION), x)
    assert np.abs(signal - expected).max() <= 1e-5
    assert 0.4 < (signal > 0).mean() < 0.6, "half of the data is ordinary"
    assert 1 <= (signal == 1).sum() <= 0.003 * len(x), "its oddest is as odd as it gets"


@pytest.mark.parametrize("path", EVERY)
def test_the_same_model_is_exported_to_the_same_bytes(path: str) -> None:
    assert export(fitted(path), transactions()[0]) == exported(path)


@pytest.mark.parametrize("path", [*list(CLASSIFIERS)[:2], ISOLATION])
def test_a_model_fitted_again_is_exported_to_the_same_bytes(path: str) -> None:
    first = exported(path)
    again: Pipeline = fitted.__wrapped__(path)
    assert export(again, transactions()[0]) == first


@pytest.mark.parametrize("path", EVERY)
def test_a_signal_is_within_0_and_1_even_far_from_the_training_rows(path: str) -> None:
    x, _ = transactions()
    rng = np.random.default_rng(0)
    far = (rng.normal(size=(500, x.shape[1])) * 1e6).astype(np.float32)
    for rows in (x, far, np.zeros_like(x[:3]), -far):
        signal = run(exported(path), rows)
        assert np.isfinite(signal).all()
        assert signal.min() >= 0
        assert signal.max() <= 1


@pytest.mark.parametrize("path", EVERY)
def test_a_model_has_one_input_one_output_and_each_opset_once(path: str) -> None:
    model = onnx.load_model_from_string(exported(path))
    onnx.checker.check_model(model, full_check=True)
    assert [each.name for each in model.graph.input] == ["input"]
    assert [each.name for each in model.graph.output] == ["signal"]
    domains = [opset.domain for opset in model.opset_import]
    assert domains == sorted(set(domains))
    session = ort.InferenceSession(exported(path), providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.type, taken.shape[1]) == ("tensor(float)", 5)
    assert given.type == "tensor(float)"
    for rows in (1, 2, 9):
        assert run(exported(path), transactions()[0][:rows]).shape == (rows,)


class Homemade(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is Any
    """A classifier that skl2onnx has never heard of."""

    def fit(self, x: Singles, y: NDArray[np.bool_]) -> Homemade:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x: Singles) -> Singles:
        return np.full((len(x), 2), 0.5, np.float32)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("lightgbm.LGBMClassifier", {"linear_tree": True}),
        ("lightgbm.LGBMClassifier", {"objective": "regression"}),
        ("xgboost.XGBClassifier", {"booster": "gblinear"}),
        ("xgboost.XGBClassifier", {"objective": "reg:squarederror"}),
    ],
)
def test_what_another_library_s_converter_does_not_know_is_refused_in_one_line(
    path: str, parameters: dict[str, bool | str]
) -> None:
    rng = np.random.default_rng(0)
    x = np.round(rng.lognormal(3, 1, (400, 3)), 2).astype(np.float32)
    labels = x[:, 0] + rng.normal(0, 8, 400) > 25
    fitted = fit(load_estimator(path, {"n_estimators": 20, **parameters}, seed=0), x, labels)
    with pytest.raises((NotExportable, ExportMismatch)) as caught:
        export(fitted, x)
    assert "\n" not in str(caught.value)


def test_an_estimator_that_skl2onnx_does_not_know_is_not_exportable() -> None:
    x, y = transactions()
    with pytest.raises(NotExportable, match=r"^Homemade cannot be exported to ONNX: ") as caught:
        export(fit(Homemade(), x, y), x)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, AnabranchError)


@pytest.mark.filterwarnings("ignore:The covariance matrix:UserWarning")
@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("sklearn.neighbors.KernelDensity", {}),
        ("sklearn.covariance.EllipticEnvelope", {}),
        ("sklearn.svm.OneClassSVM", {"nu": 0.1}),
        ("sklearn.neighbors.LocalOutlierFactor", {"novelty": True}),
        ("sklearn.mixture.GaussianMixture", {"n_components": 2}),
        ("sklearn.decomposition.PCA", {}),
    ],
)
def test_any_estimator_without_labels_is_exported_or_plainly_refused(
    path: str, parameters: dict[str, Any]
) -> None:
    x = transactions()[0][:400]
    estimator = load_estimator(path, parameters, seed=0)
    try:
        content = export(fit(estimator, x, None), x)
    except (NotExportable, ExportMismatch, BatchDependent) as exc:
        assert str(exc).count("\n") == 0
        return
    signal = run(content, x)
    assert signal.shape == (400,)
    assert ((signal >= 0) & (signal <= 1)).all()


def test_a_model_that_says_something_else_is_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    honest: Runner = exporting._runner
    monkeypatch.setattr(exporting, "_runner", lambda each: lambda x: honest(each)(x) + 2e-5)
    with pytest.raises(ExportMismatch, match=r"differs by 2e-05 .* more than 1e-05"):
        export(fitted("sklearn.linear_model.LogisticRegression"), transactions()[0])


def test_a_model_whose_rows_depend_on_their_batch_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest: Runner = exporting._runner
    last_bit = np.float32(2**-23)

    def moved(x: Singles, signal: Singles) -> Singles:
        return signal * (1 + last_bit) if len(x) < 100 else signal

    monkeypatch.setattr(exporting, "_runner", lambda each: lambda x: moved(x, honest(each)(x)))
    with pytest.raises(BatchDependent, match=r"of 500 rows other bits in a smaller batch"):
        export(fitted("sklearn.linear_model.LogisticRegression"), transactions()[0])


SCRIPT = """
import numpy as np
from models.training.estimators import fit, is_supervised, load_estimator
from models.training.export import export
from models.registry.registry import digest_of
x = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
for path in (
    "sklearn.ensemble.GradientBoostingClassifier", "sklearn.ensemble.RandomForestClassifier",
    "sklearn.naive_bayes.GaussianNB", "sklearn.mixture.GaussianMixture",
):
    estimator = load_estimator(path, {}, seed=1)
    y = x[:, 0] > 0 if is_supervised(estimator) else None
    print(digest_of(export(fit(estimator, x, y), x)))
"""


def test_another_process_exports_the_same_bytes() -> None:
    # The seeds order a set of the two opset domains differently.
    done = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True,
            cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.split()
        for seed in ("0", "77")
    ]  # fmt: skip
    assert len(done[0]) == 4
    assert done[0] == done[1]


def test_equal_scores_are_no_novelty() -> None:
    x = np.ones((50, 2), np.float32)
    forest = load_estimator(ISOLATION, {"n_estimators": 5}, seed=0)
    content = export(make_pipeline(StandardScaler(), forest).fit(x), x)
    assert run(content, x).tolist() == [0.0] * 50
