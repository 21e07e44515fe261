"""A sum over columns is the same wherever its row lies, and says what it said before."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.onnx.bit_stability import moving_rows, with_stable_sums

Singles = NDArray[np.float32]
COLUMNS = 5


def summing(axes: list[int] | None, *, keepdims: int = 1, shape: list[int] | None = None) -> Any:
    """A model that reshapes its input to *shape*, then sums over *axes*."""
    shape = shape or [-1, COLUMNS]
    constants = [numpy_helper.from_array(np.array(shape, np.int64), "shape")]
    inputs = ["shaped"]
    if axes is not None:
        constants.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
        inputs.append("axes")
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["shaped"]),
            helper.make_node("ReduceSum", inputs, ["sum"], keepdims=keepdims),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", COLUMNS])],
        [onnx.ValueInfoProto(name="sum")],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: Any, x: Singles) -> Singles:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: Singles = session.run(None, {"x": x})[0]
    return outputs


def rows(n: int) -> Singles:
    return np.random.default_rng(0).normal(size=(n, COLUMNS)).astype(np.float32)


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [([1], None), ([-1], None), ([2], [-1, 1, COLUMNS]), ([-1], [-1, COLUMNS, 1])],
)
def test_a_sum_over_the_last_axis_becomes_a_product_with_the_same_value(
    axes: list[int], shape: list[int] | None, keepdims: int
) -> None:
    before = run(summing(axes, keepdims=keepdims, shape=shape), rows(50))
    model = with_stable_sums(summing(axes, keepdims=keepdims, shape=shape), COLUMNS)
    assert "ReduceSum" not in operators(model)
    after = run(model, rows(50))
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("axes", "shape"), [([0], None), (None, None), ([1], [-1, COLUMNS, 1]), ([0, 1], None)]
)
def test_a_sum_over_another_axis_is_left(axes: list[int] | None, shape: list[int] | None) -> None:
    model = with_stable_sums(summing(axes, shape=shape), COLUMNS)
    assert model == summing(axes, shape=shape)


def test_a_sum_over_the_rows_is_not_taken_for_one_over_columns() -> None:
    model = with_stable_sums(summing([-1], shape=[COLUMNS, -1]), COLUMNS)
    assert "ReduceSum" in operators(model)


def test_what_no_node_reads_any_more_is_removed() -> None:
    model = with_stable_sums(summing([1]), COLUMNS)
    assert sorted(each.name for each in model.graph.initializer) == ["shape", "sum_ones"]


def test_rows_that_move_are_counted() -> None:
    def moving(x: Singles) -> Singles:
        return np.where((x[:, 1] > 0) & (len(x) == 7), x[:, 0] + 1, x[:, 0]).astype(np.float32)

    x = rows(70)
    assert moving_rows(moving, x) == (x[:, 1] > 0).sum()
    assert moving_rows(lambda x: x[:, 0], x) == 0


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 15])
def test_every_row_is_looked_at(n: int) -> None:
    moving = moving_rows(lambda x: np.full(len(x), len(x), np.float32), rows(n))
    assert moving == (n if n > 7 else 0)
