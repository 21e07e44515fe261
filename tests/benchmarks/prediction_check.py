"""Whether predictions of W2 are right."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.check import Output, Wrong, differs, parsed, short

TOLERANCE = 1e-4
_CLASSES = 10

Predict = Callable[[int], NDArray[np.float32]]


@dataclass(slots=True)
class TensorCheck:
    """Checks predictions of w2-tensor: 10 little-endian float32."""

    predict: Predict

    def look(self, outputs: Sequence[Output]) -> list[int]:
        """The events' numbers; Wrong for the first output that is wrong."""
        numbers = [_number_of(output) for output in outputs]
        for number, output in zip(numbers, outputs, strict=True):
            if len(output.value or b"") != 4 * _CLASSES:
                raise differs(f"event {number}", "the value", f"{4 * _CLASSES} bytes", output.value)
        values = b"".join([output.value or b"" for output in outputs])
        said = np.frombuffer(values, "<f4").reshape(len(outputs), _CLASSES)
        _check_predictions(numbers, said, self.predict)
        return numbers


@dataclass(slots=True)
class TextCheck:
    """Checks predictions of w2-text: the event's JSON again, and the prediction as text."""

    predict: Predict
    value_of: Callable[[int], bytes]
    """The event as it was published."""
    _inputs: dict[int, dict[str, Any]] = field(default_factory=dict)

    def look(self, outputs: Sequence[Output]) -> list[int]:
        """The events' numbers; Wrong for the first output that is wrong."""
        numbers, said = [], []
        for output in outputs:
            number, found = _number_of(output), parsed(output)
            try:
                texts = str(found.pop("prediction", "")).split(",")
                said.append([float(text) for text in texts])
            except ValueError as exc:
                raise Wrong(f"event {number}: prediction: {exc}") from exc
            if len(texts) != _CLASSES:
                raise differs(f"event {number}", "the prediction", f"{_CLASSES} numbers", texts)
            self._check_echo(number, found)
            numbers.append(number)
        _check_predictions(numbers, np.array(said), self.predict)
        return numbers

    def _check_echo(self, number: int, found: dict[str, Any]) -> None:
        if number not in self._inputs:
            self._inputs[number] = json.loads(self.value_of(number))
        right = self._inputs[number]
        for name in {*right, *found}:
            if right.get(name) != found.get(name):
                raise differs(f"event {number}", name, right.get(name), found.get(name))


def _number_of(output: Output) -> int:
    try:
        return int(output.key or b"")
    except ValueError as exc:
        raise Wrong(f"a record has the key {short(output.key)}") from exc


def _check_predictions(
    numbers: list[int], said: NDArray[np.floating[Any]], predict: Predict
) -> None:
    right = np.array([predict(number) for number in numbers])
    bad = np.argwhere(~(np.abs(said - right) <= TOLERANCE))
    if len(bad):
        row, column = bad[0].tolist()
        event = f"event {numbers[row]}"
        raise differs(event, f"prediction {column}", right[row, column], said[row, column])
