"""What skl2onnx 1.20 does not convert rightly by itself, and does with a little help."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import get_converter, get_shape_calculator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import AdaBoostClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

_HISTOGRAMS = sklearn_operator_name_map[HistGradientBoostingClassifier]


def convertible(classifier: Any) -> Any:
    """The fitted classifier itself, or one that says the same and is converted rightly.

    Of two classes, a linear discriminant is the logistic function of a linear one, as logistic
    regression is; skl2onnx makes a softmax of it. Boosted classifiers have their class labels
    encoded, which booleans cannot be.
    """
    if type(classifier) is LinearDiscriminantAnalysis:
        equal = LogisticRegression()
        for name in ("coef_", "intercept_", "classes_", "n_features_in_"):
            setattr(equal, name, getattr(classifier, name))
        return equal
    if type(classifier) is AdaBoostClassifier:
        equal = copy.copy(classifier)
        equal.classes_ = classifier.classes_.astype(np.int64)
        return equal
    return classifier


class _PlainIntegers:
    """A skl2onnx container that takes booleans for integers; onnx's attributes do not."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *arguments: Any, **attributes: Any) -> Any:
        """Add a node whose attributes hold no booleans."""
        plain = {name: _integers(value) for name, value in attributes.items()}
        return self._container.add_node(*arguments, **plain)


def _integers(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [int(each) if isinstance(each, bool | np.bool_) else each for each in value]


def _histogram_boosting(scope: Any, operator: Any, container: Any) -> None:
    get_converter(_HISTOGRAMS)(scope, operator, _PlainIntegers(container))


CONVERTERS = {HistGradientBoostingClassifier: _histogram_boosting}
"""For `custom_conversion_functions`."""
SHAPES = {HistGradientBoostingClassifier: get_shape_calculator(_HISTOGRAMS)}
"""For `custom_shape_calculators`."""
