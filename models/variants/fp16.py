"""Weights of half the size."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from models.arrays import Floats32
from models.variants.errors import DoesNotApply
from models.variants.graphs import (
    VariantEffect,
    half_products,
    halves,
    leading_to_signal,
    operations,
)


def halved(content: bytes, _rows: Floats32) -> bytes:
    """The model with its floats as fp16, input and signal excepted.

    Operators without an fp16 form (scalers, trees, linear classifiers) stay as they are.
    Raises DoesNotApply for a model of nothing else.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(leading_to_signal(content), keep_io_types=True)
    weights = [
        tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16
    ]
    if not any(len(tensor.dims) > 1 for tensor in weights):
        raise DoesNotApply("no weights have an fp16 form: trees and linear models keep fp32")
    converted: bytes = model.SerializeToString()
    return converted


def halved_in_words(ran: Any, ran_before: Any) -> VariantEffect:
    """Whether this processor works in fp16, by the graphs that run."""
    casts = operations(ran)["Cast"] - operations(ran_before)["Cast"]
    if half_products(ran):
        return VariantEffect(f"{half_products(ran)} products in fp16, {casts} more casts")
    if halves(ran):
        return VariantEffect(
            f"stored in fp16, worked out in fp32 on this CPU, with {casts} more casts"
        )
    return VariantEffect(
        "a no-op: onnxruntime turns it back into fp32 when it loads it", no_op=True
    )
