"""Estimators come from an import path, and say plainly why they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import (
    EstimatorError,
    EstimatorNotFound,
    FitFailed,
    NoSignal,
    NotFinite,
    UnknownParameter,
)
from models.training.estimators import fit, is_supervised, load_estimator
from topics.errors import AnabranchError

LOGISTIC = "sklearn.linear_model.LogisticRegression"
FOREST = "sklearn.ensemble.RandomForestClassifier"
ISOLATION = "sklearn.ensemble.IsolationForest"


def rows(columns: int = 3) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, columns)).astype(np.float32)
    return x, x[:, 0] > 0


def test_the_seed_becomes_the_random_state() -> None:
    assert load_estimator(FOREST, {"n_estimators": 3}, seed=11).random_state == 11


def test_a_random_state_in_the_pipeline_file_wins() -> None:
    assert load_estimator(FOREST, {"random_state": 5}, seed=11).random_state == 5


def test_an_estimator_without_randomness_takes_no_seed() -> None:
    made = load_estimator("sklearn.naive_bayes.GaussianNB", {}, seed=11)
    assert not hasattr(made, "random_state")


def test_a_colon_may_separate_module_and_class() -> None:
    assert load_estimator("sklearn.ensemble:IsolationForest", {}, seed=0) is not None


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("sklearn.no_such_module.Thing", "ModuleNotFoundError"),
        ("sklearn.linear_model.NoSuchThing", "AttributeError"),
        ("collections.OrderedDict", "not a scikit-learn estimator class"),
        ("sklearn.metrics.roc_auc_score", "not a scikit-learn estimator class"),
    ],
)
def test_a_path_that_leads_to_no_estimator_is_an_error_with_its_cause(
    path: str, cause: str
) -> None:
    with pytest.raises(EstimatorNotFound, match=cause) as caught:
        load_estimator(path, {}, seed=0)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_on_import_is_an_error_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_estimators.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EstimatorNotFound, match="ZeroDivisionError"):
        load_estimator("broken_estimators.Mine", {}, seed=0)


def test_an_unknown_parameter_is_named_with_those_that_exist() -> None:
    with pytest.raises(UnknownParameter, match=r"no parameter max_itr; it has .*max_iter"):
        load_estimator(LOGISTIC, {"max_itr": 5}, seed=0)


@pytest.mark.parametrize("path", ["sklearn.svm.LinearSVC", "sklearn.linear_model.LinearRegression"])
def test_an_estimator_without_probabilities_and_scores_is_an_error(path: str) -> None:
    with pytest.raises(NoSignal, match=path):
        load_estimator(path, {}, seed=0)


def test_classifiers_are_supervised_and_detectors_are_not() -> None:
    assert is_supervised(load_estimator(LOGISTIC, {}, seed=0))
    assert not is_supervised(load_estimator(ISOLATION, {}, seed=0))
    assert not is_supervised(load_estimator("sklearn.mixture.GaussianMixture", {}, seed=0))


def test_fitting_scales_first_and_ranks_the_positives_higher() -> None:
    x, y = rows()
    x = x * np.float32(1e4)
    fitted = fit(load_estimator(LOGISTIC, {}, seed=0), x, y)
    probability = fitted.predict_proba(x)[:, 1]
    assert probability[y].min() > probability[~y].mean()
    assert list(fitted.named_steps) == ["standardscaler", "logisticregression"]


def test_a_detector_is_fitted_without_labels() -> None:
    x, _ = rows()
    fitted = fit(load_estimator(ISOLATION, {"n_estimators": 5}, seed=0), x, None)
    assert fitted.score_samples(x).shape == (60,)


def test_scaled_columns_have_the_same_bits_in_float32_arithmetic() -> None:
    x = np.random.default_rng(2).lognormal(3, 2, size=(5000, 2)).astype(np.float32)
    scaler = fit(load_estimator(ISOLATION, {"n_estimators": 5}, seed=0), x, None)[0]
    mean, factor = scaler.mean_.astype(np.float32), (1 / scaler.scale_).astype(np.float32)
    scaled = scaler.transform(x)
    assert np.array_equal(scaled, (x - mean) * factor)
    assert np.abs(scaled.mean(axis=0)).max() < 1e-3
    assert ((scaled.std(axis=0) > 0.7) & (scaled.std(axis=0) < 1.42)).all()


def test_a_constant_column_is_fine() -> None:
    x, y = rows()
    x[:, 2] = 7
    assert np.isfinite(fit(load_estimator(LOGISTIC, {}, seed=0), x, y).predict_proba(x)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_an_error_that_names_its_columns(bad: float) -> None:
    x, y = rows()
    x[3, 1] = x[4, 1] = bad
    with pytest.raises(NotFinite, match=r"column age to fit on holds NaN.* in 2 rows"):
        fit(load_estimator(LOGISTIC, {}, seed=0), x, y, names=["amount", "age", "hour"])


def test_columns_without_names_are_numbered_in_errors() -> None:
    x, y = rows()
    x[0, :2] = np.nan
    with pytest.raises(NotFinite, match=r"columns x\[0\], x\[1\] to fit on hold"):
        fit(load_estimator(LOGISTIC, {}, seed=0), x, y)


def test_a_parameter_value_that_the_estimator_refuses_is_one_line() -> None:
    x, y = rows()
    with pytest.raises(FitFailed, match="max_iter") as caught:
        fit(load_estimator(LOGISTIC, {"max_iter": -1}, seed=0), x, y)
    assert "\n" not in str(caught.value)


def test_all_estimator_errors_are_errors_for_people() -> None:
    assert issubclass(EstimatorError, AnabranchError)
