"""Times that a data file does not write in ISO 8601: epochs and patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from models.data.columns import Column, json_values, timestamps_to_text

EPOCHS = {"epoch_s": 1.0, "epoch_ms": 0.001}
"""Format → seconds in one."""

PATTERNS = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d",
    "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M", "%Y/%m/%d %H:%M",
    "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S",
    "%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
"""Patterns that are recognised, the day before the month where both fit."""

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
        moment = datetime.strptime(text, form)  # noqa: DTZ007  # the zone is set just below
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def times_in(values: Column, form: str) -> list[object]:
    """The values as RFC 3339 text; one that does not fit the format stays as it is."""
    given = json_values(values)
    moments = [None if value is None else time_in(str(value), form) for value in given]
    text = timestamps_to_text(_in_micros(moments))
    return [value if moment is None else moment for moment, value in zip(text, given, strict=True)]


def _in_micros(moments: Sequence[datetime | None]) -> NDArray[np.datetime64]:
    naive = [None if moment is None else moment.replace(tzinfo=None) for moment in moments]
    return np.array(naive, dtype="datetime64[us]")
