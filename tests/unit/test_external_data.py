"""A model's bytes are all that it is: one with weights in another file is never opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.onnx.external_data import _INSIDE, NotOnnx, external_tensor
from models.onnx.session import ModelSession, ModelUnreadable, WeightsElsewhere
from models.onnx.version_check import verify_versions
from models.registry.card_files import digest_of
from models.registry.registry import Registry
from tests.unit.onnx_networks import network
from tests.unit.registry_cards import CARD

SEVEN = np.arange(7, dtype=np.float32)
OF_MESSAGES: Mapping[str, str] = {
    "ModelProto": "Model", "TrainingInfoProto": "Training", "FunctionProto": "Function",
    "GraphProto": "Graph", "NodeProto": "Node", "AttributeProto": "Attribute",
    "SparseTensorProto": "SparseTensor", "TensorProto": "Tensor",
}  # fmt: skip


def elsewhere(name: str = "far") -> Any:
    """A tensor (7, 1) whose bytes are in weights.bin."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[7, 1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "28")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def branches(*, deeper: bool) -> Any:
    """A graph that chooses between two, whose weights are elsewhere; *deeper*: within another."""
    inner = [
        helper.make_graph(
            [helper.make_node("Identity", [f"w{branch}"], [f"o{branch}"])], f"b{branch}", [],
            [helper.make_tensor_value_info(f"o{branch}", TensorProto.FLOAT, [7, 1])],
            initializer=[elsewhere(f"w{branch}")],
        )
        for branch in (1, 2)
    ]  # fmt: skip
    chosen = helper.make_node("If", ["truth"], ["w"], then_branch=inner[0], else_branch=inner[1])
    if not deeper:
        return chosen
    outer = [
        helper.make_graph(
            [chosen], f"outer{place}", [],
            [helper.make_tensor_value_info("w", TensorProto.FLOAT, [7, 1])],
        )
        for place in (1, 2)
    ]  # fmt: skip
    return helper.make_node("If", ["truth"], ["v"], then_branch=outer[0], else_branch=outer[1])


def model(weight: str, nodes: list[Any], **initialisers: Any) -> Any:
    """A model: x (n, 7) times the tensor *weight*, through a sigmoid."""
    yes = helper.make_node("Constant", [], ["yes"], value_int=1)
    graph = helper.make_graph(
        [yes, helper.make_node("Cast", ["yes"], ["truth"], to=TensorProto.BOOL), *nodes,
         helper.make_node("MatMul", ["x", weight], ["z"]),
         helper.make_node("Sigmoid", ["z"], ["signal"])],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 7])],
        [helper.make_tensor_value_info("signal", TensorProto.FLOAT, ["n", 1])], **initialisers,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def of_function() -> Any:
    made = model("w", [helper.make_node("Far", [], ["w"], domain="own")])
    constant = helper.make_node("Constant", [], ["w"], value=elsewhere())
    opsets = [helper.make_opsetid("", 18)]
    made.functions.append(helper.make_function("own", "Far", [], ["w"], [constant], opsets))
    made.opset_import.append(helper.make_opsetid("own", 1))
    return made


def of_default_attribute() -> Any:
    made = of_function()
    del made.functions[0].node[:]
    made.functions[0].attribute_proto.append(helper.make_attribute("value", elsewhere()))
    return made


def sparse(place: str) -> Any:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    made = helper.make_sparse_tensor(values, indices, [7, 1])
    getattr(made, place).CopyFrom(elsewhere("far"))
    return made


def of_training() -> Any:
    made = model("w", [], initializer=[numpy_helper.from_array(SEVEN[:, None], "w")])
    made.training_info.add().algorithm.initializer.append(elsewhere())
    return made


CASES: Mapping[str, Callable[[], Any]] = {
    "initialiser": lambda: model("far", [], initializer=[elsewhere()]),
    "branch": lambda: model("w", [branches(deeper=False)]),
    "branch of a branch": lambda: model("v", [branches(deeper=True)]),
    "attribute": lambda: model("w", [helper.make_node("Constant", [], ["w"], value=elsewhere())]),
    "attribute of tensors": lambda: model(
        "w", [helper.make_node("Own", [], ["w"], domain="own", several=[elsewhere(), elsewhere()])]
    ),
    "sparse values": lambda: model("sparse", [], sparse_initializer=[sparse("values")]),
    "sparse indices": lambda: model("sparse", [], sparse_initializer=[sparse("indices")]),
    "sparse attribute": lambda: model(
        "w", [helper.make_node("Constant", [], ["w"], sparse_value=sparse("values"))]
    ),
    "function": of_function,
    "default of a function": of_default_attribute,
    "training": of_training,
}


@pytest.mark.parametrize("place", CASES)
def test_weights_elsewhere_are_found_wherever_a_tensor_may_stand(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = CASES[place]().SerializeToString()
    assert external_tensor(content) is not None
    monkeypatch.chdir(tmp_path)
    SEVEN.tofile("weights.bin")  # which onnxruntime would take
    with pytest.raises(WeightsElsewhere, match="the same model would give other scores"):
        ModelSession.of(content, "m.onnx")


def test_every_way_to_a_tensor_of_onnx_is_walked() -> None:
    ways: dict[str, dict[int, str]] = {}
    left = [onnx.ModelProto.DESCRIPTOR]
    leads: dict[str, bool] = {}

    def leads_to_a_tensor(message: Any, around: frozenset[str] = frozenset()) -> bool:
        if message.name == "TensorProto":
            return True
        if message.name in around:
            return False
        if message.name not in leads:
            below = [
                field.message_type for field in message.fields if field.message_type is not None
            ]
            found = [leads_to_a_tensor(each, around | {message.name}) for each in below]
            leads[message.name] = any(found)
        return leads[message.name]

    while left:
        message = left.pop()
        kind = OF_MESSAGES[message.name]
        if kind in ways:
            continue
        ways[kind] = {}
        for each in message.fields if kind != "Tensor" else ():
            if each.message_type is not None and leads_to_a_tensor(each.message_type):
                ways[kind][each.number] = OF_MESSAGES[each.message_type.name]
                left.append(each.message_type)
    assert ways == {kind: dict(fields) for kind, fields in _INSIDE.items()}


def test_numbers_in_attributes_are_passed_over_and_what_follows_is_seen() -> None:
    node = helper.make_node(
        "Own", [], ["w"], domain="own", floats=[1.5, -2.0] * 500, ints=[-1, 0, 3, 1 << 40] * 500,
        strings=["BRANCH_LEQ", "", "x" * 80] * 100, zz=elsewhere(),
    )  # fmt: skip
    assert external_tensor(model("w", [node]).SerializeToString()) == "far"
    del node.attribute[-1]
    assert external_tensor(model("w", [node]).SerializeToString()) is None


def test_an_odd_spelling_of_the_location_is_understood() -> None:
    plain = b"\x70\x01"  # field 14, EXTERNAL
    content = CASES["initialiser"]().SerializeToString()
    assert content.count(plain) == 1
    tensor = b"\x42\x01w" + b"\x70\x81\x80\x80\x80\x10"  # 1 in a number of more than 32 bits
    graph = b"\x2a%c%b" % (len(tensor), tensor)
    assert external_tensor(b"\x3a%c%b" % (len(graph), graph)) == "w"


@pytest.mark.parametrize(
    "content",
    [b"\x00" * 1000, b"\x0b", b"\x3a\x7f", b"\xff" * 20, b"\x20\0\0\0ORTM" + b"\0" * 40, b"\x80"],
    ids=["zeros", "a group", "cut off", "a number without an end", "ORT format", "half a number"],
)
def test_what_is_no_onnx_file_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(NotOnnx):
        external_tensor(content)
    with pytest.raises(ModelUnreadable, match=r"m\.onnx does not load as an ONNX model: it"):
        ModelSession.of(content, "m.onnx")


def test_the_working_directory_is_not_looked_into_even_if_a_tensor_were_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    SEVEN.tofile("weights.bin")
    content = CASES["branch"]().SerializeToString()
    ort.InferenceSession(content, providers=["CPUExecutionProvider"])  # that is how it is
    monkeypatch.setattr("models.onnx.session.external_tensor", lambda _: None)
    with pytest.raises(ModelUnreadable):
        ModelSession.of(content, "m.onnx")


def test_a_version_that_was_registered_before_is_found_by_verify_and_not_run(
    tmp_path: Path,
) -> None:
    content = CASES["branch"]().SerializeToString()
    version = Registry(tmp_path).add("p", "risk", content, CARD)
    assert version.digest == digest_of(content)
    with pytest.raises(WeightsElsewhere):
        ModelSession.open(version)
    (checked,) = verify_versions(Registry(tmp_path), "p", run=True)
    assert checked.wrong is not None
    assert "in another file" in checked.wrong


def test_a_model_that_holds_its_weights_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(network(3))
    assert external_tensor(network(3)) is None
    assert ModelSession.open(path).n_inputs == 3
