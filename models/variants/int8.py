"""Weights and activations of eight bits.

Of a weight's eight bits seven are used. Without VNNI instructions onnxruntime adds two products of
uint8 and int8 in 16 bits, which full weights overflow: the same model would say other things there.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime as ort

from models.arrays import Floats32
from models.variants.graphs import (
    SILENT,
    VariantEffect,
    integer_operations,
    leading_to_signal,
    with_biases_inside,
)

_QUANTISED = ["Gemm", "MatMul"]
_CALIBRATION_BATCH = 256
_WARNINGS = 2
"""How much onnxruntime logs by default."""
_NARROW = 8
"""Products with so few columns cost next to nothing, and the signal hangs on them."""


def dynamic(content: bytes, _rows: Floats32) -> bytes:
    """The model with int8 weights; activations are scaled anew in every batch."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _aside() as (source, target):
        source.write_bytes(leading_to_signal(content).SerializeToString())
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, reduce_range=True)
        return target.read_bytes()


def static(content: bytes, rows: Floats32) -> bytes:
    """The model with int8 weights and uint8 activations, whose scales *rows* (N, F) give.

    As quantise and dequantise pairs (QDQ), weights by column, scales by the lowest and the
    highest value seen. Products of eight columns or fewer stay in fp32.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = with_biases_inside(leading_to_signal(content))
    with _aside() as (source, target):
        source.write_bytes(model.SerializeToString())
        quantize_static(
            source, target, _Batches(model.graph.input[0].name, rows),
            quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
            op_types_to_quantize=_QUANTISED, nodes_to_exclude=_narrow(model),
        )  # fmt: skip
        return target.read_bytes()


def int8_in_words(ran: Any, _ran_before: Any) -> VariantEffect:
    """Whether anything is worked out in integers, by the graph that runs."""
    if count := integer_operations(ran):
        return VariantEffect(f"{count} products of integers")
    return VariantEffect("a no-op: no integer operation in the graph", no_op=True)


class _Batches:
    """Calibration rows, as the quantiser reads them."""

    def __init__(self, name: str, rows: Floats32) -> None:
        starts = range(0, len(rows), _CALIBRATION_BATCH)
        self._batches = iter([{name: rows[at : at + _CALIBRATION_BATCH]} for at in starts])

    def get_next(self) -> dict[str, Floats32] | None:
        return next(self._batches, None)


def _narrow(model: Any) -> list[str]:
    """The names of products with few columns; every product gets a name."""
    widths = {
        tensor.name: tensor.dims[-1] for tensor in model.graph.initializer if len(tensor.dims) == 2
    }
    names = []
    for place, node in enumerate(model.graph.node):
        if node.op_type in _QUANTISED:
            node.name = f"product-{place}"
            if widths.get(node.input[1], 0) <= _NARROW:
                names.append(node.name)
    return names


@contextmanager
def _aside() -> Iterator[tuple[Path, Path]]:
    """Paths to read from and to write to; what the quantiser has to say is not for users."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    ort.set_default_logger_severity(SILENT)
    try:
        with tempfile.TemporaryDirectory(prefix="anabranch-variant-") as folder:
            yield Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
    finally:
        ort.set_default_logger_severity(_WARNINGS)
        root.setLevel(level)
