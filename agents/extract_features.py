"""Feature extractor: event fields in, feature vector out; its signal is the novelty."""

from __future__ import annotations

import numpy as np

from models.component import Batch, Component, StageOutput
from models.features import FeatureVector
from models.session import ModelSession


class ExtractFeatures(Component):
    """Computes the features that the pipeline file declares.

    With a model its signal is the model's novelty in [0, 1], without one it is 0.
    """

    def __init__(self, features: FeatureVector, session: ModelSession | None) -> None:
        self._features = features
        self._session = session

    def transform(self, batch: Batch) -> StageOutput:
        """Output: the features, float64 (N, F). Signal: the novelty, float32 (N,)."""
        vector = self._features.compute(batch.columns)
        if self._session is None:
            return StageOutput(vector, np.zeros(batch.rows, np.float32))
        return StageOutput(vector, self._session.signal(vector.astype(np.float32)))
