"""Inputs of a graph made of one matrix of columns, as components have them.

A file may have one input for all columns, one for each, or some of several; of float, double,
half, integers or strings. A string input reads a category: the text that the pipeline file lists
for the value of an ordinal column, or for the column of one_hot ones that is set; `""` for none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.arrays import Floats32
from models.imports.errors import NotAdaptable
from models.imports.graph_edits import GraphEditor, float_tensor, sides

_NUMBERS = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64,
    TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL,
)  # fmt: skip
_HALF = 0.5
"""Above the 0 and below the 1 of a one_hot column."""


@dataclass(frozen=True)
class Category:
    """A feature with categories, as columns of a component's matrix."""

    places: Sequence[int]
    """Of its columns: one of ordinal, as many as *choices* of one_hot."""
    choices: Sequence[str]

    def texts(self, rows: Floats32) -> NDArray[np.object_]:
        """The category of each of *rows* (N, F)."""
        texts = np.array(["", *self.choices], object)
        if len(self.places) == 1:
            codes = np.nan_to_num(rows[:, self.places[0]], nan=-1).clip(-1, len(self.choices) - 1)
            return np.asarray(texts[codes.astype(np.int64) + 1])
        flags = np.insert(rows[:, list(self.places)], 0, _HALF, axis=1)
        return np.asarray(texts[flags.argmax(axis=1)])

    def tensor(self, editor: GraphEditor, matrix: str) -> str:
        """A tensor (N,) of the same texts, of the tensor *matrix* (N, F)."""
        columns = editor.columns(matrix, list(self.places))
        if len(self.places) == 1:
            missing = editor.node("IsNaN", columns)
            none = editor.constant(np.array(-1, np.float32))
            last = editor.constant(np.array(len(self.choices) - 1, np.float32))
            code = editor.node("Where", missing, none, columns)
            code = editor.node("Min", editor.node("Max", code, none), last)
            code = editor.cast(editor.reshaped(code, [-1]), TensorProto.INT64)
            place = editor.node("Add", code, editor.constant(np.array(1, np.int64)))
        else:
            first = editor.columns(matrix, [self.places[0]])
            zero = editor.constant(np.array(0, np.float32))
            half = editor.node("Add", editor.node("Mul", first, zero), editor.constant(
                np.array(_HALF, np.float32)
            ))  # fmt: skip
            flags = editor.node("Concat", half, columns, axis=1)
            place = editor.reshaped(editor.node("ArgMax", flags, axis=1, keepdims=0), [-1])
        texts = editor.constant(np.array(["", *self.choices], object))
        return editor.node("Gather", texts, place, axis=0)


@dataclass(frozen=True)
class InputPart:
    """One input of the file, and the columns that it reads."""

    name: str
    places: Sequence[int]
    kind: int
    """Its type, by its number in TensorProto."""
    shape: Sequence[int]
    """Of one row: () where the input is (N,)."""
    category: Category | None = None

    def feed(self, rows: Floats32) -> NDArray[Any]:
        """What the input is of *rows* (N, F), as its maker would give it."""
        shape = (len(rows), *self.shape)
        if self.category is not None:
            return self.category.texts(rows).reshape(shape)
        values = rows[:, list(self.places)].reshape(shape)
        return np.asarray(values.astype(helper.tensor_dtype_to_np_dtype(self.kind)))

    def tensor(self, editor: GraphEditor, matrix: str) -> None:
        """Make the input a tensor of the columns of the tensor *matrix* (N, F)."""
        if self.category is not None:
            values = self.category.tensor(editor, matrix)
        else:
            values = editor.columns(matrix, list(self.places))
        if self.kind not in (TensorProto.FLOAT, TensorProto.STRING):
            values = editor.cast(values, self.kind)
        editor.reshaped(values, [-1, *self.shape], output=self.name)


def width(value: Any) -> int | None:
    """How many values an input reads of a row; None where it leaves that open."""
    of_row = sides(value)[1:]
    return None if None in of_row else math.prod(side for side in of_row if side is not None)


def parts_of(
    inputs: Sequence[Any], columns: Sequence[str], categories: Mapping[str, Category]
) -> list[InputPart]:
    """What each of *inputs* reads of *columns*. Raises NotAdaptable.

    One input reads all columns, in their order. Several read those (or the categories) of their
    names; where they have other names, or some read several columns, the columns in their order.
    """
    if len(inputs) == 1 and _kind(inputs[0]) != TensorProto.STRING:
        return [_part(inputs[0], range(len(columns)))]
    names = [each.name for each in inputs]
    known = {name: [place] for place, name in enumerate(columns)}
    unknown = [name for name in names if name not in known and name not in categories]
    if not unknown:
        return [_named(each, known, categories) for each in inputs]
    texts = any(_kind(each) == TensorProto.STRING for each in inputs)
    wide = any(width(each) != 1 for each in inputs)
    if texts or not (wide or len(unknown) == len(names)):
        raise NotAdaptable(
            f"the component has no column {', '.join(unknown)}; it has {', '.join(columns)}"
            + (f" and the categories {', '.join(categories)}" if categories else "")
            + ": inputs are read by these names (rename them where it is exported)"
        )
    return _in_order(inputs, columns)


def _in_order(inputs: Sequence[Any], columns: Sequence[str]) -> list[InputPart]:
    counts = [width(each) or 1 for each in inputs]
    names = [each.name for each in inputs]
    if sum(counts) != len(columns):
        raise NotAdaptable(
            f"its inputs {', '.join(names)} read {sum(counts)} columns, the component has "
            f"{len(columns)}: {', '.join(columns)}"
        )
    parts = [
        _part(each, range(end - count, end))
        for each, count, end in zip(inputs, counts, accumulate(counts), strict=True)
    ]
    for part in parts:
        if part.name in columns and list(part.places) != [columns.index(part.name)]:
            at = ", ".join(columns[place] for place in part.places)
            raise NotAdaptable(
                f"its inputs read the columns in their order, so {part.name} would read {at}: put "
                "them into the order of the columns where it is exported"
            )
    return parts


def join_inputs(
    editor: GraphEditor, inputs: Sequence[Any], parts: Sequence[InputPart], columns: int
) -> None:
    """Give the graph one input (rows, *columns*) instead of *inputs*, in place."""
    matrix = editor.name("columns")
    for part in parts:
        part.tensor(editor, matrix)
    editor.put_first()
    for each in inputs:
        editor.graph.input.remove(each)
    editor.graph.input.insert(0, float_tensor(matrix, ["rows", columns]))


def is_component_input(inputs: Sequence[Any]) -> bool:
    """Whether *inputs* are what a component's model has: one of float32 (N, F)."""
    if len(inputs) != 1 or _kind(inputs[0]) != TensorProto.FLOAT:
        return False
    shape = sides(inputs[0])
    return len(shape) == 2 and shape[1] is not None


def _named(
    value: Any, known: Mapping[str, Sequence[int]], categories: Mapping[str, Category]
) -> InputPart:
    if _kind(value) == TensorProto.STRING:
        if (category := categories.get(value.name)) is None:
            raise NotAdaptable(
                f"its input {value.name} reads texts, the column {value.name} has numbers: a text "
                "input reads a feature with apply: ordinal or one_hot"
            )
        return _part(value, category.places, category)
    places = known.get(value.name) or categories[value.name].places
    return _part(value, places)


def _part(value: Any, places: Sequence[int], category: Category | None = None) -> InputPart:
    kind, shape = _kind(value), sides(value)[1:]
    if category is None and kind not in _NUMBERS:
        text = helper.tensor_dtype_to_string(kind) if kind else "no tensor"
        raise NotAdaptable(f"its input {value.name} is {text}: give it columns of numbers")
    of_row = [1] * len(shape) if category is not None else _of_row(shape, len(places), value.name)
    return InputPart(value.name, places, kind, of_row, category)


def _of_row(shape: Sequence[int | None], columns: int, name: str) -> list[int]:
    """The sides of one row of *columns* values; the one that is open takes what is left."""
    fixed = math.prod(side for side in shape if side is not None)
    free = [side for side in shape if side is None]
    if len(free) > 1 or (columns % fixed if free else fixed != columns):
        wanted = " × ".join("any" if side is None else str(side) for side in shape) or "1"
        raise NotAdaptable(f"its input {name} reads {wanted} values of a row, not {columns}")
    return [columns // fixed if side is None else side for side in shape]


def _kind(value: Any) -> int:
    return int(value.type.tensor_type.elem_type)
