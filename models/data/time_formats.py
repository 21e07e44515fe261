"""Times that a data file does not write in ISO 8601: epochs and patterns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.data.columns import Column, json_values, timestamps_to_text

EPOCHS = {"epoch_s": 1.0, "epoch_ms": 1e-3, "epoch_us": 1e-6, "epoch_ns": 1e-9}
"""Format → seconds in one."""

_DATES = (
    *(
        date.replace("/", sep)
        for sep in "/.-" for date in ("%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y")
    ),
    "%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d", "%y/%m/%d", "%y-%m-%d",
    "%d %b %Y", "%b %d, %Y", "%b %d %Y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%d. %b %Y",
    "%d %B %Y", "%B %d, %Y", "%B %d %Y", "%d. %B %Y",
)  # fmt: skip
_TIMES = (
    "", *(
        f"{between}{time}"
        for between in (" ", ", ", "T", ":")
        for time in ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p")
    ),
)  # fmt: skip
_WHOLE = (
    "%a, %d %b %Y %H:%M:%S", "%a %b %d %H:%M:%S %Y", "%a %b %d %Y %H:%M:%S",
    "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S UTC %Y",
)  # fmt: skip
# Recognised, the day before the month where both fit.
_ZONES = ("", " UTC", " GMT", " %z", "Z", "%z", " GMT%z", " UTC%z")

_SHAPES = {
    "%d": "[0-9]{1,2}", "%m": "[0-9]{1,2}", "%y": "[0-9]{2}", "%Y": "[0-9]{4}", "%H": "[0-9]{1,2}",
    "%I": "[0-9]{1,2}", "%M": "[0-9]{2}", "%S": "[0-9]{2}", "%f": "[0-9]{1,6}",
    "%p": "[AaPp][Mm]", "%b": "[A-Za-z]{3}", "%B": "[A-Za-z]{3,9}", "%a": "[A-Za-z]{3}",
    " ": r"\s+", "%z": "(?:Z|[+-][0-9]{2}:?[0-9]{2})",
}  # fmt: skip
"""What `strptime` may find there; it takes longer to say so."""
_LONGEST, _FEWEST_DIGITS, _LOOKED_AT = 96, 4, 50
_ZONE_IN_WORDS = re.compile(r" \([^()]*\)$")
"""As JavaScript writes it behind the offset."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_in(text: str, form: str) -> datetime | None:
    """The moment that *text* is in format *form*, in UTC; None when it is not one.

    >>> time_in("31/12/2023", "%d/%m/%Y")
    datetime.datetime(2023, 12, 31, 0, 0, tzinfo=datetime.timezone.utc)
    >>> time_in("1700000000", "epoch_s").isoformat()
    '2023-11-14T22:13:20+00:00'
    """
    try:
        if form in EPOCHS:
            seconds = float(text) * EPOCHS[form]
            return _EPOCH + timedelta(seconds=seconds) if math.isfinite(seconds) else None
        plain = _ZONE_IN_WORDS.sub("", text.strip())
        try:
            moment = datetime.strptime(plain, form)  # noqa: DTZ007  # the zone is set just below
        except ValueError:  # whole seconds, among others with decimals
            if ".%f" not in form:
                raise
            moment = datetime.strptime(plain, form.replace(".%f", ""))  # noqa: DTZ007
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def fitting_patterns(texts: Sequence[str]) -> list[str]:
    """The patterns that fit every text; the day comes before the month.

    >>> fitting_patterns(["31/12/2023 10:05 PM"]), fitting_patterns(["01.02.2023"])
    (['%d/%m/%Y %I:%M %p'], ['%d.%m.%Y', '%m.%d.%Y'])
    """
    shaped = dict.fromkeys(form for text in texts[:_LOOKED_AT] for form in shaped_like(text))
    return [form for form in shaped if all(time_in(text, form) for text in texts)]


def shaped_like(text: str) -> list[str]:
    """The patterns that *text* has the shape of: a date, and perhaps a time and a zone."""
    plain = _ZONE_IN_WORDS.sub("", text.strip())
    if len(text) > _LONGEST or sum(map(str.isdigit, plain)) < _FEWEST_DIGITS:
        return []
    begun = [
        (date + time, rest)
        for date, behind in _begins(_DATES, plain) for time, rest in _begins(_TIMES, behind)
    ]  # fmt: skip
    return [
        moment + zone
        for moment, rest in (*begun, *_begins(_WHOLE, plain))
        for zone, behind in _begins(_ZONES if "%M" in moment else ("",), rest) if not behind
    ]  # fmt: skip


def _begins(forms: Sequence[str], text: str) -> Iterator[tuple[str, str]]:
    """The forms that *text* begins with, and what it has behind them."""
    for form in forms:
        if part := _shape(form).match(text):
            yield form, text[part.end() :]


@cache
def _shape(form: str) -> re.Pattern[str]:
    parts = re.split("(%[A-Za-z]| )", form)
    return re.compile("".join(_SHAPES.get(part, re.escape(part)) for part in parts))


def times_in(values: Column, form: str) -> list[object]:
    """The values as RFC 3339 text; one that does not fit the format stays as it is."""
    given = json_values(values)
    moments = [None if value is None else time_in(str(value), form) for value in given]
    text = timestamps_to_text(_in_micros(moments))
    return [value if moment is None else moment for moment, value in zip(text, given, strict=True)]


def _in_micros(moments: Sequence[datetime | None]) -> NDArray[np.datetime64]:
    naive = [None if moment is None else moment.replace(tzinfo=None) for moment in moments]
    return np.array(naive, dtype="datetime64[us]")
