"""What every part of a pipeline file is made of."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


def _scalar(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"must be a boolean, a number, a string or null, not a {type(value).__name__}")


Scalar = Annotated[bool | int | float | str | None, BeforeValidator(_scalar)]


def _instant(value: object) -> object:
    """YAML has times and dates of its own; a date is its last moment in UTC."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = date.fromisoformat(value) if len(value) == len("2026-01-31") else value
    if isinstance(value, date) and not isinstance(value, datetime):
        following = datetime.combine(value, time(tzinfo=UTC)) + timedelta(days=1)
        return following - timedelta(milliseconds=1)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_instant)]
"""A time with its offset from UTC; one without, as YAML reads `2026-01-31 12:00:00`, is in UTC."""
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


def instant(text: str) -> datetime:
    """The time that *text* names; ValueError (pydantic's) where it names none.

    >>> instant("2026-01-31").isoformat()
    '2026-01-31T23:59:59.999000+00:00'
    """
    return _INSTANT.validate_python(text)


class Strict(BaseModel):
    """A part of a pipeline file: frozen, and a field it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )
