"""Values of one column of a data file, from what the file holds to what an event needs.

Types are those of event fields: string, integer, number, boolean, timestamp, vector. A value
that does not fit its type is left as it is: the pipeline's own checks then refuse that row
alone, as they would refuse it from any other producer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from models.arrays import Bools

Column = list[object] | NDArray[Any]


def typed(values: Sequence[object], kind: str | None) -> Column:
    """The values as a column of the given type; None is a missing value.

    float64 for number (missing: NaN), int64 and bool when nothing is missing, datetime64[us]
    in UTC for timestamp (missing: NaT), otherwise a list.
    """
    convert = _CONVERSIONS.get(kind or "")
    return list(values) if convert is None else convert(values)


def json_values(column: Column) -> list[object]:
    """The column as values that JSON can carry; None for what is missing, NaN or infinite."""
    if isinstance(column, list):
        return column
    if column.dtype.kind == "M":
        return timestamps_to_text(column)
    values: list[object] = column.tolist()
    if column.dtype.kind == "f" and not (finite := np.isfinite(column)).all():
        for row in np.flatnonzero(~finite).tolist():
            values[row] = None
    return values


def timestamps_to_text(times: NDArray[np.datetime64]) -> list[object]:
    """RFC 3339 in UTC with no more decimals than each needs; None for NaT.

    >>> timestamps_to_text(np.array(["2018-04-01T00:00:31", "2018-04-01T00:00:31.5"], "M8[us]"))
    ['2018-04-01T00:00:31Z', '2018-04-01T00:00:31.500Z']
    """
    micros = times.astype("datetime64[us]")
    text: list[object] = [f"{t}Z" for t in np.datetime_as_string(micros, unit="s").tolist()]
    ticks, absent = micros.astype(np.int64), np.isnat(micros)
    in_millis = (ticks % 1_000_000 != 0) & (ticks % 1000 == 0) & ~absent
    in_micros = (ticks % 1000 != 0) & ~absent
    for row in np.flatnonzero(absent).tolist():
        text[row] = None
    _write(text, in_millis, np.datetime_as_string(micros[in_millis], unit="ms"))
    _write(text, in_micros, np.datetime_as_string(micros[in_micros], unit="us"))
    return text


def _write(text: list[object], where: Bools, times: NDArray[np.str_]) -> None:
    for row, time in zip(np.flatnonzero(where).tolist(), times.tolist(), strict=True):
        text[row] = f"{time}Z"


TRUE_WORDS = ("true", "yes", "y", "t")
FALSE_WORDS = ("false", "no", "n", "f")


def in_any_case(words: Sequence[str]) -> list[str]:
    """The words in lower case, with a capital, and in capitals."""
    return [form for word in words for form in (word, word.capitalize(), word.upper())]


TRUE_TEXTS = ("1", *in_any_case(TRUE_WORDS))
FALSE_TEXTS = ("0", *in_any_case(FALSE_WORDS))
"""How a CSV file may write the values of a boolean column."""


def binary(value: object) -> bool | None:
    """The boolean that 0, 1, false, true, no, yes and the like stand for; None for any other.

    >>> binary(1.0), binary("No"), binary("perhaps")
    (True, False, None)
    """
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in (*TRUE_WORDS, "1"):
            return True
        return False if word in (*FALSE_WORDS, "0") else None
    return None


def outcome_name(value: object) -> str | None:
    """One name for every way to write an outcome; None for a missing one.

    >>> [outcome_name(value) for value in (1, "Yes", "true", "Churned ", "2.0", "")]
    ['true', 'true', 'true', 'churned', '2', None]
    """
    if value is None or value == "" or value != value:  # noqa: PLR0124  # NaN is a missing one
        return None
    known = binary(value)
    if known is None and (number := _number(value)) is not None:
        known = binary(number)
        if known is None:
            return f"{number:g}"
    if known is not None:
        return "true" if known else "false"
    return str(value).strip().casefold() or None


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def without(values: Sequence[object], missing: Collection[str]) -> list[object]:
    """The values, with None for text that stands for no value."""
    return [None if isinstance(v, str) and v in missing else v for v in values]


def _strings(values: Sequence[object]) -> Column:
    return [str(value) if type(value) is int else value for value in values]


def _integers(values: Sequence[object]) -> Column:
    if not all(type(value) is int for value in values):
        return list(values)
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        return list(values)


def _numbers(values: Sequence[object]) -> Column:
    if not all(value is None or type(value) in (int, float) for value in values):
        return list(values)
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return list(values)


def _booleans(values: Sequence[object]) -> Column:
    outcomes = [binary(value) for value in values]
    if None not in outcomes:
        return np.array(outcomes, dtype=np.bool_)
    return [v if outcome is None else outcome for v, outcome in zip(values, outcomes, strict=True)]


def _timestamps(values: Sequence[object]) -> Column:
    moments = [moment_of(value) for value in values]
    if all(moment or value is None for moment, value in zip(moments, values, strict=True)):
        return np.array(moments, dtype="datetime64[us]")
    text = timestamps_to_text(np.array(moments, dtype="datetime64[us]"))
    return [value if moment is None else moment for moment, value in zip(text, values, strict=True)]


_LOOSE = re.compile(
    r"(?P<local>[0-9].*?)(?: ?(?:UTC|GMT|[Zz]))? ?(?P<offset>[+-][0-9]{2}(?::?[0-9]{2})?)?"
    r" ?(?:\[(?P<region>[A-Za-z0-9_+/-]{1,40})\])?"
)
"""ISO 8601 with a zone in words of databases and of Java: ` UTC`, ` -0800`, `[Europe/Paris]`."""
_MOST_CHARACTERS = 80


def moment_of(value: object) -> datetime | None:
    """The moment as naive UTC; text without an offset is UTC; None when it is not one.

    >>> moment_of("2023-01-01 00:00:00.000 -0800"), moment_of("2023-01-01T00:00:00+00:00[UTC]")
    (datetime.datetime(2023, 1, 1, 8, 0), datetime.datetime(2023, 1, 1, 0, 0))
    """
    if not isinstance(value, str):
        return None
    try:
        return _naive_utc(datetime.fromisoformat(value))
    except (ValueError, OverflowError):
        return _loose_moment(value.strip())


def _loose_moment(text: str) -> datetime | None:
    form = _LOOSE.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
    if form is None:
        return None
    local, offset, region = form.group("local", "offset", "region")
    try:
        moment = datetime.fromisoformat(f"{local}{offset or ''}")
        # An offset says all; a region alone says which offset its clocks had.
        if moment.tzinfo is None and region:
            moment = moment.replace(tzinfo=ZoneInfo(region))
        return _naive_utc(moment)
    except (ValueError, OverflowError, ZoneInfoNotFoundError, OSError):
        return None


def _naive_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


_CONVERSIONS: Mapping[str, Callable[[Sequence[object]], Column]] = {
    "string": _strings,
    "integer": _integers,
    "number": _numbers,
    "boolean": _booleans,
    "timestamp": _timestamps,
}
