"""The ONNX form of a model says what scikit-learn says."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from models import export as exporting
from models.estimators import fit, load_estimator
from models.export import ExportMismatch, NotExportable, export
from models.features import FeatureVector
from models.simulators.card_fraud import simulate
from topics.errors import AnabranchError
from topics.pipeline import Feature

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
Singles = NDArray[np.float32]
ISOLATION = "sklearn.ensemble.IsolationForest"
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "sklearn.linear_model.LogisticRegression": {"max_iter": 1000},
    "sklearn.ensemble.RandomForestClassifier": {
        "n_estimators": 50, "max_depth": 8, "min_samples_leaf": 20,
    },
    "sklearn.ensemble.ExtraTreesClassifier": {"n_estimators": 20, "max_depth": 8},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 30},
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 30},
    "sklearn.neural_network.MLPClassifier": {"hidden_layer_sizes": (16, 8), "max_iter": 20},
    "sklearn.tree.DecisionTreeClassifier": {"max_depth": 6},
    "sklearn.naive_bayes.GaussianNB": {},
}  # fmt: skip
EVERY = [*CLASSIFIERS, ISOLATION]
