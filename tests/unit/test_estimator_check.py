"""An estimator that can become no model is refused before anybody trains it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.commands.check import _deep_findings
from models.errors import EstimatorNotFound, NoSignal, UnknownParameter
from models.training.estimator_check import NeedsPositive, check_estimator
from models.training.export import NotExportable
from topics.errors import AnabranchError
from topics.pipeline.file import load_pipeline
from topics.pipeline.schema import ModelSpec


@pytest.mark.parametrize(
    ("estimator", "error"),
    [
        ("sklearn.linear_model.LinearRegression", NoSignal),
        ("sklearn.ensemble.RandomForestRegressor", NoSignal),
        ("sklearn.svm.LinearSVC", NoSignal),
        ("sklearn.cluster.KMeans", NoSignal),
        ("sklearn.neighbors.KernelDensity", NotExportable),
        ("sklearn.covariance.EllipticEnvelope", NotExportable),
        ("sklearn.semi_supervised.LabelPropagation", NotExportable),
        ("sklearn.dummy.DummyClassifier", NotExportable),
        ("sklearn.decomposition.PCA", NotExportable),
        ("sklearn.naive_bayes.CategoricalNB", NeedsPositive),
        ("sklearn.naive_bayes.ComplementNB", NeedsPositive),
        ("sklearn.naive_bayes.MultinomialNB", NeedsPositive),
        ("sklearn.gaussian_process.GaussianProcessClassifier", NotExportable),
        ("sklearn.neighbors.RadiusNeighborsClassifier", NotExportable),
        ("sklearn.linear_model.LogisticRegresion", EstimatorNotFound),
    ],
)
def test_what_can_become_no_model_is_refused(estimator: str, error: type[AnabranchError]) -> None:
    with pytest.raises(error):
        check_estimator(ModelSpec(estimator=estimator))


@pytest.mark.parametrize(
    "estimator",
    [
        "sklearn.linear_model.LogisticRegression",
        "sklearn.ensemble.HistGradientBoostingClassifier",
        "lightgbm.LGBMClassifier",
        "xgboost.XGBClassifier",
        "sklearn.ensemble.AdaBoostClassifier",
        "sklearn.calibration.CalibratedClassifierCV",
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.mixture.GaussianMixture",
        "sklearn.ensemble.IsolationForest",
        "sklearn.svm.OneClassSVM",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.naive_bayes.BernoulliNB",
    ],
)
def test_what_can_is_not(estimator: str) -> None:
    check_estimator(ModelSpec(estimator=estimator))


def test_a_parameter_that_the_estimator_has_not_is_refused() -> None:
    forest = "sklearn.ensemble.RandomForestClassifier"
    with pytest.raises(UnknownParameter, match="n_trees"):
        check_estimator(ModelSpec(estimator=forest, parameters={"n_trees": 5}))


def test_check_tells_it_at_its_field(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = Path("deploy/pipelines/card-fraud.yaml").read_text(encoding="utf-8")
    forest, regressor = "RandomForestClassifier", "RandomForestRegressor"
    path.write_text(text.replace(forest, regressor), encoding="utf-8")
    findings = _deep_findings(load_pipeline(path))
    assert findings
    assert {finding.location[2:] for finding in findings} == {("model", "estimator")}
    assert all("gives no signal" in finding.message for finding in findings)
