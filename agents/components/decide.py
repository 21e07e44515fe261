"""Decision maker: features and risks in, probability of the costly outcome out."""

from __future__ import annotations

from models.onnx.model_component import ModelComponent


class Decide(ModelComponent):
    """Output, float32 (N, 1), and signal (N,) are the probability that its model gives.

    The policy that turns the weighted score into a decision is the weighting agent's.
    """
