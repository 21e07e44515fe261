"""Risk assessor: feature vector in, calibrated probability out."""

from __future__ import annotations

from models.onnx.model_component import ModelComponent


class AssessRisk(ModelComponent):
    """Output, float32 (N, 1), and signal (N,) are the probability that its model gives."""
