"""A fitted estimator as a file, which a later fit goes on with (`partial_fit`).

The file is skops', not a pickle: opening one imports nothing but what is known here, scikit-learn's
own types that skops trusts, the estimator that the pipeline file names, and the two optimisers of
its networks. So who may write to the registry does not choose what is run.

EstimatorError
├── NotIncremental      the estimator cannot go on with a fit
└── StateNotOpened      a file is no fitted estimator of that kind
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from models.arrays import Bools, Floats32, Floats64
from models.errors import EstimatorError, FitFailed
from models.training.estimators import is_supervised, load_estimator, takes_weights
from topics.errors import MissingExtra
from topics.pipeline import ModelSpec

CAN_GO_ON = (
    "SGDClassifier (loss: log_loss or modified_huber), MLPClassifier (solver: adam or sgd), "
    "GaussianNB, BernoulliNB, or a Pipeline that ends with one of these"
)
_KNOWN = frozenset({
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
})  # fmt: skip


class NotIncremental(EstimatorError):
    """The estimator cannot go on with a fit."""

    def __init__(self, estimator: str, why: str) -> None:
        super().__init__(
            f"{estimator} cannot be renewed incrementally: {why}; what can: {CAN_GO_ON}; or leave "
            "it out of renew: incremental, and it is fitted anew"
        )


class StateNotOpened(EstimatorError):
    """A file is no fitted estimator of the kind that the pipeline file names."""

    def __init__(self, estimator: str, cause: str) -> None:
        super().__init__(
            f"the training state of {estimator} is not opened: {cause}; `anabranch train` makes "
            "a version with another one"
        )


def check_incremental(spec: ModelSpec) -> None:
    """Raise NotIncremental where renewals cannot go on with the fit of that estimator.

    It is tried on four rows: whether parameters allow it scikit-learn says only then.
    """
    estimator = load_estimator(spec.estimator or "", spec.parameters, seed=0)
    last, name = _last(estimator), type(_last(estimator)).__name__
    if not hasattr(last, "partial_fit"):
        raise NotIncremental(name, "it has no partial_fit")
    if not is_supervised(estimator):
        raise NotIncremental(name, "its signal is no probability, but a novelty among all rows")
    if spec.calibration != "none":
        raise NotIncremental(name, "its calibration takes all rows (model: calibration)")
    try:
        clone(last).partial_fit(np.eye(4, 2), [False, True, False, True], classes=[False, True])
    except Exception as exc:  # the boundary to a user's estimator
        cause = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise NotIncremental(name, f"partial_fit says: {cause}") from exc


def go_on(fitted: Pipeline, x: Floats32, y: Bools, weights: Floats64 | None) -> None:
    """Have *fitted* learn rows *x* (N, F) with *y* (N,) too, once; each counts by its weight (N,).

    What stands before its last step stays as it was fitted. Raises FitFailed.
    """
    last = _last(fitted)
    rows: Any = x
    for step in _steps_before_last(fitted):
        rows = step.transform(rows)
    counted = {"sample_weight": weights} if weights is not None and takes_weights(last) else {}
    try:
        last.partial_fit(rows, y, **counted)
    except (TypeError, ValueError) as exc:
        raise FitFailed(type(last).__name__, str(exc)) from exc


def state_of(fitted: Pipeline) -> bytes:
    """The file of a fitted estimator. Raises MissingExtra."""
    try:
        from skops.io import dumps
    except ImportError as exc:
        raise MissingExtra("an incremental fit", "train") from exc
    content: bytes = dumps(fitted)
    return content


def opened_state(content: bytes, spec: ModelSpec) -> Pipeline:
    """The fitted estimator of a file, of the kind of *spec*.

    Raises StateNotOpened, EstimatorError, and MissingExtra.
    """
    try:
        from skops.io import get_untrusted_types, loads
    except ImportError as exc:
        raise MissingExtra("an incremental fit", "train") from exc
    named = load_estimator(spec.estimator or "", spec.parameters, seed=0)
    name = type(named).__name__
    allowed = _KNOWN | {f"{type(e).__module__}.{type(e).__qualname__}" for e in _within(named)}
    try:
        unknown = {*get_untrusted_types(data=content)} - allowed
        if unknown:
            raise StateNotOpened(name, f"it holds {', '.join(sorted(unknown)[:3])}")
        fitted = loads(content, trusted=[*allowed])
    except StateNotOpened:
        raise
    except Exception as exc:  # skops raises whatever what it builds raises
        cause = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise StateNotOpened(name, f"{type(exc).__name__}: {cause}") from exc
    if not isinstance(fitted, Pipeline) or type(_last(fitted)) is not type(_last(named)):
        raise StateNotOpened(name, f"it is a {type(_last(fitted)).__name__}")
    return fitted


def _last(estimator: Any) -> Any:
    """The estimator, or that at the end of pipelines."""
    while isinstance(estimator, Pipeline):
        estimator = estimator[-1]
    return estimator


def _steps_before_last(fitted: Pipeline) -> Iterator[Any]:
    """All transformers of pipelines within pipelines, in their order."""
    for step in fitted[:-1]:
        yield step[1] if isinstance(step, tuple) else step
    if isinstance(fitted[-1], Pipeline):
        yield from _steps_before_last(fitted[-1])


def _within(estimator: Any) -> Iterator[Any]:
    yield estimator
    for value in estimator.get_params(deep=True).values():
        if isinstance(value, BaseEstimator):
            yield value
