"""Finding weights that an ONNX file does not hold itself.

A tensor may say that its bytes are in another file. onnxruntime looks for that file beside the
model, or, for a model given as bytes, in the working directory: the same digest would give other
scores in another place. So no such model is opened. Tensors stand in many places: in the graph,
in graphs of a node's attributes (If, Loop, Scan), in attributes, in functions, in sparse tensors
and in training graphs. All of them are walked here, by ONNX's own numbers of fields (onnx.proto),
without the package `onnx`, which is not installed where models only serve.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_INSIDE: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}  # fmt: skip
"""Kind of message → number of a field → kind of the message in it, where tensors may be below."""

_TENSOR_NAME, _DATA_LOCATION = 8, 14
_EXTERNAL = 1
_MOST_FIELDS = 20_000_000
"""No graph that serves has as many; walking them takes ten seconds."""
_ORT_FORMAT = b"ORTM"
"""At bytes 4 to 8 of onnxruntime's own format, which may name other files too."""

_SHORT_STRINGS = b"|".join(rb"\x4a%b.{%d}" % (re.escape(bytes([n])), n) for n in range(64))
_NUMBERS = re.compile(
    rb"(?:\x3d.{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f]|%b)++" % _SHORT_STRINGS, re.DOTALL
)
"""A run of an attribute's floats, ints and strings: of trees, millions, each in its own field."""


class NotOnnx(ValueError):
    """The bytes are no ONNX file."""


class _Message(NamedTuple):
    kind: str
    start: int
    stop: int


def external_tensor(content: bytes) -> str | None:
    """The name of a tensor of the ONNX file *content* whose bytes are in another file, if any.

    An unnamed one is called `unnamed`. Raises NotOnnx.

    >>> external_tensor(b"")
    """
    if content[4:8] == _ORT_FORMAT:
        raise NotOnnx("it is in onnxruntime's own format (.ort), not in ONNX")
    left, walked = [_Message("Model", 0, len(content))], 0
    while left:
        message = left.pop()
        name, external = "unnamed", False
        for number, wire, value, start, stop in _fields(content, message):
            walked += 1
            if wire == _BYTES and (kind := _INSIDE[message.kind].get(number)):
                left.append(_Message(kind, start, stop))
            elif message.kind == "Tensor" and number == _DATA_LOCATION and wire == _VARINT:
                # An enumeration has 32 bits, whatever the number was written with.
                external |= value & 0xFFFFFFFF == _EXTERNAL
            elif message.kind == "Tensor" and number == _TENSOR_NAME and wire == _BYTES:
                name = content[start:stop].decode(errors="replace") or name
        if external:
            return name
        if walked > _MOST_FIELDS:
            raise NotOnnx(f"it has more than {_MOST_FIELDS:,} fields")
    return None


def _fields(content: bytes, message: _Message) -> Iterator[tuple[int, int, int, int, int]]:
    """Number, wire type, value, start and end of each field; the value is of numbers alone."""
    at, stop = message.start, message.stop
    while at < stop:
        if message.kind == "Attribute" and (run := _NUMBERS.match(content, at, stop)):
            at = run.end()
            continue
        tag, at = _varint(content, at, stop)
        number, wire, value, start = tag >> 3, tag & 7, 0, at
        if wire == _VARINT:
            value, at = _varint(content, at, stop)
        elif wire == _BYTES:
            length, start = _varint(content, at, stop)
            at = start + length
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise NotOnnx(f"it is no ONNX file: byte {start} begins a field of no known kind")
        if number == 0:
            raise NotOnnx("it is no ONNX file: it has a field without a number")
        if at > stop:
            raise NotOnnx("it is no ONNX file, or one that is cut off")
        yield number, wire, value, start, at


def _varint(content: bytes, at: int, stop: int) -> tuple[int, int]:
    """The number at *at*, and where what follows it begins."""
    value = 0
    for place in range(10):
        if at + place >= stop:
            raise NotOnnx("it is no ONNX file, or one that is cut off")
        byte = content[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # the last byte of a number has no top bit
            return value, at + place + 1
    raise NotOnnx("it is no ONNX file: a number has more than ten bytes")
