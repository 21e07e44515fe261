"""A row gives the same bits alone and in any batch: sums that do not depend on its address.

onnxruntime's ReduceSum, ReduceMean and Einsum add four or more columns in an order that
depends on where the row lies in memory, so on the rows before it. Its matrix product does
not (for four rows or more, see `models.onnx.session`): a sum is written as x · ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import ValueInfoProto, helper, numpy_helper

from models.arrays import Floats32

_PART = 7
"""Odd, so that a row of a part lies otherwise in memory than in the whole."""


def with_stable_sums(model: Any, columns: int) -> Any:
    """The ONNX model with each ReduceSum over the last axis as a matrix product with ones.

    `columns` are those of its input. A sum over another axis is left: `moving_rows` finds it.
    """
    initial = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    sums = [node for node in model.graph.node if _is_row_sum(node, initial)]
    shapes = _shapes(model, [node.input[0] for node in sums], columns)
    nodes = []
    for node in model.graph.node:
        shape = shapes.get(node.input[0], ()) if node in sums else ()
        last = shape and initial[node.input[1]].tolist() in ([-1], [len(shape) - 1])
        nodes.extend(_product(node, shape[-1], model.graph.initializer) if last else [node])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_unused(model.graph)
    return model


def moving_rows(run: Callable[[Floats32], Floats32], rows: Floats32) -> int:
    """How many of *rows* get other bits from *run* in batches of seven than in one."""
    parts = [run(rows[at : at + _PART].copy()) for at in range(0, len(rows), _PART)]
    apart = np.concatenate([np.zeros(0, np.float32), *parts])
    whole = run(rows)
    return int((whole.view(np.int32) != apart.view(np.int32)).sum())


def _is_row_sum(node: Any, initial: Mapping[str, Any]) -> bool:
    return node.op_type == "ReduceSum" and len(node.input) == 2 and node.input[1] in initial


def _shapes(model: Any, tensors: Collection[str], columns: int) -> dict[str, tuple[int, ...]]:
    """The shapes of *tensors* that end in the same width for two rows and for three.

    Seen in a run, as shape inference does not know skl2onnx's scaler.
    """
    if not tensors:
        return {}
    shown = type(model)()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(tensors))
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    two, three = (
        session.run(names, {model.graph.input[0].name: np.zeros((rows, columns), np.float32)})
        for rows in (2, 3)
    )
    shapes = zip(names, two, three, strict=True)
    return {name: a.shape for name, a, b in shapes if a.ndim > 1 and a.shape[-1] == b.shape[-1]}


def _product(node: Any, width: int, initializers: Any) -> list[Any]:
    (total,) = node.output
    keeps = all(each.i for each in node.attribute if each.name == "keepdims")
    ones, last, column = f"{total}_ones", f"{total}_last", total if keeps else f"{total}_column"
    initializers.append(numpy_helper.from_array(np.ones((width, 1), np.float32), ones))
    product = helper.make_node("MatMul", [node.input[0], ones], [column])
    if keeps:
        return [product]
    initializers.append(numpy_helper.from_array(np.array([-1], np.int64), last))
    return [product, helper.make_node("Squeeze", [column, last], [total])]


def _drop_unused(graph: Any) -> None:
    """Remove constants that no node reads, of which onnxruntime warns."""
    read = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
