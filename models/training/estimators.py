"""Estimators of the pipeline file: loaded by import path, and fitted."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from models.arrays import Bools, Floats32, Floats64
from models.errors import (
    EstimatorNotFound,
    FitFailed,
    NoSignal,
    NotFinite,
    NothingVaries,
    NoWeights,
    UnknownParameter,
)
from models.training.estimator_libraries import (
    check_installed,
    known_parameters,
    library_of,
    library_of_estimator,
    plain_labels,
)
from topics.pipeline import Scalar


def load_estimator(path: str, parameters: Mapping[str, Scalar], seed: int) -> Any:
    """A new estimator as scikit-learn has them, not fitted; *seed* is its seed when it has one.

    Raises EstimatorNotFound, LibraryMissing, UnknownParameter and NoSignal.

    >>> load_estimator("sklearn.linear_model.LogisticRegression", {"C": 0.5}, seed=7)
    LogisticRegression(C=0.5, random_state=7)
    """
    check_installed(path)
    kind, library = _imported(path), library_of(path)
    named = inspect.signature(kind).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in named.values())
    known: Collection[str] = named
    if library is not None and takes_any:
        known, takes_any = known_parameters(kind, library, path), False
    if unknown := [name for name in parameters if name not in known and not takes_any]:
        raise UnknownParameter(path, unknown, [name for name in known if name != "kwargs"])
    seeded: dict[str, Scalar] = {"random_state": seed} if "random_state" in known else {}
    if library is not None:
        seeded = {**library.settings, library.seed: seed}
    chosen = {**seeded, **parameters}
    try:
        estimator = kind(**chosen)
    except (TypeError, ValueError) as exc:
        raise EstimatorNotFound(path, str(exc)) from exc
    if not (is_supervised(estimator) or hasattr(estimator, "score_samples")):
        raise NoSignal(path)
    return estimator


def is_supervised(estimator: Any) -> bool:
    """Whether it is a classifier with probabilities; otherwise it is fitted without labels."""
    return is_classifier(estimator) and hasattr(estimator, "predict_proba")


def fit(
    estimator: Any,
    x: Floats32,
    y: Bools | None,
    names: Sequence[str] | None = None,
    weights: Floats64 | None = None,
) -> Pipeline:
    """StandardScaler and *estimator*, fitted on *x* (N, F), and on *y* (N,) unless it is None.

    Each row counts by its weight (N,), where there are *weights* and labels.

    A Pipeline is fitted as it is: it prepares its columns, of categories for example, itself;
    so are trees of other libraries, to which scales are nothing. *estimator* itself is fitted.
    `names` are those of the F columns, for messages.
    Raises NotFinite, NothingVaries, NoWeights and FitFailed.
    """
    called = names or [f"x[{place}]" for place in range(x.shape[1])]
    _check_finite(x, called)
    if (x == x[:1]).all():
        raise NothingVaries(called)
    steps = [exact_scaler(x)] if is_scaled(estimator) else []
    scaled = steps[0].transform(x) if steps else x
    labels = None if y is None else plain_labels(estimator, y)
    counted = {} if weights is None or y is None else _counted(estimator, weights)
    refused = _refusals(estimator)
    try:
        fitted = (
            estimator.fit(scaled) if labels is None else estimator.fit(scaled, labels, **counted)
        )
    except refused as exc:  # scikit-learn checks values of parameters in fit
        raise FitFailed(type(estimator).__name__, str(exc)) from exc
    return Pipeline(fitted.steps) if isinstance(fitted, Pipeline) else make_pipeline(*steps, fitted)


def is_scaled(estimator: Any) -> bool:
    """Whether *estimator* gets its columns standardised: not what prepares them, or needs not."""
    return not isinstance(estimator, Pipeline) and library_of_estimator(estimator) is None


def _refusals(estimator: Any) -> tuple[type[Exception], ...]:
    """What an estimator raises of parameters; other libraries have errors of their own kind."""
    own = (TypeError, ValueError)
    return own if library_of_estimator(estimator) is None else (*own, Exception)


def takes_weights(estimator: Any) -> bool:
    """Whether rows may count by weights in its fit."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    return bool(has_fit_parameter(last, "sample_weight"))


def _counted(estimator: Any, weights: Floats64) -> dict[str, Floats64]:
    """What *estimator* is to be given with its rows. Raises NoWeights."""
    if not takes_weights(estimator):
        raise NoWeights(type(estimator).__name__)
    if isinstance(estimator, Pipeline):
        return {f"{estimator.steps[-1][0]}__sample_weight": weights}
    return {"sample_weight": weights}


def exact_scaler(x: Floats32) -> StandardScaler:
    """A scaler to mean 0 and a deviation of 0.7 to 1.4, with the same bits in float32 ONNX.

    Amounts lie on a grid of cents, so a tree's threshold, midway between two of them, is
    often exactly a third. One rounding apart, such a row takes the other branch in ONNX. With
    a float32 mean and a power of two as scale, the only rounding is that of the subtraction.
    """
    scaler = StandardScaler().fit(x)
    scaler.mean_ = scaler.mean_.astype(np.float32).astype(np.float64)
    scaler.scale_ = np.exp2(np.round(np.log2(scaler.scale_)))
    scaler.var_ = scaler.scale_**2
    return scaler


def _imported(path: str) -> Any:
    module, _, attribute = path.replace(":", ".").rpartition(".")
    try:
        estimator_class = getattr(importlib.import_module(module), attribute)
    except Exception as exc:  # a user's module may fail in any way while it is imported
        raise EstimatorNotFound(path, f"{type(exc).__name__}: {exc}") from exc
    library = library_of(path)
    if library is not None and attribute not in library.classifiers:
        others = f"of {library.module} there is {', '.join(library.classifiers)}"
        raise EstimatorNotFound(path, others)
    ours = inspect.isclass(estimator_class) and (
        library is not None or issubclass(estimator_class, BaseEstimator)
    )
    if not ours:
        raise EstimatorNotFound(path, "it is not a scikit-learn estimator class")
    return estimator_class


def _check_finite(x: Floats32, names: Sequence[str]) -> None:
    wrong: Bools = ~np.isfinite(x)
    if wrong.any():
        columns = [name for name, column in zip(names, wrong.T, strict=True) if column.any()]
        raise NotFinite(columns, int(wrong.any(axis=1).sum()))
