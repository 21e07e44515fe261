"""The type that fits every value of a column, and what a column nearly is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from models.data import (
    EPOCHS,
    FALSE_TEXTS,
    PLAIN,
    TRUE_TEXTS,
    Column,
    binary,
    fitting_formats,
    fitting_patterns,
    json_values,
    moment_of,
    number_in,
    time_in,
)
from models.schema.identifiers import is_called_identifier
from models.schema.inferred_columns import (
    InferredColumn,
    numbered_column,
    numeric_column,
    text_column,
    unusable_column,
)
from models.schema.near_types import near_type
from topics.pipeline import FieldType

MISSING_WORDS = (
    "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "Null", "null", "?", "-",
    "NaT", "<NA>", "<na>", "<null>", "<NULL>", "(null)", "(NULL)", "\\N",
    "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!",
)  # fmt: skip
"""Text that stands for no value in files that people exchange."""
MISSING_AMONG_NUMBERS = frozenset(
    [
        ".",
        "..",
        "...",
        "--",
        "---",
        "*",
        "–",
        "—",
        "inf",
        "+inf",
        "-inf",
        "infinity",
        "+infinity",
        "-infinity",
        "missing",
        "none",
        "nil",
        "unknown",
        "undefined",
        "unavailable",
        "n.a.",
        "n.a",
        "n/d",
        "nd",
        "k.a.",
        "s/d",
        "blank",
        "empty",
        "(blank)",
        "(empty)",
        "#error",
    ]
) | {"not available", "no data", "not applicable"}
"""Words, in lower case, that stand for no value where all others are numbers or times: among
other words they say something."""
MOST_CATEGORIES = 20
"""A text with more different values makes no feature."""

_INTEGER = re.compile(r" *-?(0|[1-9][0-9]{0,38}) *")
_NUMBER = re.compile(r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *")
_ZERO_FIRST = re.compile(r" *-?0[0-9]+ *")
_COMPACT_DATE = re.compile("(19|20)[0-9]{6}")
_TIME_WORDS = {
    "time", "timestamp", "ts", "date", "datetime", "day", "at", "epoch", "created", "updated",
}  # fmt: skip
_YEARS = tuple(datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1980, 2100))
_EXACT = 2**53
"""float64, and so every model, has each whole number below this one."""


@dataclass(frozen=True, slots=True)
class Customs:
    """What decides between formats that fit alike; None and False where nothing does."""

    month_first: bool | None = None
    decimal_comma: bool = False


def infer_column(
    name: str, column: Column, *, numbers_as_text: bool, time: bool = False,
    customs: Customs = Customs(),
) -> InferredColumn:  # fmt: skip
    """The type that fits every value of the column.

    `numbers_as_text`: the file has no types, so text that reads as a number is one. With
    `time`, whole numbers in the range of epochs are times whatever the column is called.
    """
    values = json_values(column)
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        return numeric_column(name, "timestamp", values, _iso_ms)
    present = {type(value) for value in values} - {type(None)}
    if not present:
        return unusable_column(name, values, "empty")
    if present == {str}:
        texts = _Texts(name, values, time=time, customs=customs)
        return texts.column(numbers=numbers_as_text)
    if present <= {bool, int, float} and (bool not in present or present == {bool}):
        return _of_numbers(name, values, time=time)
    return _of_mixed(name, values, present, customs)


class _Texts:
    """A column of text, and what it may be read as."""

    def __init__(
        self, name: str, values: Sequence[object], *, time: bool, customs: Customs
    ) -> None:
        self._name, self._time, self._customs = name, time, customs
        self._values = list(values)

    def column(self, *, numbers: bool) -> InferredColumn:
        """What fits every text, or text with a word on what nearly fits."""
        column = self.read(numbers=numbers)
        if column is not None:
            return column
        remark = near_type(self._values, numbers=numbers)
        return text_column(self._name, self._values, remark=remark)

    def read(self, *, numbers: bool) -> InferredColumn | None:
        """What fits every text, but for words that stand for no value; None for text."""
        if (whole := self._typed(self._values, numbers=numbers)) is not None:
            return whole
        words = {
            value for value in self._values
            if isinstance(value, str) and value.strip().casefold() in MISSING_AMONG_NUMBERS
        }  # fmt: skip
        rest = [None if value in words else value for value in self._values]
        if not words or not any(value is not None for value in rest):
            return None
        column = self._typed(rest, numbers=numbers)
        if column is None or column.type in ("string", "boolean"):
            return None
        return replace(column, missing_words=sorted(words))

    def _typed(self, values: Sequence[object], *, numbers: bool) -> InferredColumn | None:
        texts = [str(value) for value in dict.fromkeys(values) if value is not None]
        if all(text in (*TRUE_TEXTS, *FALSE_TEXTS) for text in texts) and (
            len({binary(text) for text in texts}) == 2
        ):
            return numeric_column(self._name, "boolean", values, _as_boolean)
        if numbers and all(_NUMBER.fullmatch(text) for text in texts):
            return self._of_plain_numbers(values, texts)
        if all(moment_of(text) for text in texts) and any("-" in t or "T" in t for t in texts):
            return numeric_column(self._name, "timestamp", values, _iso_ms)
        if forms := fitting_patterns(texts):
            return self._of_times(values, forms)
        return self._of_written_numbers(values, texts) if numbers else None

    def _of_plain_numbers(self, values: Sequence[object], texts: Sequence[str]) -> InferredColumn:
        if any(_ZERO_FIRST.fullmatch(text) for text in texts):  # 007 is no number
            return text_column(self._name, values)
        if form := _time_of_digits(self._name, texts, time=self._time):
            return numeric_column(
                self._name, "timestamp", values, _in_format(form), time_format=form
            )
        if all(_INTEGER.fullmatch(text) for text in texts):
            return _of_whole(self._name, values, {text: int(text) for text in texts})
        written = self._of_written_numbers(values, texts) if self._customs.decimal_comma else None
        return written or numeric_column(self._name, "number", values, float)

    def _of_written_numbers(
        self, values: Sequence[object], texts: Sequence[str]
    ) -> InferredColumn | None:
        forms = fitting_formats(texts, units=len(texts) > MOST_CATEGORIES)
        if not forms:
            return None
        if self._customs.decimal_comma:
            forms.sort(key=lambda form: not _has_comma(form))
        form, *others = forms
        read = {text: float(number_in(text, form) or 0.0) for text in texts}
        whole = "56" not in form and all(abs(value) < _EXACT for value in read.values())
        return numbered_column(
            self._name, "integer" if whole else "number", values, read, len(set(read.values())),
            number_format=None if form == PLAIN else form, other_formats=others,
        )  # fmt: skip

    def _of_times(self, values: Sequence[object], forms: Sequence[str]) -> InferredColumn:
        columns: list[InferredColumn] = []
        for form in forms:
            column = numeric_column(
                self._name, "timestamp", values, _in_format(form), time_format=form
            )
            if not any(
                np.array_equal(column.values, each.values, equal_nan=True) for each in columns
            ):
                columns.append(column)
        columns.sort(key=lambda column: not self._is_preferred(column))
        first, *others = columns
        return replace(first, other_formats=[str(each.time_format) for each in others])

    def _is_preferred(self, column: InferredColumn) -> bool:
        if self._customs.month_first is not None:
            return self._customs.month_first == (month_first(column) is not False)
        times = column.values[~column.missing]
        return bool((np.diff(times) >= 0).all() or (np.diff(times) <= 0).all())


def _of_mixed(
    name: str, values: Sequence[object], present: set[type], customs: Customs
) -> InferredColumn:
    """Numbers, of which some are text; anything else is no field."""
    kinds = ", ".join(sorted(kind.__name__ for kind in present))
    problem = f"mixed or nested values ({kinds})"
    if not present <= {int, float, str}:
        return unusable_column(name, values, problem)
    written = [None if value is None else str(value) for value in values]
    column = _Texts(name, written, time=False, customs=customs).read(numbers=True)
    if column is not None and column.type in ("integer", "number"):
        return replace(column, number_format=column.number_format or PLAIN)
    return unusable_column(name, values, f"{problem}{near_type(written, numbers=True)}")


def _of_numbers(name: str, values: Sequence[object], *, time: bool) -> InferredColumn:
    distinct = {value for value in values if value is not None}
    if distinct == {0, 1}:
        return numeric_column(name, "boolean", values, _as_number)
    if any(type(value) is float for value in distinct):
        return numeric_column(name, "number", values, _as_number)
    if form := _time_of_digits(name, [str(value) for value in distinct], time=time):
        return numeric_column(name, "timestamp", values, _in_format(form), time_format=form)
    return _of_whole(name, values, {value: int(str(value)) for value in distinct})


def _of_whole(name: str, values: Sequence[object], read: dict[Any, int]) -> InferredColumn:
    """Whole numbers; those beyond 2^53 are names where they are called so, or are of one length."""
    numbers = set(read.values())
    lengths = {len(str(abs(number))) for number in numbers}
    beyond = max(map(abs, numbers)) >= _EXACT
    names = beyond and (
        is_called_identifier(name)
        or (min(map(abs, numbers)) >= _EXACT and max(lengths) - min(lengths) <= 1)
    )
    in_int64 = min(numbers) >= -(2**63) and max(numbers) < 2**63
    if names and not in_int64:
        return text_column(name, values, is_identifier=True)
    kind: FieldType = "integer" if in_int64 else "number"
    return numbered_column(
        name, kind, values, {value: float(number) for value, number in read.items()}, len(numbers),
        is_identifier=names,
    )  # fmt: skip


def _time_of_digits(name: str, texts: Sequence[str], *, time: bool) -> str | None:
    """The format of a column of digits that is a time by its name and range, or None."""
    words = set(re.split(r"[\W_]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).casefold()))
    if not (time or words & _TIME_WORDS):
        return None
    for form, seconds in EPOCHS.items():
        if all(_YEARS[0] <= float(text) * seconds < _YEARS[1] for text in texts):
            return form
    if all(_COMPACT_DATE.fullmatch(text) and time_in(text, "%Y%m%d") for text in texts):
        return "%Y%m%d"
    return None


def _has_comma(form: str) -> bool:
    """Whether a format's decimals, where it has any, come after a comma."""
    return ",56" in form or "1.234" in form


def has_decimal_comma(column: InferredColumn) -> bool:
    """Whether the column's numbers show that the file writes decimals after a comma."""
    return _has_comma(column.number_format or "")


def month_first(column: InferredColumn) -> bool | None:
    """Whether the column's dates have the month before the day; None where they do not say."""
    form = column.time_format or ""
    month, day, year = form.find("%m"), form.find("%d"), form.find("%Y")
    if min(month, day) < 0 or 0 <= year < min(month, day):
        return None
    return month < day


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
