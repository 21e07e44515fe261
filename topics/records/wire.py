"""Stage batches as bytes: Open Inference Protocol v2 with its binary tensor extension.

A JSON header (an inference response: `model_name`, `parameters`, `outputs`) and then the
raw little-endian tensors in the order of `outputs`; the record header
`inference-header-content-length` says where the JSON ends. With `codec: json` the tensors
are inside the JSON, as `data`, and that record header is absent.

Specification: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from topics.errors import WireError
from topics.records.bytes_column import BytesColumn
from topics.records.stage_batch import Failure, ModelRef, Rows, StageBatch

Codec = Literal["binary", "json"]
HEADER_LENGTH = "inference-header-content-length"
CONTENT_TYPE = "content-type"
MAX_ROWS = 1_000_000
_MAX_OFFSET = 2**62
_MAX_PARTITION = 2**31 - 1

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "INT64": np.dtype("<i8"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
    "BOOL": np.dtype("?"),
}  # fmt: skip
_FIELD = "event."
"""Tensors of event fields are called so and by the field's name."""
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

Tensor = NDArray[Any] | BytesColumn


def encode(batch: StageBatch, codec: Codec = "binary") -> tuple[bytes, list[tuple[str, bytes]]]:
    """The record value and headers of *batch*."""
    tensors = tensors_of(batch)
    header: dict[str, Any] = {
        "model_name": batch.component,
        "model_version": batch.model.model,
        "parameters": {
            "topic": batch.topic,
            "partition": batch.partition,
            "covers_from": batch.covers_from,
            "covers_to": batch.covers_to,
            "lane": batch.lane,
            "digest": batch.model.digest,
            "variant": batch.model.variant,
            "failures": [list(failure) for failure in batch.failures],
        },
    }
    if batch.challenger is not None:
        header["parameters"]["challenger"] = list(batch.challenger)
    if codec == "json":
        header["outputs"] = [tensor_header(name, tensor) | {"data": _data(name, tensor)}
                             for name, tensor in tensors.items()]  # fmt: skip
        return orjson.dumps(header), [(CONTENT_TYPE, b"application/json")]
    value, length = encode_tensors(header, tensors)
    return value, [
        (CONTENT_TYPE, b"application/octet-stream"),
        (HEADER_LENGTH, b"%d" % length),
    ]


def encode_tensors(header: dict[str, Any], tensors: Mapping[str, Tensor]) -> tuple[bytes, int]:
    """A JSON *header* and binary tensors behind it; and how many bytes the JSON has."""
    blobs = [_raw(tensor) for tensor in tensors.values()]
    outputs = [
        tensor_header(name, tensor) | {"parameters": {"binary_data_size": len(blob)}}
        for (name, tensor), blob in zip(tensors.items(), blobs, strict=True)
    ]
    head = orjson.dumps(header | {"outputs": outputs})
    return b"".join([head, *blobs]), len(head)


def decode(value: bytes | None, headers: Mapping[str, bytes]) -> StageBatch:
    """The stage batch of a record; WireError, with the reason, for anything else."""
    try:
        if not value:
            raise ValueError("the value is empty")
        length = int(headers.get(HEADER_LENGTH, len(value)))
        if not 0 < length <= len(value):
            raise ValueError(f"the header length {length} does not fit {len(value)} bytes")
        return batch_of_tensors(*decode_tensors(value, length))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise WireError(f"not a stage batch: {exc or type(exc).__name__}") from exc


def decode_tensors(value: bytes, length: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON header, of *length* bytes, and the tensors by name.

    ValueError, KeyError, TypeError, AttributeError or RecursionError for anything else.
    """
    header = orjson.loads(value[:length])
    return header, _read_tensors(header["outputs"], memoryview(value)[length:])


def tensors_of(batch: StageBatch) -> dict[str, Tensor]:
    """What is written of *batch*, by name and in this order."""
    rows = batch.rows
    tensors: dict[str, Tensor] = {
        "source_offset": rows.offsets,
        "published_ms": rows.published_ms,
        "event_time_ms": rows.event_time_ms,
        "backlog": rows.backlog,
        "event_id": rows.ids,
        "key": rows.keys,
        "present": batch.present,
        "output": batch.output,
        "signal": batch.signal,
    }
    if rows.traces is not None:
        tensors["traceparent"] = rows.traces
    if rows.clipped is not None:
        tensors["clipped"] = rows.clipped
    if rows.origins is not None:
        tensors["origin"] = rows.origins
    tensors |= {_FIELD + name: column for name, column in rows.fields.items()}
    if batch.entities is not None:
        tensors["entity"] = batch.entities
    if batch.challenged is not None:
        tensors["challenged"] = batch.challenged
    if batch.early is not None:
        tensors["early"] = batch.early
    return tensors


def tensor_header(name: str, tensor: Tensor) -> dict[str, Any]:
    """Name, shape and data type of a tensor, as `outputs` has them."""
    if isinstance(tensor, BytesColumn):
        return {"name": name, "shape": [len(tensor)], "datatype": "BYTES"}
    return {"name": name, "shape": list(tensor.shape), "datatype": _NAMES[tensor.dtype]}


def _raw(tensor: Tensor) -> bytes:
    return bytes(tensor) if isinstance(tensor, BytesColumn) else tensor.tobytes()


def _data(name: str, tensor: Tensor) -> list[Any]:
    """A tensor in JSON; what is not known of an event field is null."""
    if name.startswith(_FIELD) and not isinstance(tensor, BytesColumn):
        return [None if math.isnan(value) else value for value in tensor.tolist()]
    return _listed(tensor)


def _listed(tensor: Tensor) -> list[Any]:
    if isinstance(tensor, BytesColumn):
        # JSON has no bytes: keys may be any, so all elements are base64.
        return [base64.b64encode(item).decode() for item in tensor.items()]
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise WireError("JSON cannot hold NaN or infinity; use codec: binary")
    flat: list[Any] = tensor.ravel().tolist()
    return flat


def _read_tensors(outputs: list[dict[str, Any]], raw: memoryview) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    at = 0
    for output in outputs:
        shape = tuple(output["shape"])
        if not all(isinstance(n, int) and 0 <= n <= MAX_ROWS for n in shape):
            raise ValueError(f"tensor {output['name']!r} has the shape {shape}")
        if "data" in output:
            tensors[output["name"]] = tensor_of_list(output["datatype"], shape, output["data"])
            continue
        size = output["parameters"]["binary_data_size"]
        if not isinstance(size, int) or size < 0 or at + size > len(raw):
            raise ValueError(f"tensor {output['name']!r} is cut off")
        tensors[output["name"]] = _from_raw(output["datatype"], shape, raw[at : at + size])
        at += size
    if at != len(raw):
        raise ValueError(f"{len(raw) - at} bytes are left over after the tensors")
    return tensors


def _from_raw(datatype: str, shape: tuple[int, ...], raw: memoryview) -> Tensor:
    if datatype == "BYTES":
        return BytesColumn(bytes(raw), *shape)
    return np.frombuffer(raw, dtype=_DTYPES[datatype]).reshape(shape)


def tensor_of_list(datatype: str, shape: tuple[int, ...], data: list[Any]) -> Tensor:
    """The tensor of a JSON `data`; ValueError, KeyError or TypeError when it is none."""
    if datatype == "BYTES":
        items = [base64.b64decode(item, validate=True) for item in data]
        if shape != (len(items),):
            raise ValueError(f"{len(items)} elements do not fit the shape {shape}")
        return BytesColumn.of(items)
    with np.errstate(over="ignore"):  # to infinity, which is what such a number is in float32
        return np.array(data, dtype=_DTYPES[datatype]).reshape(shape)


def batch_of_tensors(header: dict[str, Any], tensors: dict[str, Tensor]) -> StageBatch:
    """The stage batch of a header and its tensors; ValueError, KeyError or TypeError for others."""
    about = header["parameters"]
    offsets = _array(tensors, "source_offset", "i", 1)
    n = len(offsets)
    rows = Rows(
        offsets,
        _array(tensors, "published_ms", "i", 1, n),
        _array(tensors, "event_time_ms", "i", 1, n),
        _array(tensors, "backlog", "b", 1, n),
        _column(tensors, "event_id", n),
        _column(tensors, "key", n),
        _column(tensors, "traceparent", n) if "traceparent" in tensors else None,
        _array(tensors, "clipped", "b", 1, n) if "clipped" in tensors else None,
        _column(tensors, "origin", n) if "origin" in tensors else None,
        {name.removeprefix(_FIELD): _array(tensors, name, "f", 1, n).astype(np.float64)
         for name in tensors if name.startswith(_FIELD)},
    )  # fmt: skip
    if n and not (offsets[0] >= 0 and offsets[-1] <= _MAX_OFFSET):
        raise ValueError("source offsets are out of range")
    if n > 1 and not (np.diff(offsets) > 0).all():
        raise ValueError("source offsets do not ascend")
    signal = _array(tensors, "signal", "f", 1, n)
    if not ((signal >= 0) & (signal <= 1)).all():
        raise ValueError("a signal is not in [0, 1]")
    covers_from = _integer(about, "covers_from", _MAX_OFFSET + 1)
    if n and covers_from > offsets[0]:
        raise ValueError(f"it covers offsets from {covers_from} on, but begins at {offsets[0]}")
    failures = tuple(Failure(int(row), str(c), str(e), str(r))
                     for row, c, e, r in about["failures"])  # fmt: skip
    if any(not 0 <= failure.row < n for failure in failures):
        raise ValueError("a failure names a row outside the batch")
    return StageBatch(
        component=str(header["model_name"]),
        topic=str(about["topic"]),
        partition=_integer(about, "partition", _MAX_PARTITION),
        covers_from=covers_from,
        rows=rows,
        present=_array(tensors, "present", "b", 1, n),
        output=_array(tensors, "output", "f", 2, n),
        signal=signal,
        model=ModelRef(str(header["model_version"]), str(about["digest"]), str(about["variant"])),
        failures=failures,
        lane=None if about.get("lane") is None else _integer(about, "lane", _MAX_PARTITION),
        covers_to=_integer(about, "covers_to", _MAX_OFFSET),
        entities=_column(tensors, "entity", n) if "entity" in tensors else None,
        early=_array(tensors, "early", "b", 1, n) if "early" in tensors else None,
        **_challenge(about, tensors, n),
    )


def _challenge(about: Mapping[str, Any], tensors: dict[str, Tensor], n: int) -> dict[str, Any]:
    """The second model of a batch that two have made."""
    challenger = about.get("challenger")
    if (challenger is None) != ("challenged" not in tensors):
        raise ValueError("a challenger and the rows that it has made belong together")
    if challenger is None:
        return {}
    model, digest, variant = challenger
    rows = _array(tensors, "challenged", "b", 1, n)
    return {"challenger": ModelRef(str(model), str(digest), str(variant)), "challenged": rows}


def _integer(about: Mapping[str, Any], name: str, most: int) -> int:
    """A number that a comparison with offsets (int64) can take; -1 for none."""
    value = about[name]
    if type(value) is not int or not -1 <= value <= most:
        raise ValueError(f"{name} is {str(value)[:40]}")
    return value


def _array(
    tensors: dict[str, Tensor], name: str, kind: str, ndim: int, rows: int | None = None
) -> NDArray[Any]:
    tensor = tensors[name]
    if isinstance(tensor, BytesColumn) or tensor.dtype.kind != kind or tensor.ndim != ndim:
        raise ValueError(f"tensor {name!r} has the wrong type or rank")
    if rows is not None and len(tensor) != rows:
        raise ValueError(f"tensor {name!r} has {len(tensor)} rows, not {rows}")
    return tensor


def _column(tensors: dict[str, Tensor], name: str, rows: int) -> BytesColumn:
    tensor = tensors[name]
    if not isinstance(tensor, BytesColumn) or len(tensor) != rows:
        raise ValueError(f"tensor {name!r} is not a BYTES column of {rows} rows")
    tensor.items()  # now, not when a worker is in the middle of writing
    return tensor
