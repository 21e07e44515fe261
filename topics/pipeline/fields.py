"""What a pipeline file is made of: its values, and the features of a vector.

Features are of event fields, and of windows of an entity's past.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
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


EVENTS = "events"
OUTCOMES = "outcomes"
OUTCOME, OUTCOME_SOURCE, OUTCOME_KNOWN_AT = "outcome", "source", "known_at"
"""Fields that outcomes have beside those that they repeat of their events."""

FieldType = Literal["string", "integer", "number", "boolean", "timestamp", "vector"]
Transform = Literal[
    "identity", "log1p", "hour", "day_of_week", "month", "night", "weekend",
    "one_hot", "ordinal", "missing",
]  # fmt: skip
CATEGORICAL: tuple[Transform, ...] = ("one_hot", "ordinal")
"""Transforms of strings, which need their choices."""
NEVER_MISSING: tuple[Transform, ...] = (*CATEGORICAL, "missing")
"""Transforms that give a number also where the field is missing."""
Choices = Annotated[list[str], Field(min_length=1)]
Windowed = Literal["count", "sum", "mean", "min", "max", "std", "distinct", "since_last", "share"]
"""What is said about an entity's past in a window of event time."""

WINDOWED: frozenset[str] = frozenset(get_args(Windowed))
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}(ms|s|m|h|d)$")]
"""A length of time: 500ms, 30s, 10m, 1h, 7d."""
DurationOrNone = Annotated[str, StringConstraints(pattern=r"^([1-9][0-9]{0,6}|0)(ms|s|m|h|d)$")]
"""A length of time that may be none: 0d."""

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(duration: str) -> int:
    """Milliseconds.

    >>> duration_ms("7d")
    604800000
    """
    unit = duration.lstrip("0123456789")
    return int(duration.removesuffix(unit)) * _UNIT_MS[unit]


class Feature(Strict):
    """Numbers of the feature vector, from one event field or from an entity's past.

    A windowed feature (`over:`) has a column per window, called `<name>_<window>`; one_hot
    has a column per category, called `<name>=<category>`.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w]{0,62}$")]
    of: str = EVENTS
    """An event field; `events` (the default) and `outcomes` are what count can count."""
    apply: Literal[Transform, Windowed] = "identity"
    over: Annotated[list[Duration], Field(min_length=1)] | None = None
    """Windows of event time: (t - window, t], and of outcomes as much earlier as they come late."""
    choices: Choices | None = None
    """The categories: of one_hot in the order of their columns, of ordinal from 0 on."""
    missing: float | None = None
    """The feature's value where an optional field is missing."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if (self.apply in CATEGORICAL) != (self.choices is not None):
            given = self.apply if self.apply in CATEGORICAL else " or ".join(CATEGORICAL)
            raise ValueError(f"apply: {given} and choices: [...] go together")
        if self.choices is not None and len(set(self.choices)) < len(self.choices):
            raise ValueError("choices lists a category twice")
        if self.missing is not None and self.apply in (*NEVER_MISSING, *WINDOWED):
            raise ValueError(f"missing: is not for {self.apply}, which has a value for every row")
        self._check_windowed()
        return self

    def _check_windowed(self) -> None:
        if (self.apply in WINDOWED) != (self.over is not None):
            raise ValueError(f"over: [...] goes with {', '.join(sorted(WINDOWED))}")
        if self.over is not None and len(set(map(duration_ms, self.over))) < len(self.over):
            raise ValueError("over lists a window twice")
        if self.of == OUTCOMES and self.apply not in ("count", "share"):
            raise ValueError("of outcomes there is count and share")
        if self.apply == "share" and self.of != OUTCOMES:
            raise ValueError("share is the share of positive outcomes: of: outcomes")
        if self.apply in ("count", "since_last") and self.of not in (EVENTS, OUTCOMES):
            raise ValueError(f"{self.apply} is of {EVENTS} or {OUTCOMES}, not of a field")
        if self.apply not in ("count", "since_last", "share") and self.of == EVENTS:
            raise ValueError(f"{self.apply} needs of: an event field")

    @property
    def columns(self) -> list[str]:
        """One name per column of the feature vector."""
        if self.over is not None:
            return [f"{self.name}_{window}" for window in self.over]
        if self.apply == "one_hot":
            return [f"{self.name}={choice}" for choice in self.choices or []]
        return [self.name]
