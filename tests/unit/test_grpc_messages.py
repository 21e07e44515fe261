"""Messages over gRPC give what their JSON form gives, and raw elements what typed ones give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.gateway.inference import open_inference_pb2 as messages
from agents.gateway.inference.grpc_messages import header_of, response_of
from agents.gateway.inference.open_inference import OutputTensor
from agents.gateway.inference.tensors import InvalidTensor, input_tensors

TENSOR = messages.ModelInferRequest.InferInputTensor
CONTENTS = messages.InferTensorContents
VALUES: dict[str, tuple[str, str, list[Any]]] = {
    "BOOL": ("bool_contents", "?", [True, False]),
    "INT8": ("int_contents", "<i1", [-128, 127]), "INT16": ("int_contents", "<i2", [-32768, 5]),
    "INT32": ("int_contents", "<i4", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", "<i8", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint_contents", "<u1", [0, 255]), "UINT16": ("uint_contents", "<u2", [0, 65535]),
    "UINT32": ("uint_contents", "<u4", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", "<u8", [0, 2**64 - 1]),
    "FP32": ("fp32_contents", "<f4", [0.5, -1e30]), "FP64": ("fp64_contents", "<f8", [0.1, -1e300]),
}  # fmt: skip


def values_of(request: messages.ModelInferRequest) -> list[list[Any]]:
    header, raw = header_of(request, 9, 9)
    return [tensor.values for tensor in input_tensors(header["inputs"], raw, 1000)]


@pytest.mark.parametrize("datatype", VALUES)
def test_typed_and_raw_elements_are_the_same_values(datatype: str) -> None:
    field, dtype, values = VALUES[datatype]
    typed = messages.ModelInferRequest()
    typed.inputs.add(name="x", datatype=datatype, shape=[2], contents=CONTENTS(**{field: values}))
    raw = messages.ModelInferRequest(raw_input_contents=[np.array(values, dtype).tobytes()])
    raw.inputs.add(name="x", datatype=datatype, shape=[2])
    expected = pytest.approx(values, rel=1e-6)
    assert values_of(typed)[0] == expected
    assert values_of(raw)[0] == values_of(typed)[0]


def test_texts_and_several_raw_tensors_keep_their_order() -> None:
    request = messages.ModelInferRequest(
        id="7", raw_input_contents=[b"\1\0\0\0a\2\0\0\0\xc3\xa4", np.array([0.5], "<f2").tobytes()]
    )
    request.inputs.add(name="text", datatype="BYTES", shape=[2])
    request.inputs.add(name="half", datatype="FP16", shape=[1])
    assert values_of(request) == [["a", "ä"], [0.5]]
    typed = messages.ModelInferRequest()
    typed.inputs.add(
        name="text", datatype="BYTES", shape=[1], contents=CONTENTS(bytes_contents=["ä".encode()])
    )
    assert values_of(typed) == [["ä"]]


def test_the_header_is_what_json_would_say() -> None:
    request = messages.ModelInferRequest(id="7")
    request.parameters["timeout"].uint64_param = 5
    request.parameters["flag"].bool_param = False
    request.parameters["unset"].SetInParent()
    request.outputs.add(name="score").parameters["classification"].int64_param = 3
    header, raw = header_of(request, 9, 9)
    assert header == {
        "id": "7", "inputs": [], "parameters": {"timeout": 5, "flag": False, "unset": None},
        "outputs": [{"name": "score", "parameters": {"classification": 3}}],
    }  # fmt: skip
    assert not raw


@pytest.mark.parametrize("count", [0, 2])
def test_raw_elements_are_there_for_all_inputs_or_for_none(count: int) -> None:
    request = messages.ModelInferRequest(raw_input_contents=[b"\0"] * count)
    request.inputs.add(name="x", datatype="UINT8", shape=[1])
    if count:
        with pytest.raises(InvalidTensor, match="2 of them, and there are 1 inputs"):
            header_of(request, 9, 9)
    else:
        assert header_of(request, 9, 9)[0]["inputs"][0]["data"] == []


def test_outputs_are_raw_in_their_order() -> None:
    answer = response_of("own", "7", [
        OutputTensor("score", "FP64", [0.5, None], is_raw=False),
        OutputTensor("decision", "BYTES", ["yes", "ä"], is_raw=False),
    ])  # fmt: skip
    assert (answer.model_name, answer.model_version, answer.id) == ("own", "1", "7")
    assert [(o.name, o.datatype, [*o.shape]) for o in answer.outputs] == [
        ("score", "FP64", [2]), ("decision", "BYTES", [2]),
    ]  # fmt: skip
    score, decision = answer.raw_output_contents
    assert np.array_equal(np.frombuffer(score, "<f8"), [0.5, np.nan], equal_nan=True)
    assert decision == b"\3\0\0\0yes\2\0\0\0\xc3\xa4"
