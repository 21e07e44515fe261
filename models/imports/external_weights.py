"""Weights that an ONNX file keeps in files beside it, read into it.

Only files of the model's own folder are read, as ONNX asks for (external data: a path relative to
the model), and no more of them than a model may have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_tensor

from models.imports.errors import NotAdaptable
from topics.file_content import check_file


def with_weights_inside(model: Any, folder: Path, most: int) -> list[str]:
    """Read into *model* what it keeps in files of *folder*; the names of those files.

    Raises NotAdaptable for a file that is missing, is not in the folder, or with which there would
    be more than *most* bytes.
    """
    elsewhere = [each for each in _tensors(model.graph) if each.data_location == _EXTERNAL]
    names = sorted({_location(each) for each in elsewhere})
    total = 0
    for name in names:
        path = folder / name
        try:
            check_file(path)
        except OSError as exc:
            raise NotAdaptable(
                f"its weights are in the file {name} beside it, which cannot be read: "
                f"{exc.strerror}; put it into {folder}"
            ) from exc
        if path.resolve().parent != folder.resolve():
            raise NotAdaptable(f"its weights are in {name}, which leads out of its folder")
        total += path.stat().st_size
    if total > most:
        raise NotAdaptable(f"its weights have {total:,} bytes, a model may have {most:,}")
    for tensor in elsewhere:
        try:
            load_external_data_for_tensor(tensor, str(folder))
        except (OSError, ValueError, onnx.checker.ValidationError) as exc:
            raise NotAdaptable(f"its weights in {_location(tensor)} cannot be read: {exc}") from exc
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return names


_EXTERNAL = TensorProto.EXTERNAL


def _location(tensor: Any) -> str:
    name = next((each.value for each in tensor.external_data if each.key == "location"), "")
    if not name or PurePosixPath(name).name != name:
        raise NotAdaptable(
            f"the weights of its tensor {tensor.name} are in {name or 'no file'}: only a file of "
            "its own folder is read"
        )
    return name


def _tensors(graph: Any) -> Iterator[Any]:
    """The tensors of *graph* and of the graphs in its nodes."""
    yield from graph.initializer
    for each in graph.sparse_initializer:
        yield from (each.values, each.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)
