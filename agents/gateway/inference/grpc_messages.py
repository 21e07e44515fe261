"""Messages of the Open Inference Protocol over gRPC, as its JSON has them: one reader for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.gateway.inference import open_inference_pb2 as messages
from agents.gateway.inference.open_inference import VERSION, OutputTensor
from agents.gateway.inference.tensors import BINARY_SIZE, DEEPEST, InvalidTensor

_CONTENTS = {
    "BOOL": "bool_contents", "BYTES": "bytes_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip
"""Datatype → where its elements are, when they are not raw."""


_MOST_PARAMETERS = 64


def header_of(
    request: messages.ModelInferRequest, inputs: int, outputs: int
) -> tuple[dict[str, Any], memoryview]:
    """A request as it would be in JSON, and the raw tensors behind that.

    The model has so many *inputs* and *outputs*: where there are more, none is looked at. Raises
    InvalidTensor for what only gRPC can get wrong.
    """
    _check_count("inputs", len(request.inputs), inputs)
    _check_count("outputs", len(request.outputs), outputs)
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidTensor(
            f"raw_input_contents: {len(raw)} of them, and there are {len(request.inputs)} inputs"
        )
    tensors = list[dict[str, Any]]()
    for place, tensor in enumerate(request.inputs):
        about: dict[str, Any] = {
            "name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape[: DEEPEST + 1],
        }  # fmt: skip
        if not raw:
            about["data"] = _elements(tensor)
        elif tensor.contents.ListFields():
            raise InvalidTensor(f"{tensor.name}: it has contents, and raw_input_contents too")
        else:
            about["parameters"] = {BINARY_SIZE: len(raw[place])}
        tensors.append(about)
    header = {
        "inputs": tensors, "parameters": _parameters(request.parameters),
        "outputs": [
            {"name": output.name, "parameters": _parameters(output.parameters)}
            for output in request.outputs
        ],
    }  # fmt: skip
    if request.id:
        header["id"] = request.id
    return header, memoryview(b"".join(raw))


def response_of(
    model: str, request_id: str, outputs: Sequence[OutputTensor]
) -> messages.ModelInferResponse:
    """The answer, its outputs raw, as Triton sends them."""
    return messages.ModelInferResponse(
        model_name=model, model_version=VERSION, id=request_id,
        outputs=[
            messages.ModelInferResponse.InferOutputTensor(
                name=tensor.name, datatype=tensor.datatype, shape=[len(tensor.values)]
            )
            for tensor in outputs
        ],
        raw_output_contents=[tensor.raw for tensor in outputs],
    )  # fmt: skip


def _elements(tensor: messages.ModelInferRequest.InferInputTensor) -> list[Any]:
    own = _CONTENTS.get(tensor.datatype)
    for field, _ in tensor.contents.ListFields():
        if own is not None and field.name != own:
            raise InvalidTensor(
                f"{tensor.name}: elements of {tensor.datatype} are {own}, not {field.name}"
            )
    if own is None:
        return []
    if own != "bytes_contents":
        return [*getattr(tensor.contents, own)]
    try:
        return [element.decode() for element in tensor.contents.bytes_contents]
    except UnicodeDecodeError as exc:
        raise InvalidTensor(f"{tensor.name}: an element is not UTF-8") from exc


def _parameters(parameters: Mapping[str, messages.InferParameter]) -> dict[str, Any]:
    _check_count("parameters", len(parameters), _MOST_PARAMETERS)
    values = dict[str, Any]()
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        values[name] = None if choice is None else getattr(parameter, choice)
    return values


def _check_count(what: str, count: int, most: int) -> None:
    if count > most:
        raise InvalidTensor(f"{what}: {count:,} of them, and there are {most} at most")
