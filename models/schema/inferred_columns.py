"""What one column of a data file holds: its type, how it writes times, its values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import Bools
from models.data import (
    EPOCHS,
    FALSE_TEXTS,
    PATTERNS,
    TRUE_TEXTS,
    Column,
    binary,
    json_values,
    moment_of,
    time_in,
)
from topics.pipeline import FieldType

MISSING_WORDS = ("NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "Null", "null", "?", "-")
"""Text that stands for no value in files that people exchange."""

_INTEGER = re.compile(r" *-?(0|[1-9][0-9]{0,17}) *")
_NUMBER = re.compile(r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *")
_ZERO_FIRST = re.compile(r" *-?0[0-9]+ *")
_TIME_WORDS = {"time", "timestamp", "ts", "date", "datetime", "at", "epoch", "created", "updated"}
_YEARS = tuple(datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1980, 2100))


@dataclass(frozen=True, slots=True)
class InferredColumn:
    """A column of N rows and what it holds."""

    name: str
    """As in the file."""
    type: FieldType | None
    """None when it cannot be a field; `problem` says why."""
    values: NDArray[Any]
    """(N,): float64 with NaN for missing (timestamps in ms), or str objects, "" for missing."""
    distinct: int
    """Different values, without missing ones."""
    time_format: str | None = None
    """As in `DataMapping.time_formats`; None for ISO 8601."""
    problem: str = ""

    @property
    def missing(self) -> Bools:
        """Where no value is, (N,)."""
        gone = self.values == "" if self.values.dtype == object else np.isnan(self.values)
        return np.asarray(gone, dtype=np.bool_)


def infer_column(
    name: str, column: Column, *, numbers_as_text: bool, time: bool = False
) -> InferredColumn:
    """The type that fits every value of the column.

    `numbers_as_text`: the file has no types, so text that reads as a number is one. With
    `time`, whole numbers in the range of epochs are times whatever the column is called.
    """
    values = json_values(column)
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        return _filled(name, "timestamp", values, _iso_ms)
    present = {type(value) for value in values} - {type(None)}
    if not present:
        return _unusable(name, values, "empty")
    if present == {str}:
        return _of_text(name, values, numbers_as_text=numbers_as_text, time=time)
    if present <= {bool, int, float} and (bool not in present or present == {bool}):
        return _of_numbers(name, values, time=time)
    kinds = ", ".join(sorted(kind.__name__ for kind in present))
    return _unusable(name, values, f"mixed or nested values ({kinds})")


def _of_numbers(name: str, values: Sequence[object], *, time: bool) -> InferredColumn:
    distinct = {value for value in values if value is not None}
    if distinct == {0, 1}:
        return _filled(name, "boolean", values, _as_number)
    if any(type(value) is float for value in distinct):
        return _filled(name, "number", values, _as_number)
    if form := _epoch(name, [str(value) for value in distinct], time=time):
        return _filled(name, "timestamp", values, _in_format(form), form)
    fits = all(-(2**63) <= _as_number(value) < 2**63 for value in distinct)
    return _filled(name, "integer" if fits else "number", values, _as_number)


def _of_text(
    name: str, values: Sequence[object], *, numbers_as_text: bool, time: bool
) -> InferredColumn:
    texts = [str(value) for value in dict.fromkeys(values) if value is not None]
    if all(text in (*TRUE_TEXTS, *FALSE_TEXTS) for text in texts) and (
        len({binary(text) for text in texts}) == 2
    ):
        return _filled(name, "boolean", values, _as_boolean)
    if numbers_as_text and all(_NUMBER.fullmatch(text) for text in texts):
        return _of_numeric_text(name, values, texts, time=time)
    if all(moment_of(text) for text in texts) and any("-" in text for text in texts):
        return _filled(name, "timestamp", values, _iso_ms)
    for form in PATTERNS:
        if all(time_in(text, form) for text in texts):
            return _filled(name, "timestamp", values, _in_format(form), form)
    return _strings(name, values)


def _of_numeric_text(
    name: str, values: Sequence[object], texts: Sequence[str], *, time: bool
) -> InferredColumn:
    if any(_ZERO_FIRST.fullmatch(text) for text in texts):  # 007 is no number
        return _strings(name, values)
    if form := _epoch(name, texts, time=time):
        return _filled(name, "timestamp", values, _in_format(form), form)
    whole = all(_INTEGER.fullmatch(text) for text in texts)
    return _filled(name, "integer" if whole else "number", values, _as_number)


def _epoch(name: str, texts: Sequence[str], *, time: bool) -> str | None:
    """The epoch format of a column of numbers that is one by its name and range, or None."""
    words = set(re.split(r"[\W_]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).casefold()))
    if not (time or words & _TIME_WORDS):
        return None
    for form, seconds in EPOCHS.items():
        if all(_YEARS[0] <= float(text) * seconds < _YEARS[1] for text in texts):
            return form
    return None


def _filled(
    name: str, kind: FieldType, values: Sequence[object], number: Callable[[Any], float],
    time_format: str | None = None,
) -> InferredColumn:  # fmt: skip
    """A column of numbers; each different value is read once."""
    read = {value: number(value) for value in dict.fromkeys(values) if value is not None}
    numbers = np.array([np.nan if v is None else read[v] for v in values], dtype=np.float64)
    return InferredColumn(name, kind, numbers, len(set(read.values())), time_format)


def _strings(name: str, values: Sequence[object]) -> InferredColumn:
    texts = np.array(["" if value is None else value for value in values], dtype=object)
    return InferredColumn(name, "string", texts, len(set(texts.tolist()) - {""}))


def _unusable(name: str, values: Sequence[object], problem: str) -> InferredColumn:
    return InferredColumn(name, None, np.full(len(values), np.nan), 0, None, problem)


def _as_number(value: Any) -> float:
    return float(value)


def _as_boolean(value: object) -> float:
    return float(bool(binary(value)))


def _iso_ms(text: str) -> float:
    moment = moment_of(text)
    return np.nan if moment is None else _milliseconds(moment.replace(tzinfo=UTC))


def _in_format(form: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        moment = time_in(str(value), form)
        return np.nan if moment is None else _milliseconds(moment)

    return read


def _milliseconds(moment: datetime) -> float:
    return round(moment.timestamp() * 1000)
