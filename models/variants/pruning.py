"""Networks with fewer hidden units: the least ones go, what is left is fitted again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ValueInfoProto, numpy_helper

from models.arrays import Floats32, Floats64
from models.variants.errors import DoesNotApply
from models.variants.graphs import VariantEffect, leading_to_signal, with_biases_inside

_RIDGE = 1e-4
"""Of the mean square of a unit: units that say the same have no unique fit."""
_VECTOR = 16
"""Units are kept by the 16, the float32 values that a vector register holds."""

_ACTIVATIONS: Mapping[str, Callable[[Floats64], Floats64]] = {
    "Relu": lambda values: np.maximum(values, 0),
    "Tanh": np.tanh,
    "Sigmoid": lambda values: 1 / (1 + np.exp(-values)),
}


@dataclass(frozen=True, slots=True)
class _Layer:
    """activation(x · weights + bias)."""

    node: Any
    weights: Floats64
    bias: Floats64
    activation: str | None
    """None for the last layer: what comes behind it does not change."""


def without_units(share: float) -> Callable[[bytes, Floats32], bytes]:
    """A variant without *share* of the units of every hidden layer."""

    def pruned(content: bytes, rows: Floats32) -> bytes:
        return _pruned(content, rows, share)

    return pruned


def _pruned(content: bytes, rows: Floats32, share: float) -> bytes:
    """The network with fewer hidden units, so that its matrices are smaller.

    A unit's magnitude is |weights into it| · |weights out of it| (Euclidean). Those with the
    smallest go. Layer by layer the weights behind are then fitted anew by least squares, on
    *rows* (N, F), to what the whole network has there: the channel pruning of Luo, Wu and Lin,
    *ThiNet* (ICCV 2017), with magnitudes instead of a search.
    Raises DoesNotApply for a model that is no chain of layers, and for one too narrow.
    """
    model = with_biases_inside(leading_to_signal(content))
    layers = _layers(model.graph)
    if len(layers) < 2:
        raise DoesNotApply("not a network with hidden units")
    kept = [_kept(layer, behind, share) for layer, behind in pairwise(layers)]
    if all(len(units) == len(layer.bias) for units, layer in zip(kept, layers, strict=False)):
        raise DoesNotApply(f"its hidden layers are too narrow to lose {share:.0%} of their units")
    refitted = _refitted(layers, kept, _first_input(model, layers[0], rows))
    _write(model.graph, layers, refitted)
    smaller: bytes = model.SerializeToString()
    return smaller


def _layers(graph: Any) -> list[_Layer]:
    """The chain of layers in the graph: each product is read by one activation, that by one."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    chain: list[_Layer] = []
    node = next((node for node in graph.node if _is_plain(node, constants)), None)
    while node is not None and _is_plain(node, constants):
        weights, bias = (
            numpy_helper.to_array(constants[name]).astype(np.float64) for name in node.input[1:]
        )
        follower = _only(readers.get(node.output[0], []))
        known = follower is not None and follower.op_type in _ACTIVATIONS
        behind = _only(readers.get(follower.output[0], [])) if follower is not None else None
        hidden = known and behind is not None and _is_plain(behind, constants)
        activation = follower.op_type if hidden and follower is not None else None
        chain.append(_Layer(node, weights, bias.ravel(), activation))
        node = behind if hidden else None
    return chain


def _is_plain(node: Any, constants: Mapping[str, Any]) -> bool:
    """A product with constant weights and bias, neither scaled nor transposed."""
    if node.op_type != "Gemm" or len(node.input) != 3:
        return False
    if any(name not in constants for name in node.input[1:]):
        return False
    values = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    turned = values.get("transA", 0) or values.get("transB", 0)
    return not turned and values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0


def _only(nodes: list[Any]) -> Any:
    return nodes[0] if len(nodes) == 1 else None


def _kept(layer: _Layer, behind: _Layer, share: float) -> NDArray[np.intp]:
    """The units of *layer* to keep, ascending."""
    units = len(layer.bias)
    wanted = units * (1 - share)
    count = min(units, max(1, round(wanted / _VECTOR)) * _VECTOR)
    magnitude = np.linalg.norm(layer.weights, axis=0) * np.linalg.norm(behind.weights, axis=1)
    return np.sort(np.argsort(-magnitude, kind="stable")[:count])


def _first_input(model: Any, first: _Layer, rows: Floats32) -> Floats64:
    """What the first layer reads for *rows*."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    name = first.node.input[0]
    shown.graph.output.append(ValueInfoProto(name=name))
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs: Floats64 = session.run([name], {model.graph.input[0].name: rows})[0]
    return inputs.astype(np.float64)


def _refitted(
    layers: list[_Layer], kept: list[NDArray[np.intp]], x: Floats64
) -> list[tuple[Floats64, Floats64]]:
    """Weights and biases with the *kept* units alone, fitted on the first layer's input *x*."""
    whole = left = x
    weights, bias = layers[0].weights, layers[0].bias
    refitted = []
    for layer, behind, units in zip(layers, layers[1:], kept, strict=False):
        activate = _ACTIVATIONS[layer.activation or ""]
        whole = activate(whole @ layer.weights + layer.bias)
        weights, bias = weights[:, units], bias[units]
        left = activate(left @ weights + bias)
        refitted.append((weights, bias))
        target = whole @ behind.weights + behind.bias
        weights, bias = _least_squares(left, target, behind.weights[units], behind.bias)
    return [*refitted, (weights, bias)]


def _least_squares(
    x: Floats64, y: Floats64, weights: Floats64, bias: Floats64
) -> tuple[Floats64, ...]:
    """Weights and bias for which x · weights + bias is next to *y*, as near as may be to those.

    The ridge pulls towards the weights there were, so that no unit that hardly ever speaks
    gets a large one.
    """
    ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    before = np.concatenate([weights, bias[None, :]])
    square = ones.T @ ones
    ridge = _RIDGE * np.trace(square) / len(square) * np.eye(len(square))
    solution = before + np.linalg.solve(square + ridge, ones.T @ (y - ones @ before))
    return solution[:-1], solution[-1]


def _write(graph: Any, layers: list[_Layer], refitted: list[tuple[Floats64, Floats64]]) -> None:
    """Put the new weights into the graph, under the names of the old ones."""
    new = {
        name: numpy_helper.from_array(values.astype(np.float32), name)
        for layer, pair in zip(layers, refitted, strict=True)
        for name, values in zip(layer.node.input[1:], pair, strict=True)
    }
    constants = [new.get(tensor.name, tensor) for tensor in graph.initializer]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    del graph.value_info[:]  # shapes of before


def pruned_in_words(ran: Any, ran_before: Any) -> VariantEffect:
    """How many weights are left, by the graphs that run."""
    left, before = (
        sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
        for graph in (ran, ran_before)
    )
    return VariantEffect(f"{left:,} of {before:,} weights left, fitted again")
