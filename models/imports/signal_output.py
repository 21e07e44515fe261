"""Of all that a file puts out, the one signal in [0, 1] that a component has.

Classifiers put out labels and probabilities, one for each class, some as maps (ZipMap); networks
put out probabilities or logits. What is plain is chosen, and said; the rest is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.arrays import Floats64
from models.imports.errors import NotAdaptable
from models.imports.graph_edits import GraphEditor, float_tensor

SIGNAL = "signal"
Link = Literal["sigmoid", "softmax"]
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
_TOLERANCE = 1e-5
"""Probabilities are summed in float32: by so much they may leave [0, 1], or miss a sum of 1."""


@dataclass(frozen=True)
class OutputChoice:
    """What a person says of a file's outputs; None where it shall be seen from the file."""

    output: str | None = None
    """The name of the output to read."""
    label: str | None = None
    """Which class is the positive one: its label, or its place from 0 on."""
    link: Link | None = None
    """What makes a probability of the output."""


class ClassifierOutput(NamedTuple):
    """An output that could be the signal."""

    name: str
    """As the file calls it."""
    tensor: str
    """The tensor that has the values: another one where the output is a map."""
    labels: list[str]
    """Of its classes, in the order of its columns; none where the file does not say."""
    of_map: bool


@dataclass(frozen=True)
class SignalOutput:
    """The column of an output that is the signal, and what makes a probability of it."""

    output: ClassifierOutput
    place: int
    columns: int
    link: Link | None
    bounded: bool
    """Whether it ends with what gives values in [0, 1], so that nothing has to be cut off."""

    def values(self, of_maker: NDArray[Any]) -> Floats64:
        """The signal (N,) of the output's values (N, C), in double, for comparison."""
        values = of_maker.astype(np.float64).reshape(len(of_maker), self.columns)
        with np.errstate(over="ignore"):
            if self.link == "softmax":
                exponents = np.exp(values - values.max(axis=1, keepdims=True))
                values = exponents / exponents.sum(axis=1, keepdims=True)
            chosen = values[:, self.place]
            if self.link == "sigmoid":
                chosen = 1 / (1 + np.exp(-chosen))
        return np.asarray(chosen.clip(0, 1))

    def put_out(self, editor: GraphEditor) -> None:
        """Make it the graph's only output, `signal` (rows, 1), in place."""
        before = editor.name(f"{SIGNAL}_before")
        _rename(editor.graph, SIGNAL, before)
        tensor = before if self.output.tensor == SIGNAL else self.output.tensor
        values = editor.cast(tensor, TensorProto.FLOAT)
        values = editor.reshaped(values, [-1, self.columns])
        if self.link == "softmax":
            values = editor.node("Softmax", values, axis=1)
        if self.columns > 1:
            values = editor.columns(values, [self.place])
        if self.link == "sigmoid":
            values = editor.node("Sigmoid", values)
        if not self.bounded:
            values = editor.node("Max", values, editor.constant(np.array(0, np.float32)))
            values = editor.node("Min", values, editor.constant(np.array(1, np.float32)))
        editor.node("Identity", values, output=SIGNAL)
        editor.put_last()
        del editor.graph.output[:]
        editor.graph.output.append(float_tensor(SIGNAL, ["rows", 1]))


def without_maps(graph: Any) -> dict[str, ClassifierOutput]:
    """Take each ZipMap out of *graph*, in place; the outputs that it made, by their names."""
    maps = {}
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        name, tensor = node.output[0], node.input[0]
        maps[name] = ClassifierOutput(name, tensor, _labels(node), of_map=True)
        graph.node.remove(node)
        declared = next((each for each in graph.output if each.name == name), None)
        if declared is not None:
            declared.CopyFrom(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    return maps


def chosen_output(
    graph: Any, maps: dict[str, ClassifierOutput], wanted: str | None
) -> ClassifierOutput:
    """The output of *graph* that is *wanted*, or that plainly has the signal. Raises NotAdaptable.

    Plain is one called signal, the only one of numbers with a fraction, or the only such one whose
    name speaks of probabilities.
    """
    by_tensor = {each.tensor: each for each in maps.values()}
    labels = next((_labels(node) for node in graph.node if _labels(node)), [])
    found = [
        by_tensor.get(each.name) or ClassifierOutput(each.name, each.name, labels, of_map=False)
        for each in graph.output
        if each.type.tensor_type.elem_type in _FLOATS
    ]
    names = [each.name for each in found]
    if wanted is not None:
        if wanted not in names:
            raise NotAdaptable(_no_output(wanted, names, graph))
        return found[names.index(wanted)]
    if not found:
        others = ", ".join(each.name for each in graph.output)
        raise NotAdaptable(
            f"its outputs ({others}) are labels, not probabilities: export it with probabilities"
        )
    for plain in (
        [each for each in found if each.name == SIGNAL],
        found,
        [each for each in found if "prob" in each.name.lower()],
    ):
        if len(plain) == 1:
            return plain[0]
    options = " or ".join(f"--output {name}" for name in names)
    raise NotAdaptable(f"it has several outputs that could be the signal: say {options}")


def signal_of(
    output: ClassifierOutput, values: NDArray[Any], choice: OutputChoice, last_operator: str
) -> SignalOutput:
    """Which column of *output*, whose *values* (N, …) it gave for some rows, is the signal.

    *last_operator* is the one that makes the output. Raises NotAdaptable.
    """
    if values.ndim == 0 or not np.isfinite(values).all():
        raise NotAdaptable(f"its output {output.name} is not a number for some of the rows")
    flat = values.astype(np.float64).reshape(len(values), -1)
    columns = flat.shape[1]
    place = _place(output, columns, choice.label)
    link = choice.link or ("sigmoid" if columns == 1 and "logit" in output.name.lower() else None)
    if link == "softmax" and columns == 1:
        raise NotAdaptable(f"its output {output.name} has one column: --apply sigmoid")
    if link is None:
        _check_probabilities(output, flat, place)
    bounded = link is not None or last_operator in ("Sigmoid", "Softmax")
    return SignalOutput(output, place, columns, link, bounded)


def _place(output: ClassifierOutput, columns: int, label: str | None) -> int:
    labels = output.labels if len(output.labels) == columns else []
    if label is None:
        if columns > 2:
            options = labels or [*map(str, range(columns))]
            raise NotAdaptable(
                f"its output {output.name} has {columns} classes: say which is the positive one, "
                + " or ".join(f"--class {each}" for each in options[:4])
                + (" …" if columns > 4 else "")
            )
        return columns - 1
    if columns == 1:
        raise NotAdaptable(f"its output {output.name} has one column, no classes: omit --class")
    if label in labels:
        return labels.index(label)
    if not labels and label.isascii() and label.isdigit() and int(label) < columns:
        return int(label)
    known = ", ".join(labels or map(str, range(columns)))
    raise NotAdaptable(f"its output {output.name} has no class {label}: it has {known}")


def _check_probabilities(output: ClassifierOutput, values: Floats64, place: int) -> None:
    """Raise NotAdaptable unless they look like probabilities."""
    low, high = values[:, place].min(), values[:, place].max()
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        links = "--apply sigmoid" if values.shape[1] == 1 else "--apply softmax, or sigmoid"
        raise NotAdaptable(
            f"its output {output.name} is between {low:.4g} and {high:.4g} for the rows; signals "
            f"are in [0, 1]: end it with a sigmoid, or, if these are logits, say {links}"
        )


def _labels(node: Any) -> list[str]:
    """The classes that a classifier or a ZipMap says it has."""
    for each in node.attribute:
        if each.name.startswith("classlabels_"):
            return [text.decode(errors="replace") for text in each.strings] or [
                str(number) for number in each.ints
            ]
    return []


def _no_output(wanted: str, names: Sequence[str], graph: Any) -> str:
    if any(each.name == wanted for each in graph.output):
        return f"its output {wanted} is no probability; say --output {' or '.join(names)}"
    known = ", ".join(each.name for each in graph.output)
    return f"it has no output {wanted}; it has {known}"


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == old:
                    names[at] = new
    for each in (*graph.initializer, *graph.input):
        if each.name == old:
            each.name = new
