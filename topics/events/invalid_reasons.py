"""Why an event is invalid, in words: what pydantic has found, and what the producer is to change.

A reason repeats no value of an event: reasons are headers of dead letters, and logged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import ValidationError

from topics.events.float32 import LARGEST_FLOAT32
from topics.events.foreign_formats import format_advice

AS_INTEGER, AS_WHOLE_NUMBER = "as an integer", "as a whole number"
"""The two ways in which an integer field is read: 3, and 3.0."""

FIELD_MISSING = "Field required"

_SAYS_MORE = ("value_error", "finite_number")
_SHOWN = 3
_LONGEST = 300
_CONNECT = frozenset({("schema",), ("payload",)})


def field_reasons(exc: ValidationError) -> list[tuple[str, str]]:
    """Field, by its place in the event, and what is wrong with it; the field may be empty."""
    return _by_field(exc.errors(include_url=False))


def _by_field(errors: Sequence[Any]) -> list[tuple[str, str]]:
    reasons: dict[tuple[Any, ...], tuple[str, str]] = {}
    for error in errors:
        at = tuple(part for part in error["loc"] if part not in (AS_INTEGER, AS_WHOLE_NUMBER))
        message = _message(error)
        # Of an integer's two ways, the one that says more than "not an integer".
        if at not in reasons or (reasons[at][0] == "int_type" and error["type"] in _SAYS_MORE):
            reasons[at] = (error["type"], message)
    return [(".".join(map(str, at)), message) for at, (_, message) in reasons.items()]


def reason_of(exc: ValidationError, value: bytes) -> str:
    """What is wrong with an event, in at most some 600 characters."""
    errors = exc.errors(include_url=False)
    reasons = _by_field(errors)
    parts = [": ".join(filter(None, each)) for each in reasons[:_SHOWN]]
    more = f" (and {len(reasons) - _SHOWN} more)" if len(reasons) > _SHOWN else ""
    advice = "".join(f"; {advice}" for advice in _advice(errors, value) if advice)
    return "; ".join(parts)[:_LONGEST] + more + advice


def _message(error: Any) -> str:
    kind, message = error["type"], str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return "the pipeline file has no such field"
    if error["input"] is None and error["loc"] and kind != "missing":
        return f"{message}; null is for optional fields"
    bound = error.get("ctx", {}).get("le", error.get("ctx", {}).get("ge"))
    if kind in ("less_than_equal", "greater_than_equal") and abs(bound) == LARGEST_FLOAT32:
        return "beyond ±3.4e38 (float32), in which models compute"
    return message


def _advice(errors: Sequence[Any], value: bytes) -> Iterable[str]:
    first = errors[0]
    if first["type"] == "json_invalid":
        several = "trailing characters" in first["msg"]
        yield "send each event as a record of its own" if several else format_advice(value)
    elif not first["loc"]:
        if isinstance(first["input"], str) and first["input"].lstrip()[:1] == "{":
            yield "this is JSON inside a JSON string: it was encoded twice"
        elif isinstance(first["input"], list):
            yield "send each event as a record of its own"
    elif {e["loc"] for e in errors if e["type"] == "extra_forbidden"} >= _CONNECT:
        yield "this looks like Kafka Connect's envelope: set value.converter.schemas.enable=false"
