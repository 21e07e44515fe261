"""ONNX against scikit-learn, family by family, on real rows: `python -m tests.unit.parity`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

from models.features.vector import FeatureVector
from models.onnx.bit_stability import moving_rows
from models.onnx.session import ModelSession
from models.simulators.machine_maintenance import simulate
from models.training.estimators import fit, is_supervised, load_estimator
from models.training.export import BatchDependent, ExportMismatch, NotExportable, export
from topics.pipeline.fields import Feature

Singles = NDArray[np.float32]
Bools = NDArray[np.bool_]
REFUSALS = (NotExportable, ExportMismatch, BatchDependent)
_PROCESSES = 4000
_MOVED_ROWS = 1500
_TIE = 1e-4
"""Neighbours whose distances differ by less, of the larger one: float32 has 1e-7."""


class OneHotLinear(Pipeline):  # type: ignore[misc]  # scikit-learn is Any
    """An estimator of one's own, which encodes a column of codes itself."""

    def __init__(self, steps: Any = None) -> None:
        codes = ColumnTransformer([("codes", OneHotEncoder(handle_unknown="ignore"), [0])],
                                  remainder="passthrough")  # fmt: skip
        super().__init__(
            steps or [("columns", codes), ("model", LogisticRegression(max_iter=3000))]
        )


class OrdinalTree(Pipeline):  # type: ignore[misc]  # scikit-learn is Any
    """The same with ordinal codes and a tree."""

    def __init__(self, steps: Any = None) -> None:
        codes = ColumnTransformer([("codes", OrdinalEncoder(), [0])], remainder="passthrough")
        super().__init__(
            steps or [("columns", codes), ("model", DecisionTreeClassifier(max_depth=6))]
        )


class PcaLinear(Pipeline):  # type: ignore[misc]  # scikit-learn is Any
    """Principal components in front of a linear model."""

    def __init__(self, steps: Any = None) -> None:
        super().__init__(steps or [("pca", PCA(2)), ("model", LogisticRegression())])


class OneHotBoosted(Pipeline):  # type: ignore[misc]  # scikit-learn is Any
    """The same with another library's trees."""

    def __init__(self, steps: Any = None) -> None:
        if steps is None:
            boosted = load_estimator("lightgbm.LGBMClassifier", {"n_estimators": 20}, seed=0)
            codes = ColumnTransformer([("codes", OneHotEncoder(handle_unknown="ignore"), [0])],
                                      remainder="passthrough")  # fmt: skip
            steps = [("columns", codes), ("model", boosted)]
        super().__init__(steps)


class Family(NamedTuple):
    """An estimator and how it is made."""

    path: str
    parameters: Mapping[str, Any] = {}
    data: tuple[str, ...] = ("breast cancer", "digits", "machines")
    refused: tuple[str, ...] = ()
    """Data sets for which it gets no ONNX form."""
    neighbours: int = 0
    """How many neighbours its signal is made of: rows where others are as near are left out."""

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


_ALL = ("breast cancer", "digits", "machines")
_OWN = "tests.unit.parity."
FAMILIES = [
    Family("sklearn.linear_model.LogisticRegression", {"max_iter": 1000}),
    Family("sklearn.linear_model.SGDClassifier", {"loss": "log_loss"}),
    Family("sklearn.discriminant_analysis.LinearDiscriminantAnalysis"),
    Family("sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis", {"reg_param": 0.1}),
    Family("sklearn.naive_bayes.GaussianNB", {"var_smoothing": 0.01}),
    Family("sklearn.tree.DecisionTreeClassifier", {"max_depth": 8}),
    Family("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 30}),
    Family("sklearn.ensemble.ExtraTreesClassifier", {"n_estimators": 30}),
    Family("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 40}),
    Family("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 40}),
    Family("lightgbm.LGBMClassifier", {"n_estimators": 60}),
    Family("xgboost.XGBClassifier", {"n_estimators": 60}),
    Family("xgboost.XGBRFClassifier", {"n_estimators": 30}),
    Family("catboost.CatBoostClassifier", {"iterations": 60}),
    Family("sklearn.ensemble.AdaBoostClassifier", {"n_estimators": 20}),
    Family("sklearn.ensemble.BaggingClassifier"),
    Family("sklearn.neighbors.KNeighborsClassifier", neighbours=5),
    Family("sklearn.neural_network.MLPClassifier", {"max_iter": 1000}),
    Family("sklearn.svm.SVC", {"probability": True}),
    Family("sklearn.calibration.CalibratedClassifierCV"),
    Family(_OWN + "PcaLinear"),
    Family(_OWN + "OneHotLinear", data=("digits", "machines")),
    Family(_OWN + "OneHotBoosted", data=("digits", "machines")),
    Family(_OWN + "OrdinalTree"),
    Family("sklearn.ensemble.IsolationForest", {"n_estimators": 50}),
    Family("sklearn.mixture.GaussianMixture", {"n_components": 2, "reg_covar": 0.01}),
    Family("sklearn.neighbors.LocalOutlierFactor", {"novelty": True}, neighbours=20),
    Family("sklearn.svm.OneClassSVM", {"nu": 0.1}),
    Family("sklearn.linear_model.SGDOneClassSVM"),
    Family("sklearn.covariance.EllipticEnvelope", refused=_ALL),
    Family("sklearn.decomposition.PCA", refused=_ALL),
    Family("sklearn.gaussian_process.GaussianProcessClassifier", refused=_ALL),
    Family("sklearn.neighbors.KernelDensity", refused=_ALL),
]


class Parity(NamedTuple):
    """What became of a family on one data set."""

    refusal: str = ""
    difference: float = 0.0
    """Largest |Δ| of the signal."""
    moving: int = 0
    """Rows that have other bits in another batch."""


@cache
def datasets() -> dict[str, tuple[Singles, Bools]]:
    """Cases of breast cancer, handwritten digits, and simulated machines with a category."""
    cancer, benign = load_breast_cancer(return_X_y=True)
    pixels, digit = load_digits(return_X_y=True)
    return {
        "breast cancer": (cancer.astype(np.float32), benign == 1),
        "digits": (pixels.astype(np.float32), digit >= 5),
        "machines": _processes(),
    }


def _processes() -> tuple[Singles, Bools]:
    made = list(islice(simulate(3), _PROCESSES))
    events = [each.event for each in made]
    columns = {
        name: np.array([event[name] for event in events], dtype=np.float64)
        for name in ("rotational_speed_rpm", "torque_nm", "tool_wear_min")
    }
    kinds = {"product_type": np.array([event["product_type"] for event in events], dtype=object)}
    vector = FeatureVector(
        [
            Feature(name="code", of="product_type", apply="ordinal", choices=["L", "M", "H"]),
            Feature(name="is", of="product_type", apply="one_hot", choices=["L", "M", "H"]),
            *(Feature(name=name, of=name) for name in columns),
        ]
    )
    labels = np.array([each.label for each in made], np.bool_)
    return vector.compute({**columns, **kinds}).astype(np.float32), labels


def measured(family: Family, dataset: str) -> Parity:
    """The family, fitted on all rows of a data set and exported; compared on all of them."""
    x, y = datasets()[dataset]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SVC says that its probabilities are to go
        estimator = load_estimator(family.path, family.parameters, seed=0)
        fitted = fit(estimator, x, y if is_supervised(estimator) else None)
        if family.neighbours:
            x = x[_without_ties(fitted, x, family.neighbours)]
        try:
            model = export(fitted, x)
        except REFUSALS as exc:
            return Parity(refusal=str(exc))
    session = ModelSession.of(model, family.name)
    difference = np.abs(session.signal(x) - _expected(fitted, x)).max()
    return Parity("", float(difference), moving_rows(session.signal, x[:_MOVED_ROWS]))


def _without_ties(fitted: Pipeline, x: Singles, neighbours: int) -> Bools:
    """The rows (N,) whose nearest *neighbours* among *x* are nearer than any other row is.

    Of two that are as near to the last bits, the processor's instructions choose.
    """
    scaled = np.asarray(fitted[:-1].transform(x), np.float64)
    distances = np.stack([np.sqrt(((scaled - row) ** 2).sum(axis=1)) for row in scaled])
    last, next_one = np.partition(distances, (neighbours - 1, neighbours), axis=1)[
        :, neighbours - 1 : neighbours + 1
    ].T
    return np.asarray(next_one - last > _TIE * next_one)


def _expected(fitted: Pipeline, x: Singles) -> NDArray[np.floating]:
    if is_supervised(fitted[-1]):
        probability: NDArray[np.floating] = fitted.predict_proba(x)[:, 1]
        return probability
    scores = fitted.score_samples(x)
    middle, extreme = np.quantile(scores, [0.5, 0.001])
    return np.asarray(np.clip((middle - scores) / (middle - extreme), 0, 1))


def row(family: Family, found: Mapping[str, Parity]) -> str:
    """The family's row in models/README.md, by what was found on its data sets."""
    refused = [name for name, each in found.items() if each.refusal]
    if len(refused) == len(found):
        return f"| {family.name} | no | | |"
    most = max(each.difference for each in found.values())
    stable = "no" if any(each.moving for each in found.values()) else "yes"
    converts = "without ties" if family.neighbours else "yes"
    converts = f"not on {', '.join(refused)}" if refused else converts
    return f"| {family.name} | {converts} | {most:.0e} | {stable} |"


if __name__ == "__main__":
    for each in FAMILIES:
        print(row(each, {name: measured(each, name) for name in each.data}))
