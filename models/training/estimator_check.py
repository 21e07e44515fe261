"""Whether an estimator of the pipeline file can become a model: seen before hours of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import get_converter
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.neighbors import RadiusNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags

from models.training.estimator_libraries import register_converter
from models.training.estimators import is_scaled, is_supervised, load_estimator
from models.training.export import BY_DECISION, NotExportable
from models.training.skl2onnx_fixes import CONVERTERS
from topics.errors import AnabranchError
from topics.pipeline import ModelSpec

_TAKEN_APART = (Pipeline, ColumnTransformer, FeatureUnion)
"""What skl2onnx converts part by part."""
_NOT_RUN = (GaussianProcessClassifier, RadiusNeighborsClassifier)
"""What skl2onnx converts into a graph that onnxruntime does not run."""


class NeedsPositive(AnabranchError):
    """The estimator takes no negative inputs, and inputs are standardised."""

    def __init__(self, estimator: str) -> None:
        super().__init__(
            f"{estimator} takes no negative values, but inputs are standardised before it; "
            "choose another"
        )


def check_estimator(spec: ModelSpec) -> None:
    """Raise what `anabranch train` would, as far as that shows without data.

    Raises EstimatorNotFound, LibraryMissing, UnknownParameter, NoSignal, NotExportable and
    NeedsPositive.
    """
    estimator = load_estimator(spec.estimator or "", spec.parameters, seed=0)
    for part in _parts(estimator):
        kind = type(part)
        register_converter(part)
        if kind not in CONVERTERS and kind not in sklearn_operator_name_map:
            raise NotExportable(kind.__name__, "skl2onnx has no converter for it; choose another")
        if kind in _NOT_RUN:
            raise NotExportable(kind.__name__, "onnxruntime does not run it; choose another")
    if is_scaled(estimator) and get_tags(estimator).input_tags.positive_only:
        raise NeedsPositive(type(estimator).__name__)
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if not is_supervised(last) and not isinstance(last, BY_DECISION):
        converter = get_converter(sklearn_operator_name_map[type(last)])
        allowed = getattr(converter, "get_allowed_options", None)
        if "score_samples" not in ((allowed() if allowed else None) or {}):
            name = type(last).__name__
            raise NotExportable(name, "skl2onnx converts no score_samples of it; choose another")


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator and those within it."""
    if not isinstance(estimator, _TAKEN_APART):
        yield estimator
    for value in estimator.get_params(deep=True).values():
        if isinstance(value, BaseEstimator) and not isinstance(value, _TAKEN_APART):
            yield value
