"""A graph that runs another one for each row alone (ONNX's Scan).

It is slower, and right where nothing else is: where the number of rows is written into the graph,
or a row's bits depend on the batch around it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from models.imports.graph_edits import GraphEditor, float_tensor
from models.imports.signal_output import SIGNAL


def run_row_by_row(model: Any, columns: int, rows: int) -> None:
    """Let a component's *model*, which is run with so many *rows*, run for each row, in place.

    The row stands in all of them; what is said of the first is its signal.
    """
    editor = GraphEditor(model)
    graph = model.graph
    batch, inside = graph.input[0].name, editor.name(f"{SIGNAL}_of_batch")
    for node in graph.node:
        node.output[:] = [inside if name == SIGNAL else name for name in node.output]
        node.input[:] = [inside if name == SIGNAL else name for name in node.input]
    inner = [*graph.node]
    row, first, each = editor.name("row"), editor.name("first"), editor.name("signals")
    shape = editor.constant(np.array([1, columns], np.int64))
    several = editor.constant(np.array([rows, columns], np.int64))
    place = editor.constant(np.array([0], np.int64))
    alone = editor.name("row_alone")
    body = helper.make_graph(
        [
            helper.make_node("Reshape", [row, shape], [alone]),
            helper.make_node("Expand", [alone, several], [batch]),
            *inner,
            helper.make_node("Gather", [inside, place], [first], axis=0),
        ],
        "of_a_row", [float_tensor(row, [columns])], [float_tensor(first, [1, 1])],
    )  # fmt: skip
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    matrix = editor.name("columns")
    editor.node("Scan", matrix, output=each, body=body, num_scan_inputs=1)
    editor.reshaped(each, [-1, 1], output=SIGNAL)
    editor.put_last()
    graph.input.append(float_tensor(matrix, ["rows", columns]))
    graph.output.append(float_tensor(SIGNAL, ["rows", 1]))
