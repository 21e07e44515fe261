"""Variants say what fp32 says, or the table says why not."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.onnx.bit_stability import moving_rows
from models.onnx.session import ModelSession
from models.training.estimators import fit, load_estimator
from models.training.export import export
from models.variants.errors import DoesNotApply
from models.variants.graphs import (
    executed,
    integer_operations,
    leading_to_signal,
    operations,
    with_biases_inside,
)
from models.variants.variant_kinds import VARIANT_KINDS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
Singles = NDArray[np.float32]
ROWS, WIDTH = 1500, 40
ESTIMATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "network": ("sklearn.neural_network.MLPClassifier",
                {"hidden_layer_sizes": (96, 64), "max_iter": 20}),
    "linear": ("sklearn.linear_model.LogisticRegression", {}),
    "forest": ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 10, "max_depth": 5}),
    "mixture": ("sklearn.mixture.GaussianMixture", {"n_components": 3}),
}  # fmt: skip


@cache
def rows() -> tuple[Singles, NDArray[np.bool_]]:
    """Rows of a few hidden causes, as real ones are, and labels that depend on them."""
    rng = np.random.default_rng(11)
    causes = rng.normal(size=(ROWS, 6))
    x = causes @ rng.normal(size=(6, WIDTH)) + 0.1 * rng.normal(size=(ROWS, WIDTH))
    labels = causes[:, 0] * causes[:, 1] + causes[:, 2] > 0.4
    return x.astype(np.float32), labels


@cache
def model(name: str) -> bytes:
    path, parameters = ESTIMATORS[name]
    x, labels = rows()
    estimator = load_estimator(path, parameters, seed=1)
    return export(fit(estimator, x, None if name == "mixture" else labels), x)


def session(content: bytes) -> ModelSession:
    return ModelSession.of(content, Path("variant.onnx"))


def signal(content: bytes) -> Singles:
    return session(content).signal(rows()[0])


def built(name: str, kind: str) -> bytes:
    return VARIANT_KINDS[kind].build(model(name), rows()[0][:1000])


@pytest.mark.parametrize(
    ("kind", "most"),
    [("graph-optimised", 1e-5), ("fp16", 0.02), ("int8-dynamic", 0.15), ("int8-static", 0.15),
     ("pruned-25", 0.3)],
)  # fmt: skip
def test_a_variant_of_a_network_stays_near_to_it(kind: str, most: float) -> None:
    difference = np.abs(signal(built("network", kind)) - signal(model("network")))
    assert difference.max() <= most
    assert difference.mean() <= most / 10


@pytest.mark.parametrize("kind", ["graph-optimised", "fp16", "int8-static", "pruned-50"])
def test_a_rows_bits_do_not_depend_on_its_batch(kind: str) -> None:
    assert moving_rows(session(built("network", kind)).signal, rows()[0][:500]) == 0


def test_dynamic_int8_scales_by_the_batch_so_bits_depend_on_it() -> None:
    assert moving_rows(session(built("network", "int8-dynamic")).signal, rows()[0][:500]) > 100


@pytest.mark.parametrize("kind", ["int8-dynamic", "int8-static"])
def test_int8_works_a_network_out_in_integers(kind: str) -> None:
    content = built("network", kind)
    assert integer_operations(executed(content)) >= 2
    said = VARIANT_KINDS[kind].in_words(executed(content), executed(model("network")))
    assert not said.no_op


@pytest.mark.parametrize("kind", ["int8-dynamic", "int8-static"])
def test_two_products_of_int8_fit_into_16_bits_as_processors_without_vnni_add_them(
    kind: str,
) -> None:
    graph = onnx.load_from_string(built("network", kind)).graph
    arrays = [numpy_helper.to_array(each) for each in graph.initializer]
    weights = [array for array in arrays if array.dtype == np.int8 and array.ndim == 2]
    assert weights
    for weight in weights:
        assert 2 * 255 * np.abs(weight.astype(np.int32)).max() <= 32767


@pytest.mark.parametrize("name", ["linear", "forest"])
@pytest.mark.parametrize("kind", ["int8-dynamic", "int8-static", "graph-optimised"])
def test_for_trees_and_linear_models_it_is_a_no_op(name: str, kind: str) -> None:
    content = built(name, kind)
    said = VARIANT_KINDS[kind].in_words(executed(content), executed(model(name)))
    assert said.no_op
    assert said.words.startswith("a no-op")
    assert (signal(content) == signal(model(name))).all()


@pytest.mark.parametrize("name", ["linear", "forest", "mixture"])
@pytest.mark.parametrize("kind", ["pruned-25", "pruned-75"])
def test_what_has_no_hidden_units_cannot_be_pruned(name: str, kind: str) -> None:
    with pytest.raises(DoesNotApply, match="hidden units"):
        built(name, kind)


@pytest.mark.parametrize("name", ["linear", "forest"])
def test_trees_and_linear_models_have_no_fp16_form(name: str) -> None:
    with pytest.raises(DoesNotApply, match="fp16"):
        built(name, "fp16")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_the_signal_does_not_need_goes_and_no_bit_changes(name: str) -> None:
    lean = leading_to_signal(model(name))
    assert len(lean.graph.node) <= len(onnx.load_from_string(model(name)).graph.node)
    assert "ArgMax" not in operations(lean.graph)
    assert (signal(lean.SerializeToString()) == signal(model(name))).all()


def test_an_operator_set_that_is_named_twice_is_named_once() -> None:
    twice = onnx.load_from_string(model("network"))
    twice.opset_import.append(helper.make_opsetid("", twice.opset_import[0].version))
    domains = [each.domain for each in leading_to_signal(twice.SerializeToString()).opset_import]
    assert len(domains) == len(set(domains))


def test_products_take_their_bias_in() -> None:
    folded = with_biases_inside(leading_to_signal(model("network")))
    found = operations(folded.graph)
    assert (found["Gemm"], found["MatMul"], found["Add"]) == (3, 0, 0)
    assert np.abs(signal(folded.SerializeToString()) - signal(model("network"))).max() < 1e-6


def layers(idle: int = 0, *, twins: bool = False) -> bytes:
    """A network of 32 hidden units, *idle* of which say nothing to the signal, or all in pairs."""
    rng = np.random.default_rng(5)
    into, out = rng.normal(size=(WIDTH, 32)), rng.normal(size=(32, 1))
    out[rng.permutation(32)[:idle]] = 0
    bias = rng.normal(size=32)
    if twins:
        out[:16] = np.sign(out[:16])
        into[:, 16:], bias[16:], out[16:] = into[:, :16], bias[:16], 0.5 * out[:16]
    constants = {"w": into, "b": bias, "v": out, "c": np.array([-1.0])}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("Gemm", ["t", "v", "c"], ["y"]),
        helper.make_node("Sigmoid", ["y"], ["signal"]),
    ]
    graph = helper.make_graph(
        nodes, "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("signal", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(values.astype(np.float32), name)
         for name, values in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def test_units_that_say_nothing_go_first_and_nothing_is_lost() -> None:
    whole = layers(idle=16)
    pruned = VARIANT_KINDS["pruned-50"].build(whole, rows()[0][:1000])
    shapes = {
        each.name: list(each.dims) for each in onnx.load_from_string(pruned).graph.initializer
    }
    assert shapes == {"w": [WIDTH, 16], "b": [16], "v": [16, 1], "c": [1]}
    assert np.abs(signal(pruned) - signal(whole)).max() < 1e-4


def test_what_is_left_is_fitted_again() -> None:
    whole = layers(twins=True)
    pruned = VARIANT_KINDS["pruned-50"].build(whole, rows()[0][:1000])
    assert np.ptp(signal(whole)) > 0.5
    assert np.abs(signal(pruned) - signal(whole)).max() < 1e-3, "a unit speaks for its lost twin"


def test_a_network_too_narrow_to_prune_is_said_to_be() -> None:
    with pytest.raises(DoesNotApply, match="too narrow to lose 25%"):
        VARIANT_KINDS["pruned-25"].build(narrow(), rows()[0][:500])


def narrow() -> bytes:
    x, labels = rows()
    parameters = {"hidden_layer_sizes": 12, "max_iter": 5}
    estimator = load_estimator("sklearn.neural_network.MLPClassifier", parameters, seed=1)
    return export(fit(estimator, x, labels), x)
