"""ONNX graphs of models: what leads to the signal, and what onnxruntime makes of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.utils import Extractor

_INTEGER_OPERATIONS = {
    "ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "QGemm", "QLinearConv", "QLinearMatMul",
}  # fmt: skip
_PRODUCTS = {"Gemm", "MatMul", "FusedGemm", "FusedMatMul"}
SILENT = 4
"""How much onnxruntime logs: nothing."""


class VariantEffect(NamedTuple):
    """What a variant came to, by the graph that onnxruntime runs."""

    words: str
    no_op: bool = False
    """Nothing is worked out in another way than in fp32."""


def leading_to_signal(content: bytes) -> Any:
    """The model without the nodes that its output `signal` does not need.

    skl2onnx also works out a label, which onnxruntime would do for every batch. Each operator
    set is named once: skl2onnx may name one twice, which the quantiser refuses. What comes out
    of a scaler is declared: no shape inference knows that it is float32.
    """
    model = onnx.load_from_string(content)
    versions = {opset.domain: opset.version for opset in model.opset_import}
    kept = Extractor(model).extract_model([model.graph.input[0].name], ["signal"])
    del kept.opset_import[:]
    kept.opset_import.extend(helper.make_opsetid(d, v) for d, v in sorted(versions.items()))
    kept.graph.value_info.extend(
        helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        for node in kept.graph.node
        if node.op_type == "Scaler"
    )
    return kept


def with_biases_inside(model: Any) -> Any:
    """The model with each product and the sum of a bias behind it as one Gemm.

    onnxruntime then has one kernel for both, also for int8 where it would otherwise add apart.
    """
    constants = {each.name: each for each in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in node.input)
    sums = {node.input[0]: node for node in model.graph.node if node.op_type == "Add"}
    gemms, gone = {}, set()
    for product in model.graph.node:
        total = sums.get(product.output[0])
        if total is None or readers[product.output[0]] != 1:
            continue
        if not _is_layer(product, total, constants):
            continue
        bias = constants[total.input[1]]
        flat = bias.dims[-1]
        del bias.dims[:]  # (1, F): the quantiser knows (F,) alone
        bias.dims.append(flat)
        inputs = [*product.input, bias.name]
        gemms[product.output[0]] = helper.make_node("Gemm", inputs, list(total.output))
        gone.add(total.output[0])
    nodes = [
        gemms.get(node.output[0], node) for node in model.graph.node if node.output[0] not in gone
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _is_layer(product: Any, total: Any, constants: Mapping[str, Any]) -> bool:
    """A product with a constant matrix, and the sum of a constant bias, one number a column."""
    if product.op_type != "MatMul" or total.input[1] not in constants:
        return False
    weights, bias = constants.get(product.input[1]), constants[total.input[1]]
    if weights is None or len(weights.dims) != 2:
        return False
    width = weights.dims[1]
    return list(bias.dims) in ([width], [1, width])


def saved_by_onnxruntime(content: bytes, level: ort.GraphOptimizationLevel) -> bytes:
    """The model as onnxruntime has rewritten it at *level*."""
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    options.graph_optimization_level = level
    with tempfile.TemporaryDirectory(prefix="anabranch-variant-") as folder:
        path = Path(folder) / "model.onnx"
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def executed(content: bytes) -> Any:
    """The graph that a session of the model runs: after all that onnxruntime rewrites."""
    level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnx.load_from_string(saved_by_onnxruntime(content, level)).graph


def operations(graph: Any) -> Counter[str]:
    """How many nodes of each kind the graph has."""
    return Counter(node.op_type for node in graph.node)


def integer_operations(graph: Any) -> int:
    """How many nodes multiply integers."""
    return sum(node.op_type in _INTEGER_OPERATIONS for node in graph.node)


def half_products(graph: Any) -> int:
    """How many products read their weights as fp16, so are worked out in fp16."""
    halves = {
        tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16
    }
    return sum(
        node.op_type in _PRODUCTS and not halves.isdisjoint(node.input) for node in graph.node
    )


def halves(graph: Any) -> int:
    """How many constants are stored as fp16."""
    return sum(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer)
