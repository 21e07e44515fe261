"""A graph as its maker exported it, made a component's: one float32 (rows, F) in, `signal` out.

In this order: constants that stand among the inputs, a fixed number of rows, the inputs, the
output. Then the file and what was made of it are run on the same rows: they must agree, and a row
must get the same bits in any batch. Where they do not, it is made to run row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.arrays import Floats32
from models.imports.batch_axis import fixed_rows, free_rows
from models.imports.errors import NotAdaptable
from models.imports.graph_edits import LEAST_OPSET, GraphEditor, sides
from models.imports.input_columns import (
    Category,
    InputPart,
    is_component_input,
    join_inputs,
    parts_of,
    width,
)
from models.imports.row_by_row import run_row_by_row
from models.imports.signal_output import (
    ClassifierOutput,
    OutputChoice,
    SignalOutput,
    chosen_output,
    signal_of,
    without_maps,
)
from models.onnx.bit_stability import moving_rows
from models.onnx.session import ModelSession, ModelUnreadable, opened

Form = Literal["batch", "row by row"]
_MOVED_ROWS = 500
_MOST_APART = 1e-5
_MOST_APART_OF_HALF = 1e-2
"""How far the signal may be from what the file says: rounding."""


@dataclass(frozen=True)
class ImportChoices:
    """What a person says of a file, beyond what is seen from it."""

    output: OutputChoice = field(default_factory=OutputChoice)
    constants: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Values of inputs that are constants which the exporter left out, by their names."""


class Adaptation(NamedTuple):
    """A component's model, made of a file."""

    content: bytes
    columns: list[str]
    changes: list[str]
    """What was done to it, for people; nothing where the file was a component's already."""


def adapt(
    model: Any,
    content: bytes,
    source: str,
    choices: ImportChoices,
    columns_for: Callable[[int | None], tuple[Sequence[str], Mapping[str, Category]]],
    rows_for: Callable[[Sequence[str], Mapping[str, Category]], Floats32],
) -> Adaptation:
    """The ONNX *model*, with the bytes *content*, as a component's.

    `columns_for` gives the names of the component's columns (where the file says how many there
    are, of so many) and its categories, `rows_for` some rows (N, F) of them. *model* is changed.
    Raises NotAdaptable, ModelUnreadable, and what they raise.
    """
    changes: list[str] = []
    _check_opset(model)
    original = opened(content, source)
    inputs, constants = _inputs(model.graph, choices.constants, changes)
    columns, categories = columns_for(width(inputs[0]) if len(inputs) == 1 else None)
    parts = parts_of(inputs, columns, categories)
    rows = rows_for(columns, categories)
    fixed = fixed_rows(inputs)
    output = chosen_output(model.graph, without_maps(model.graph), choices.output.output)
    run = _OriginalRun(original, parts, constants, fixed, output)
    said = run(rows)
    signal = signal_of(output, said, choices.output, _maker_of(model.graph, output.tensor))
    joined = None if is_component_input(inputs) else parts
    put_out = None if _is_component_output(model.graph, output, said, choices.output) else signal
    changes += [] if joined is None else _said_of_inputs(parts, columns)
    changes += [] if put_out is None else _said_of_output(signal)
    forms = _Forms(model, content if not changes else None, len(columns), fixed, joined, put_out)

    def checked(made: bytes) -> bytes:
        _check_same(made, source, rows, signal.values(said), run.tolerance)
        return made

    try:
        adapted = checked(forms.batch())
        if fixed is not None:
            changes.append(f"takes any number of rows: it was exported for {fixed}")
    except NotAdaptable as why:
        try:
            adapted = checked(forms.row_by_row())
        except NotAdaptable:
            raise why from None
        because = "rows got other bits in a batch" if fixed is None else f"made for {fixed} rows"
        changes.append(f"runs row by row, which is slower: {because}")
    return Adaptation(adapted, [*columns], changes)


@dataclass(frozen=True)
class _Forms:
    """The graphs that can be made of one that was read."""

    model: Any
    untouched: bytes | None
    """The file as it is, where nothing but its number of rows may have to change."""
    columns: int
    fixed: int | None
    joined: Sequence[InputPart] | None
    """The inputs, where they are not a component's."""
    signal: SignalOutput | None
    """The output, where it is not a component's."""

    def batch(self) -> bytes:
        """One that runs all rows at once."""
        if self.untouched is not None and self.fixed is None:
            return self.untouched
        model = self._copy()
        if self.fixed is not None:
            free_rows(model.graph, list(model.graph.input), self.fixed)
        return self._component_model(model)

    def row_by_row(self) -> bytes:
        """One that runs each row alone."""
        model = self._copy()
        self._component_model(model)
        run_row_by_row(model, self.columns, self.fixed or 1)
        return bytes(model.SerializeToString())

    def _component_model(self, model: Any) -> bytes:
        editor = GraphEditor(model)
        if self.joined is not None:
            join_inputs(editor, list(model.graph.input), self.joined, self.columns)
        if self.signal is not None:
            self.signal.put_out(editor)
        return bytes(model.SerializeToString())

    def _copy(self) -> Any:
        model = type(self.model)()
        model.CopyFrom(self.model)
        return model


class _OriginalRun:
    """Runs the file as it is, on rows (N, F), as its maker would."""

    def __init__(
        self,
        session: ort.InferenceSession,
        parts: Sequence[InputPart],
        constants: Mapping[str, NDArray[Any]],
        fixed: int | None,
        output: ClassifierOutput,
    ) -> None:
        self._session = session
        self._parts = parts
        self._constants = constants
        self._fixed = fixed
        self._output = output

    @property
    def tolerance(self) -> float:
        """How far rounding may lead away from the output."""
        declared = next(o for o in self._session.get_outputs() if o.name == self._output.name)
        return _MOST_APART_OF_HALF if declared.type == "tensor(float16)" else _MOST_APART

    def __call__(self, rows: Floats32) -> NDArray[Any]:
        """The output (N, …) of *rows*; raises NotAdaptable."""
        step = self._fixed or len(rows)
        answers = []
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            full = np.concatenate([some, np.repeat(some[-1:], step - len(some), axis=0)])
            answers.append(self._of(full)[: len(some)])
        return np.concatenate(answers)

    def _of(self, rows: Floats32) -> NDArray[Any]:
        feeds = {part.name: part.feed(rows) for part in self._parts} | dict(self._constants)
        wanted = {each.name for each in self._session.get_inputs()}
        try:
            (values,) = self._session.run(
                [self._output.name], {name: feeds[name] for name in wanted}
            )
        except Exception as exc:  # onnxruntime raises its own types
            cause = " ".join(str(exc).split())[:200]
            raise NotAdaptable(f"it fails on {len(rows)} rows: {cause}") from exc
        if isinstance(values, list):  # maps by label, in the order of labels, not of classes
            by_label = [{str(label): share for label, share in row.items()} for row in values]
            return np.array(
                [[row[label] for label in self._output.labels] for row in by_label], np.float64
            )
        if len(values) != len(rows):
            raise NotAdaptable(
                f"its output {self._output.name} has {len(values)} rows for {len(rows)}"
            )
        return np.asarray(values)


def _check_opset(model: Any) -> None:
    opset = next((each.version for each in model.opset_import if not each.domain), LEAST_OPSET)
    if opset < LEAST_OPSET:
        raise NotAdaptable(
            f"it is of opset {opset}; export it with {LEAST_OPSET} or newer (target_opset=, "
            "opset_version=)"
        )


def _inputs(
    graph: Any, given: Mapping[str, NDArray[np.float64]], changes: list[str]
) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    """The inputs that rows are for, and what the others are fed; those are no inputs any more."""
    initial = {each.name for each in graph.initializer}
    read = set(_read(graph))
    real, constants = [], {}
    for value in list(graph.input):
        if value.name in initial:  # as files before IR version 4 list them
            graph.input.remove(value)
        else:
            real.append(value)
    if unknown := [name for name in given if name not in {each.name for each in real}]:
        names = ", ".join(each.name for each in real)
        raise NotAdaptable(f"it has no input {unknown[0]} to give a constant; it has {names}")
    open_ones = [each for each in real if (sides(each) or [None])[0] is None]
    for value in list(real):
        shape = [side or 1 for side in sides(value)]
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type or 1)
        if value.name in given:
            constants[value.name] = _constant(value.name, given[value.name], shape).astype(kind)
            graph.initializer.append(
                onnx.numpy_helper.from_array(constants[value.name], value.name)
            )
            changes.append(f"its input {value.name} is a constant now, as given")
        elif value.name not in read and len(real) > 1:
            constants[value.name] = np.zeros(shape, kind)
            changes.append(f"its input {value.name} is gone: nothing reads it")
        elif open_ones and None not in sides(value):
            raise _constant_missing(value.name, shape)
        else:
            continue
        real.remove(value)
        graph.input.remove(value)
    if not real:
        raise NotAdaptable("it has no input")
    return real, constants


def _constant(name: str, values: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    if values.size != int(np.prod(shape)):
        raise NotAdaptable(f"its input {name} has {int(np.prod(shape))} values, not {values.size}")
    return values.reshape(shape)


def _constant_missing(name: str, shape: Sequence[int]) -> NotAdaptable:
    count = int(np.prod(shape))
    return NotAdaptable(
        f"its input {name} {list(shape)} has no side for rows: it is a constant of the network "
        f"that the exporter left out; give its {count} values: --constant '{name}=V1,…,V{count}', "
        f"or --constant '{name}=FILE.npy'"
    )


def _is_component_output(
    graph: Any, output: ClassifierOutput, values: NDArray[Any], choice: OutputChoice
) -> bool:
    declared = graph.output[0]
    return (
        len(graph.output) == 1
        and declared.name == "signal"
        and declared.type.tensor_type.elem_type == TensorProto.FLOAT
        and values.ndim <= 2
        and values.size == len(values)
        and choice.link is None
        and not output.of_map
        and sides(declared)[1:] in ([], [1])
    )


def _check_same(
    adapted: bytes, source: str, rows: Floats32, expected: NDArray[np.float64], tolerance: float
) -> None:
    """Raise NotAdaptable unless the graph says of *rows* what the file does, in any batch."""
    try:
        session = opened(adapted, source)
        (signal,) = session.run(["signal"], {session.get_inputs()[0].name: rows})
    except ModelUnreadable as exc:
        raise NotAdaptable(f"what was made of it does not load: {exc}") from exc
    except Exception as exc:  # onnxruntime raises its own types
        cause = " ".join(str(exc).split())[:200]
        raise NotAdaptable(
            f"what was made of it fails on {len(rows)} rows: {cause}; export it with a dynamic "
            "batch axis"
        ) from exc
    apart = np.abs(signal.reshape(-1) - expected).max() if signal.size == len(rows) else np.inf
    if not apart <= tolerance:
        raise NotAdaptable(
            f"what was made of it gives signals that are {apart:.2g} from the file's: its rows "
            "depend on each other, or it was exported for a fixed number of rows (export it with a "
            "dynamic batch axis)"
        )
    component = ModelSession.of(adapted, source)
    some = rows[:_MOVED_ROWS]
    if moving := moving_rows(component.signal, some):
        raise NotAdaptable(
            f"{moving} of {len(some)} rows get other bits in a smaller batch, so decisions could "
            "not be replayed: it must not normalise over the batch (export it in inference mode)"
        )


def _maker_of(graph: Any, tensor: str) -> str:
    return next((node.op_type for node in graph.node if tensor in node.output), "")


def _read(graph: Any) -> set[str]:
    """The names that nodes of *graph*, or of graphs in it, read."""
    names = {name for node in graph.node for name in node.input}
    names |= {each.name for each in graph.output}
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        for inner in (attribute.g, *attribute.graphs):
            if inner.node or inner.output:
                names |= _read(inner)
    return names


def _said_of_inputs(parts: Sequence[InputPart], columns: Sequence[str]) -> list[str]:
    if len(parts) == 1:
        kind = onnx.TensorProto.DataType.Name(parts[0].kind).lower()
        return [f"reads its input {parts[0].name} ({kind}) from float32 columns"]
    by = ", ".join(
        f"{part.name} from {', '.join(columns[place] for place in part.places)}" for part in parts
    )
    return [f"reads its {len(parts)} inputs from the columns: {by}"]


def _said_of_output(signal: SignalOutput) -> list[str]:
    output = signal.output
    said = [f"its map {output.name} (ZipMap) is an array now"] if output.of_map else []
    of = f"its output {output.name}"
    if signal.columns > 1:
        labels = output.labels if len(output.labels) == signal.columns else []
        label = labels[signal.place] if labels else str(signal.place)
        of = f"class {label} of the {signal.columns} of {of}"
    through = f" through a {signal.link}" if signal.link else ""
    return [*said, f"the signal is {of}{through}"]
