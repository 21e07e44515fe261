"""A graph that was exported for so many rows, made one for any number of them.

Exporters write the rows of the example into the graph unless they are told not to. Where only
shapes say so, they can be set free; that it worked is shown by running (`adaptation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from models.imports.graph_edits import sides

ROWS = "rows"


def fixed_rows(inputs: Sequence[Any]) -> int | None:
    """For how many rows a graph with these *inputs* was exported; None where any number will do."""
    firsts = {(sides(each) or [None])[0] for each in inputs}
    return firsts.pop() if len(firsts) == 1 else None


def free_rows(graph: Any, inputs: Sequence[Any], rows: int) -> None:
    """Let *graph*, exported for so many *rows* of these *inputs*, take any number, in place."""
    for value in (*inputs, *graph.output):
        shape = value.type.tensor_type.shape
        if shape.dim and shape.dim[0].dim_value == rows:
            shape.dim[0].dim_param = ROWS
    del graph.value_info[:]  # the shapes in between; onnxruntime finds them anew
    initial = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type != "Reshape" or len(node.input) < 2:
            continue
        if (shape := initial.get(node.input[1])) is not None:
            free = _free(numpy_helper.to_array(shape), rows)
            if free is not None:
                name = f"{node.output[0]}_{ROWS}"
                graph.initializer.append(numpy_helper.from_array(free, name))
                node.input[1] = name
    for node in list(graph.node):
        if node.op_type == "Constant" and _is_read_by_reshape(graph, node.output[0]):
            value = next((each for each in node.attribute if each.name == "value"), None)
            free = None if value is None else _free(numpy_helper.to_array(value.t), rows)
            if free is not None:
                node.CopyFrom(
                    helper.make_node("Constant", [], list(node.output), name=node.name,
                                     value=numpy_helper.from_array(free))
                )  # fmt: skip


def _is_read_by_reshape(graph: Any, tensor: str) -> bool:
    readers = [node for node in graph.node if tensor in node.input]
    return bool(readers) and all(node.op_type == "Reshape" for node in readers)


def _free(shape: Any, rows: int) -> Any:
    """A Reshape's *shape* whose first side is whatever is left, if it was the *rows*."""
    if shape.ndim != 1 or len(shape) == 0 or shape[0] != rows:
        return None
    free = np.array(shape, np.int64)
    # One side may be -1; where another one is, 0 takes the first side of what is reshaped.
    free[0] = 0 if -1 in shape[1:] else -1
    return free
