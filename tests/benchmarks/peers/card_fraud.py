"""Workload w1 without any framework: the event that is validated, and its features."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, TypeAdapter
from pydantic_core import CoreSchema, core_schema

STAGES = ("features", "risk", "decision")
"""What is weighed, in this order; also the names of the stages' topics and models."""

_RFC3339 = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"
_LAST_NIGHT_HOUR = 6
_SATURDAY = 5


def _moment_schema(_source: Any, _handler: Any) -> CoreSchema:
    """Stricter than pydantic's own, which takes numbers in quotes, and as fast."""
    text = core_schema.str_schema(strict=True, pattern=_RFC3339)
    return core_schema.no_info_after_validator_function(datetime.fromisoformat, text)


class Event(BaseModel):
    """A card transaction."""

    model_config = ConfigDict(extra="forbid", strict=True)

    transaction_id: str
    occurred_at: Annotated[datetime, GetPydanticSchema(_moment_schema)]
    customer_id: str
    terminal_id: str
    amount: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    channel: str
    currency: str
    merchant: str


validated = TypeAdapter(Event).validator.validate_json
"""JSON to an Event; raises pydantic's ValidationError for anything else."""


def features(event: Event) -> list[float]:
    """What the models see of an event; times are UTC."""
    at = event.occurred_at.astimezone(UTC)
    night, weekend = at.hour <= _LAST_NIGHT_HOUR, at.weekday() >= _SATURDAY
    return [event.amount, math.log1p(event.amount), float(at.hour), float(night), float(weekend)]


def event_time_ms(event: Event) -> int:
    """When it occurred, in milliseconds since 1970."""
    return round(event.occurred_at.timestamp() * 1000)


def event_time(event: Event) -> str:
    """When it occurred, as decisions say it: 2018-04-01T00:00:31.000Z."""
    moment = event.occurred_at.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
