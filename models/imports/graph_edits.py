"""What is added to the graphs of others: nodes, constants and names that clash with none.

The operators that are used here mean the same in every opset from 9 on (ONNX operator list), so
that no graph has to be converted to another opset, which not every operator survives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LEAST_OPSET = 9
_OPSET = 17
_IR_VERSION = 8
"""From 4 on a constant need not be an input, too; 8 knows opset 17."""


class GraphEditor:
    """Adds to the graph of an ONNX *model*, in place."""

    def __init__(self, model: Any) -> None:
        self.graph = model.graph
        self._names = set(_names(model.graph))
        self._added: list[Any] = []
        if not any(each.domain in ("", "ai.onnx") for each in model.opset_import):
            model.opset_import.append(helper.make_opsetid("", _OPSET))
        model.ir_version = max(model.ir_version, _IR_VERSION)

    def name(self, wanted: str) -> str:
        """A name like *wanted* that nothing in the graph has."""
        found, number = wanted, 1
        while found in self._names:
            found, number = f"{wanted}_{number}", number + 1
        self._names.add(found)
        return found

    def node(
        self, operator: str, *inputs: str, output: str | None = None, **attributes: Any
    ) -> str:
        """Add a node of one output; the output's name. `domain` may be among the attributes."""
        result = output or self.name(operator.lower())
        self._added.append(helper.make_node(operator, list(inputs), [result], **attributes))
        return result

    def constant(self, values: NDArray[Any], name: str | None = None) -> str:
        """Add a constant; its name."""
        result = name or self.name("constant")
        self.graph.initializer.append(numpy_helper.from_array(values, result))
        return result

    def cast(self, tensor: str, kind: int) -> str:
        """The *tensor* as another type, by its number in TensorProto."""
        return self.node("Cast", tensor, to=kind)

    def columns(self, tensor: str, places: list[int]) -> str:
        """Those columns of a *tensor* (N, F)."""
        return self.node("Gather", tensor, self.constant(np.array(places, np.int64)), axis=1)

    def reshaped(self, tensor: str, shape: list[int], output: str | None = None) -> str:
        """The *tensor* in another shape; one side may be -1."""
        sides = self.constant(np.array(shape, np.int64))
        return self.node("Reshape", tensor, sides, output=output)

    def put_first(self) -> None:
        """What was added comes before all nodes that were there."""
        kept = list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend([*self._added, *kept])
        self._added.clear()

    def put_last(self) -> None:
        """What was added comes after all nodes that were there."""
        self.graph.node.extend(self._added)
        self._added.clear()


def float_tensor(name: str, shape: list[int | str]) -> Any:
    """What a graph says of an input or output of float32."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def sides(value: Any) -> list[int | None]:
    """The shape that a graph says of an input or output; None for a side that is free."""
    if not value.type.tensor_type.HasField("shape"):
        return []
    return [
        side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None
        for side in value.type.tensor_type.shape.dim
    ]


def _names(graph: Any) -> Iterator[str]:
    yield from (each.name for each in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from (*node.input, *node.output)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _names(inner)
