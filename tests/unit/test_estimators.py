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
    LibraryMissing,
    NoSignal,
    NotFinite,
    UnknownParameter,
)
from models.training import estimator_libraries
from models.training.estimator_libraries import lower_float32
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


@pytest.mark.parametrize(
    ("path", "wrong", "right"),
    [
        ("lightgbm.LGBMClassifier", "n_estimator", "n_estimators"),
        ("xgboost.XGBClassifier", "max_dept", "max_depth"),
    ],
)
def test_a_wrong_parameter_of_a_library_that_takes_any_is_named_too(
    path: str, wrong: str, right: str
) -> None:
    with pytest.raises(UnknownParameter, match=f"no parameter {wrong}; .*{right}"):
        load_estimator(path, {wrong: 5}, seed=0)


def test_a_library_s_other_names_of_parameters_are_taken() -> None:
    estimator = load_estimator("lightgbm.LGBMClassifier", {"eta": 0.3}, seed=7)
    assert estimator.get_params()["random_state"] == 7
    assert estimator.get_params()["eta"] == 0.3


@pytest.mark.parametrize("path", ["lightgbm.LGBMRegressor", "xgboost.XGBRanker", "xgboost.Booster"])
def test_what_a_library_has_besides_is_refused_with_what_can_be_used(path: str) -> None:
    with pytest.raises(EstimatorNotFound, match=r"there is (LGBM|XGB)Classifier"):
        load_estimator(path, {}, seed=0)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "catboost"])
def test_a_library_that_is_not_installed_is_named_with_the_command_that_installs_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimator_libraries, "find_spec", lambda _: None)
    (name, *_) = estimator_libraries.LIBRARIES[library].classifiers
    with pytest.raises(LibraryMissing, match=rf"pip install 'anabranch\[{library}\]'"):
        load_estimator(f"{library}.{name}", {}, seed=0)


@pytest.mark.parametrize("path", ["lightgbm.LGBMClassifier", "xgboost.XGBClassifier"])
def test_a_value_that_a_library_refuses_is_one_line(path: str) -> None:
    x, y = rows()
    with pytest.raises(FitFailed) as caught:
        fit(load_estimator(path, {"max_depth": "deep"}, seed=0), x, y)
    assert "\n" not in str(caught.value)


def test_trees_of_other_libraries_get_their_columns_as_they_are() -> None:
    x, y = rows()
    fitted = fit(load_estimator("xgboost.XGBClassifier", {"n_estimators": 3}, seed=0), x, y)
    assert list(fitted.named_steps) == ["xgbclassifier"]


def test_the_lower_float32_number_divides_float32_numbers_as_the_threshold_does() -> None:
    rng = np.random.default_rng(0)
    below = rng.normal(size=1000).astype(np.float32)
    above = np.nextafter(below, np.float32(np.inf))
    for share in (0.0, 0.1, 0.5, 0.9):
        threshold = below + share * (above.astype(np.float64) - below)
        lower = lower_float32(threshold)
        assert (below <= lower).all()
        assert not (above <= lower).any()


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
