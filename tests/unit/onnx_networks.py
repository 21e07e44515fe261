"""ONNX files as other tools than scikit-learn write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HIDDEN = 8


def network(
    width: int, *, output: str = "signal", kind: int = TensorProto.FLOAT, rows: int | str = "rows"
) -> bytes:
    """Two layers with tanh and a sigmoid, (rows, *width*) → (rows, 1)."""
    rng = np.random.default_rng(5)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    first, second = rng.normal(size=(width, HIDDEN)) / 100, rng.normal(size=(HIDDEN, 1))
    constants = [
        numpy_helper.from_array(first.astype(dtype), "first"),
        numpy_helper.from_array(second.astype(dtype), "second"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["c"]),
        helper.make_node("Sigmoid", ["c"], [output]),
    ]
    return model(nodes, constants, width, output=output, kind=kind, rows=rows)


def over_the_batch(width: int) -> bytes:
    """A network that normalises by the batch's mean, as one exported in training mode does."""
    axes = [numpy_helper.from_array(np.array([0, 1], np.int64), "axes")]
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
        helper.make_node("ReduceMax", ["y", "columns"], ["z"], keepdims=1),
        helper.make_node("Sigmoid", ["z"], ["signal"]),
    ]
    axes.append(numpy_helper.from_array(np.array([1], np.int64), "columns"))
    return model(nodes, axes, width)


def unbounded(width: int) -> bytes:
    """A network whose output is no share."""
    axes = [numpy_helper.from_array(np.array([1], np.int64), "axes")]
    nodes = [helper.make_node("ReduceMax", ["x", "axes"], ["signal"], keepdims=1)]
    return model(nodes, axes, width)


def model(
    nodes: Sequence[Any], constants: Sequence[Any], width: int, *, output: str = "signal",
    kind: int = TensorProto.FLOAT, rows: int | str = "rows",
) -> bytes:  # fmt: skip
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("x", kind, [rows, width])],
        [helper.make_tensor_value_info(output, kind, [rows, 1])],
        initializer=constants,
    )  # fmt: skip
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
        producer_name="pytorch", producer_version="2.7.0",
    )  # fmt: skip
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content
