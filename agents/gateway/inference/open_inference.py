"""The Open Inference Protocol v2: a pipeline as a model, its event fields as input tensors.

One input for each field, of N rows, one for each event; outputs are `score`, `decision` and
`signal.<stage>`. A value that an output does not have (the signal of a stage that is missing) is
NaN, in JSON null. Specification: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import orjson
from pydantic_core import from_json

from agents.gateway.inference.tensors import (
    BINARY_SIZE,
    InputTensor,
    InvalidTensor,
    input_tensors,
    output_bytes,
)
from agents.gateway.problem import InvalidEvents, InvalidParameter, NotFound, TooLarge
from topics.pipeline import EventField, Pipeline
from topics.records import rfc3339_time

VERSION = "1"
GRPC_SERVICE = "inference.GRPCInferenceService"
PLATFORM = "anabranch_pipeline"
SERVER: Mapping[str, Any] = {
    "name": "anabranch", "version": "2", "extensions": ["binary_tensor_data"],
}  # fmt: skip
"""The server's metadata."""
_DATATYPES = {
    "string": "BYTES", "timestamp": "BYTES", "integer": "INT64", "number": "FP64",
    "boolean": "BOOL", "vector": "FP64",
}  # fmt: skip
_LONGEST_ID = 1024
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """Events to ask about, and how the caller wants the outputs."""

    items: list[dict[str, Any]]
    """The events, not validated."""
    outputs: dict[str, bool]
    """Output → whether its data are to be raw, in the order of the answer."""
    request_id: str | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """A named output: its value for each event, None where there is none."""

    name: str
    datatype: str
    values: list[Any]
    is_raw: bool

    @property
    def raw(self) -> bytes:
        """The values as raw data."""
        return output_bytes(self.datatype, self.values)


def tensor_problem(exc: InvalidTensor) -> InvalidEvents:
    """What is wrong with a tensor as the answer says it."""
    name, _, reason = str(exc).partition(": ")
    return InvalidEvents([(0, name if reason else "", reason or name)], of_list=False)


class InferenceModel:
    """A pipeline as others' inference clients see it."""

    def __init__(self, pipeline: Pipeline, most_events: int) -> None:
        self.name = pipeline.name
        self._fields, self._stages = pipeline.event.fields, pipeline.weighting.inputs
        self._most_events = most_events
        self._datatypes = {"score": "FP64", "decision": "BYTES"} | {
            f"signal.{stage}": "FP64" for stage in self._stages
        }

    @property
    def metadata(self) -> dict[str, Any]:
        """What it takes and gives, as the protocol has it."""
        return {
            "name": self.name, "versions": [VERSION], "platform": PLATFORM,
            "inputs": [
                {"name": name, "datatype": _DATATYPES[field.type], "shape": _shape_of(field)}
                for name, field in self._fields.items()
            ],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": [-1]}
                for name, datatype in self._datatypes.items()
            ],
        }  # fmt: skip

    def request(self, body: bytes, json_length: int | None) -> InferenceRequest:
        """An inference request; of a binary one the first *json_length* bytes are its JSON.

        Raises InvalidEvents, InvalidParameter and TooLarge.
        """
        length = len(body) if json_length is None else json_length
        if not 0 < length <= len(body):
            raise InvalidParameter("Inference-Header-Content-Length", "it does not fit the body")
        try:
            header = from_json(body[:length], allow_inf_nan=True)
        except ValueError as exc:
            raise InvalidEvents([(0, "", f"malformed JSON: {exc}")], of_list=False) from exc
        return self.inference(header, memoryview(body)[length:], len(body))

    def inference(self, header: object, raw: memoryview, size: int) -> InferenceRequest:
        """The request of a *header* as JSON has it, with *raw* tensors behind it.

        The whole has *size* bytes. Raises InvalidEvents and TooLarge.
        """
        try:
            if not isinstance(header, dict):
                raise InvalidTensor("the body is no JSON object")
            # No element takes less than a byte.
            items = self._items(input_tensors(header.get("inputs"), raw, size))
            outputs, timeout_s = self._outputs(header), _timeout_s(header)
            return InferenceRequest(items, outputs, _request_id(header), timeout_s)
        except InvalidTensor as exc:
            raise tensor_problem(exc) from exc

    def outputs(self, request: InferenceRequest, records: Sequence[bytes]) -> list[OutputTensor]:
        """What *request* wants of decision *records*."""
        decisions = [orjson.loads(record) for record in records]
        return [
            OutputTensor(name, self._datatypes[name], [_value_of(d, name) for d in decisions], raw)
            for name, raw in request.outputs.items()
        ]

    def response(
        self, request: InferenceRequest, records: Sequence[bytes]
    ) -> tuple[bytes, int | None]:
        """The answer of decision *records*; and the bytes of its JSON where data are behind it."""
        outputs, blobs = list[dict[str, Any]](), list[bytes]()
        for tensor in self.outputs(request, records):
            output: dict[str, Any] = {
                "name": tensor.name, "datatype": tensor.datatype, "shape": [len(tensor.values)],
            }  # fmt: skip
            if tensor.is_raw:
                blobs.append(tensor.raw)
                output["parameters"] = {BINARY_SIZE: len(blobs[-1])}
            else:
                output["data"] = tensor.values
            outputs.append(output)
        answer: dict[str, Any] = {"model_name": self.name, "model_version": VERSION}
        if request.request_id is not None:
            answer["id"] = request.request_id
        head = orjson.dumps(answer | {"outputs": outputs})
        return b"".join([head, *blobs]), len(head) if blobs else None

    def check(self, name: str, version: str = VERSION) -> None:
        """Raise NotFound where this is not model *name* or has no such *version*."""
        if name != self.name:
            raise NotFound(f"no model {name[:80]!r}; there is {self.name}")
        if version != VERSION:
            raise NotFound(f"no version {version[:80]!r} of {self.name}; there is {VERSION}")

    def _items(self, tensors: Sequence[InputTensor]) -> list[dict[str, Any]]:
        columns: dict[str, list[Any]] = {}
        for tensor in tensors:
            if tensor.name not in self._fields:
                listed = ", ".join(self._fields)
                raise InvalidTensor(f"{tensor.name[:80]}: no such input; there are {listed}")
            if tensor.name in columns:
                raise InvalidTensor(f"{tensor.name}: it is given twice")
            columns[tensor.name] = _column(self._fields[tensor.name], tensor)
        counts = {name: len(column) for name, column in columns.items()}
        if not columns or not all(counts.values()):
            raise InvalidTensor("inputs: there is no row")
        first, count = next(iter(counts.items()))
        for name, rows in counts.items():
            if rows != count:
                raise InvalidTensor(f"{name}: {rows} rows, and {first} has {count}")
        if count > self._most_events:
            raise TooLarge(f"{count:,} rows, and a request may have {self._most_events:,}")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _outputs(self, header: dict[str, Any]) -> dict[str, bool]:
        parameters = header.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise InvalidTensor("parameters: an object")
        all_raw = parameters.get("binary_data_output") is True
        wanted = header.get("outputs")
        if not wanted:
            return dict.fromkeys(self._datatypes, all_raw)
        outputs: dict[str, bool] = {}
        for each in wanted if isinstance(wanted, list) else [None]:
            output = each if isinstance(each, dict) else {}
            name, about = output.get("name"), output.get("parameters") or {}
            if not isinstance(name, str) or name not in self._datatypes:
                listed = ", ".join(self._datatypes)
                raise InvalidTensor(f"outputs: no output {str(name)[:80]!r}; there are {listed}")
            if not isinstance(about, dict) or about.get("classification"):
                raise InvalidTensor(f"outputs: {name} is no list of classes")
            outputs[name] = about.get("binary_data", all_raw) is True
        return outputs


def _column(field: EventField, tensor: InputTensor) -> list[Any]:
    """The field's values, one a row; NaN of an optional one is a missing value."""
    values, shape = tensor.values, tensor.shape
    if field.type == "vector":
        width = field.length or 0
        if len(shape) != 2 or shape[1] != width:
            raise InvalidTensor(f"{tensor.name}: its shape is [rows, {width}]")
        return [values[at : at + width] for at in range(0, len(values), width)]
    if shape[1:] not in {(), (1,)}:
        raise InvalidTensor(f"{tensor.name}: its shape is [rows]")
    if field.type == "timestamp" and tensor.datatype == "INT64":
        return [_time(tensor.name, value) for value in values]
    if field.optional:
        return [None if isinstance(v, float) and isnan(v) else v for v in values]
    return values


def _time(name: str, value: object) -> str:
    """Of milliseconds since 1970."""
    if type(value) is not int or not _FIRST_MS <= value <= _LAST_MS:
        raise InvalidTensor(f"{name}: as INT64, a time is milliseconds since 1970")
    return rfc3339_time(value)


def _request_id(header: dict[str, Any]) -> str | None:
    request_id = header.get("id")
    if not isinstance(request_id, str):
        return None
    if len(request_id) > _LONGEST_ID:
        raise InvalidTensor(f"id: {_LONGEST_ID:,} characters at most")
    return request_id


def _timeout_s(header: dict[str, Any]) -> float | None:
    """Triton's `timeout`, microseconds."""
    parameters = header.get("parameters")
    timeout = parameters.get("timeout") if isinstance(parameters, dict) else None
    if timeout is None:
        return None
    if type(timeout) is not int or timeout <= 0:
        raise InvalidTensor("timeout: a number of microseconds")
    return timeout / 1e6


def _value_of(decision: dict[str, Any], output: str) -> Any:
    if output.startswith("signal."):
        contribution = decision["contributions"].get(output.removeprefix("signal."))
        return None if contribution is None else contribution["signal"]
    return decision[output]


def _shape_of(field: EventField) -> list[int]:
    return [-1, field.length or 0] if field.type == "vector" else [-1]
