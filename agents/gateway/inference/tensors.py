"""Tensors of the Open Inference Protocol as lists of values: in JSON, or raw behind it.

A raw BYTES element is its length in four bytes, little-endian, and then its bytes (the binary
tensor data extension of Triton). Everything is hostile until its size fits its shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

BINARY_SIZE = "binary_data_size"
_LENGTH = 4
DEEPEST = 8
"""No tensor has more dimensions."""

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip


class InvalidTensor(ValueError):
    """A tensor that is none; the message says why, and begins with its name."""


@dataclass(frozen=True, slots=True)
class InputTensor:
    """A named tensor: its values in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]


def input_tensors(inputs: object, raw: memoryview, most: int) -> list[InputTensor]:
    """The tensors of a request's `inputs`, and of what stands behind its JSON.

    None has more than *most* elements. Raises InvalidTensor.
    """
    if not isinstance(inputs, list):
        raise InvalidTensor("inputs: a list of tensors")
    tensors, at = list[InputTensor](), 0
    for place, each in enumerate(inputs):
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise InvalidTensor(f"inputs: number {place} is no tensor with a name")
        name, shape = each["name"], _shape(each, most)
        datatype = each.get("datatype")
        if not isinstance(datatype, str) or (datatype != "BYTES" and datatype not in DTYPES):
            raise InvalidTensor(f"{name}: no datatype that is known: {str(datatype)[:40]!r}")
        parameters = each.get("parameters") or {}
        size = parameters.get(BINARY_SIZE) if isinstance(parameters, dict) else None
        if size is None:
            values = _listed(name, each.get("data"), most)
        else:
            if "data" in each or type(size) is not int or not 0 <= size <= len(raw) - at:
                raise InvalidTensor(f"{name}: {BINARY_SIZE} does not fit the body")
            values = _raw(name, datatype, prod(shape), raw[at : at + size])
            at += size
        if len(values) != prod(shape):
            raise InvalidTensor(f"{name}: {len(values)} elements do not fit the shape {shape}")
        tensors.append(InputTensor(name, datatype, shape, values))
    if at != len(raw):
        raise InvalidTensor(f"inputs: {len(raw) - at} bytes are left over behind the tensors")
    return tensors


def output_bytes(datatype: str, values: Sequence[Any]) -> bytes:
    """Values as raw data; None is NaN."""
    if datatype == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(len(each).to_bytes(_LENGTH, "little") + each for each in encoded)
    return np.array(values, DTYPES[datatype]).tobytes()


def _shape(tensor: Mapping[str, Any], most: int) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if (
        not isinstance(shape, list)
        or not shape
        or len(shape) > DEEPEST
        or not all(type(n) is int and n >= 0 for n in shape)
        or prod(shape) > most
    ):
        raise InvalidTensor(f"{tensor['name']}: no shape that can be: {str(shape)[:80]}")
    return tuple(shape)


def _listed(name: str, data: object, most: int, depth: int = 0) -> list[Any]:
    """Flat, whether it is nested or not."""
    if not isinstance(data, list) or depth > DEEPEST or len(data) > most:
        raise InvalidTensor(f"{name}: its data are no list that fits")
    if not any(isinstance(each, list) for each in data):
        return data
    flat = list[Any]()
    for each in data:
        flat += _listed(name, each, most, depth + 1)
        if len(flat) > most:
            raise InvalidTensor(f"{name}: too many elements")
    return flat


def _raw(name: str, datatype: str, count: int, raw: memoryview) -> list[Any]:
    if datatype == "BYTES":
        return _texts(name, count, raw)
    dtype = DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise InvalidTensor(f"{name}: {len(raw)} bytes are not {count} elements of {datatype}")
    values: list[Any] = np.frombuffer(raw, dtype).tolist()
    return values


def _texts(name: str, count: int, raw: memoryview) -> list[str]:
    texts, at = list[str](), 0
    for _ in range(count):
        start = at + _LENGTH
        at = start + int.from_bytes(raw[at:start], "little")
        if start > len(raw) or at > len(raw):
            raise InvalidTensor(f"{name}: its elements are cut off")
        try:
            texts.append(str(raw[start:at], "utf-8"))
        except UnicodeDecodeError as exc:
            raise InvalidTensor(f"{name}: an element is not UTF-8") from exc
    if at != len(raw):
        raise InvalidTensor(f"{name}: bytes are left over behind its elements")
    return texts
