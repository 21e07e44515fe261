"""Cards and background rows as tests of the registry write them."""

from __future__ import annotations

import numpy as np

from models.registry import Background, RecordedOutput
from models.registry.registry import ModelCard, WeightsCard

CARD = ModelCard(
    estimator="sklearn.linear_model.LogisticRegression",
    parameters={"C": 0.5, "penalty": None, "fit_intercept": True, "max_iter": 100},
    inputs=["amount", "hour"],
    n_inputs=2,
    rows=1000,
    data_hash="sha256:00",
    created_at="2018-04-01T00:00:00+00:00",
    metrics={"roc_auc": 0.9},
    libraries={"numpy": "2.0"},
)
WEIGHTS = WeightsCard(
    values={"a": 0.25, "b": 0.75},
    rows=10,
    created_at="2018-04-01T00:00:00+00:00",
    metrics={"log_loss": 0.1},
    models={"a": "sha256:00"},
)


def background_of(rows: int) -> Background:
    """What two components said of the same *rows*."""
    rng = np.random.default_rng(rows)
    signals = rng.random((2, rows)).astype(np.float32)
    return Background({
        "features": RecordedOutput(rng.normal(size=(rows, 2)), signals[0], ["amount", "hour"]),
        "own": RecordedOutput(signals[1][:, None], signals[1], ["own"]),
    })  # fmt: skip
