"""Feature extractor: event fields in, feature vector out; its signal is the novelty."""

from __future__ import annotations

import numpy as np

from models.component import Batch, Component, StageOutput
from models.features import FeatureVector
from models.onnx.model_component import FeatureOutput, ModelComponent
from models.onnx.session import ModelSession
from topics.events import as_float32
from topics.pipeline import ComponentSpec


class PlainFeatures(Component):
    """Computes the features that the pipeline file declares; its signal is 0."""

    def __init__(self, features: FeatureVector) -> None:
        self._features = features

    def transform(self, batch: Batch) -> StageOutput:
        """Output: the features, float64 (N, F). Signal: 0, float32 (N,)."""
        return StageOutput(self._features.compute(batch.columns), np.zeros(batch.rows, np.float32))


class ExtractFeatures(ModelComponent):
    """Computes the features that the pipeline file declares; its model says how new they are."""

    def __init__(self, features: FeatureVector, session: ModelSession) -> None:
        super().__init__(session)
        self._features = features

    def features(self, batch: Batch) -> FeatureOutput:
        """The features, float64 (N, F), and the same as the model reads them.

        Raises BeyondFloat32, which names the feature, for one that the model cannot be given.
        """
        vector = self._features.compute(batch.columns)
        return FeatureOutput(vector, as_float32(vector, self._features.names))

    def transform(self, batch: Batch) -> StageOutput:
        """Output: the features. Signal: the novelty, float32 (N,) in [0, 1].

        Raises BeyondFloat32, see `features`.
        """
        vector, model_input = self.features(batch)
        return StageOutput(vector, self.session.signal(model_input))


def extract_features(spec: ComponentSpec, session: ModelSession | None) -> Component:
    """The component of an entry in the pipeline file, with its model if it has one."""
    features = FeatureVector(spec.features or [])
    return PlainFeatures(features) if session is None else ExtractFeatures(features, session)
