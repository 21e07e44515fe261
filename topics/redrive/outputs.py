"""The outputs that redrive records carry: JSON of one row each, to and from batches of many rows.

What is written is what `topics.records.wire.encode(…, "json")` writes of one row; what is read is
what `topics.records.wire.decode` reads of it, at a tenth of the cost where there are many.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import orjson

from topics.errors import WireError
from topics.records import (
    BytesColumn,
    ModelRef,
    Source,
    StageBatch,
    batch_of_tensors,
    decode,
    encode,
    tensor_header,
    tensor_of_list,
    tensors_of,
)

_NAME_BEFORE = b'{"model_name":"'
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)


class RedriveOutputs(Mapping[str, StageBatch]):
    """A redrive record's outputs by component, as they were read: each is decoded when asked for.

    Asking raises WireError when it is no output.
    """

    __slots__ = ("_contents", "_present")

    def __init__(
        self, contents: Mapping[str, bytes], present: Mapping[str, bool] | None = None
    ) -> None:
        self._contents = dict(contents)
        self._present = present or {}

    @classmethod
    def of(cls, outputs: Mapping[str, StageBatch]) -> RedriveOutputs:
        """The same outputs, encoded; a `RedriveOutputs` as it is."""
        if isinstance(outputs, cls):
            return outputs
        return cls({name: encode(batch, "json")[0] for name, batch in outputs.items()})

    def __getitem__(self, component: str) -> StageBatch:
        batch = decode(self._contents[component], {})
        if batch.component != component:
            raise WireError(f"not an output of {component}, but of {batch.component}")
        return batch

    def __contains__(self, component: object) -> bool:
        return component in self._contents  # a Mapping would decode it

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)

    @property
    def contents(self) -> Mapping[str, bytes]:
        """The JSON of each."""
        return self._contents

    def is_present(self, component: str) -> bool:
        """The component has an output that is not absent; known without decoding, or decoded."""
        if component not in self._contents:
            return False
        known = self._present.get(component)
        return bool(self[component].present.all()) if known is None else known

    def only(self, components: Collection[str]) -> RedriveOutputs:
        """Those of some components."""
        return RedriveOutputs({name: self._contents[name] for name in components}, self._present)

    def with_content(self, component: str, content: bytes) -> RedriveOutputs:
        """The same, and one more."""
        return RedriveOutputs({**self._contents, component: content})


def component_of(content: bytes | None) -> str:
    """Whose output it is, by the beginning of it; WireError when it is none."""
    start = len(_NAME_BEFORE)
    if content and content.startswith(_NAME_BEFORE) and (stop := content.find(b'"', start)) > start:
        name = content[start:stop]
        if b"\\" not in name:
            return name.decode(errors="replace")
    return decode(content, {}).component


def contents_of(batch: StageBatch, rows: Sequence[int] | None = None) -> list[bytes]:
    """Each row (N) of *batch*, or only some, as the output that a redrive record about it carries.

    Raises WireError for an output that JSON cannot hold.
    """
    if not (np.isfinite(batch.output).all() and np.isfinite(batch.signal).all()):
        raise WireError("JSON cannot hold NaN or infinity; use codec: binary")
    reasons = defaultdict[int, list[list[Any]]](list)
    for row, *why in batch.failures:
        reasons[row].append([0, *why])
    tensors = tensors_of(batch)
    columns = [_data(tensor) for tensor in tensors.values()]
    heads = [tensor_header(name, tensor) for name, tensor in tensors.items()]
    heads = [head | {"shape": [1, *head["shape"][1:]]} for head in heads]
    about: dict[str, Any] = {
        "topic": batch.topic, "partition": batch.partition, "covers_from": 0, "covers_to": 0,
        "lane": None, "digest": batch.model.digest, "variant": batch.model.variant,
    }  # fmt: skip
    challenger = {} if batch.challenger is None else {"challenger": list(batch.challenger)}
    contents: list[bytes] = []
    offsets = batch.rows.offsets.tolist()
    for row in range(len(offsets)) if rows is None else rows:
        offset = offsets[row]
        parameters = about | {"covers_from": offset, "covers_to": offset}
        parameters |= {"failures": reasons.get(row, []), **challenger}
        outputs = [head | {"data": column[row]}
                   for head, column in zip(heads, columns, strict=True)]  # fmt: skip
        contents.append(orjson.dumps({
            "model_name": batch.component, "model_version": batch.model.model,
            "parameters": parameters, "outputs": outputs,
        }))  # fmt: skip
    return contents


def batches_of(
    component: str, contents: Sequence[bytes], sources: Sequence[Source]
) -> list[StageBatch]:
    """Outputs of *component* about *sources* (N), whose offsets ascend, as few batches.

    Each batch has the rows of one model and one shape, in order. Raises WireError when any of
    them is no output of one row, or is about another event.
    """
    split_batch: dict[tuple[Any, ...], _SplitBatch] = {}
    try:
        for content, source in zip(contents, sources, strict=True):
            document = orjson.loads(content)
            kind = _kind(document)
            if kind[:3] != (source.topic, source.partition, component):
                raise ValueError("it is of another event or component")
            if kind not in split_batch:
                split_batch[kind] = _SplitBatch(document)
            split_batch[kind].add(document, source.offset)
        batches = [some.batch() for some in split_batch.values()]
    except _MALFORMED as exc:
        raise WireError(f"not an output of one row: {exc or type(exc).__name__}") from exc
    for batch, some in zip(batches, split_batch.values(), strict=True):
        if batch.rows.offsets.tolist() != some.offsets:
            raise WireError(
                f"not a redrive record: its output of {batch.component} is of another event"
            )
    return batches


@dataclass(slots=True)
class _SplitBatch:
    """What outputs say that make one batch, column by column: no document is kept but the first."""

    first: dict[str, Any]
    data: list[list[Any]] = field(init=False)
    """Of each tensor."""
    sizes: list[int] = field(init=False)
    """How many values of each tensor are one row's."""
    offsets: list[int] = field(default_factory=list)
    """What they should be about."""
    failures: list[list[Any]] = field(default_factory=list)
    covers_to: int = -1

    def __post_init__(self) -> None:
        shapes = [head["shape"] for head in self.first["outputs"]]
        for rows, *shape in shapes:
            if rows != 1 or not all(isinstance(size, int) and size >= 0 for size in shape):
                raise ValueError(f"a tensor has the shape {[rows, *shape]}")
        self.data = [[] for _ in shapes]
        self.sizes = [prod(shape) for shape in shapes]

    def add(self, document: dict[str, Any], offset: int) -> None:
        """One more row."""
        about = document["parameters"]
        self.failures += [[len(self.offsets), *why[1:]] for why in about["failures"]]
        self.covers_to = about["covers_to"]
        self.offsets.append(offset)
        for tensor, values, size in zip(document["outputs"], self.data, self.sizes, strict=True):
            values.extend(tensor["data"])
            if len(values) != size * len(self.offsets):
                raise ValueError(f"tensor {tensor['name']!r} has another size than its shape")

    def batch(self) -> StageBatch:
        """The batch."""
        tensors, n = {}, len(self.offsets)
        for head, data in zip(self.first["outputs"], self.data, strict=True):
            shape = (n, *head["shape"][1:])
            tensors[head["name"]] = tensor_of_list(head["datatype"], shape, data)
        about = {"failures": self.failures, "covers_to": self.covers_to}
        header = self.first | {"parameters": self.first["parameters"] | about}
        return batch_of_tensors(header, tensors)


def _kind(document: dict[str, Any]) -> tuple[Any, ...]:
    """What outputs have in common that are of one batch."""
    about = document["parameters"]
    return (
        about["topic"], about["partition"],
        document["model_name"], document["model_version"], about["digest"], about["variant"],
        ModelRef(*about.get("challenger") or ("", "", "")),
        *((tensor["name"], tensor["datatype"], *tensor["shape"]) for tensor in document["outputs"]),
    )  # fmt: skip


def _data(tensor: Any) -> list[list[Any]]:
    """What the JSON has of each row."""
    if isinstance(tensor, BytesColumn):
        return [[base64.b64encode(item).decode()] for item in tensor.items()]
    rows: list[list[Any]] = tensor.reshape(len(tensor), -1).tolist()
    return rows
