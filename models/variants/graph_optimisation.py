"""The graph that onnxruntime makes of a model, made once and saved."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from models.arrays import Floats32
from models.variants.graphs import (
    VariantEffect,
    leading_to_signal,
    saved_by_onnxruntime,
    with_biases_inside,
)


def optimised(content: bytes, _rows: Floats32) -> bytes:
    """The model without what its signal does not need, and as onnxruntime rewrites it.

    At its extended level: what lies above depends on the processor and is done at load.
    """
    lean = with_biases_inside(leading_to_signal(content)).SerializeToString()
    return saved_by_onnxruntime(lean, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


def optimised_in_words(ran: Any, ran_before: Any) -> VariantEffect:
    """What the optimisation came to, by the graphs that run."""
    fewer = len(ran_before.node) - len(ran.node)
    if fewer == 0:
        return VariantEffect(
            "a no-op: onnxruntime makes the same graph of fp32 at every load", no_op=True
        )
    return VariantEffect(f"{fewer} of {len(ran_before.node)} nodes fewer")
