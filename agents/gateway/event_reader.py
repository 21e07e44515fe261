"""A request's body as events: hostile until it is what the pipeline file says."""

from __future__ import annotations

import time
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic_core import ValidationError, from_json

from agents.gateway.limits import Limits
from agents.gateway.problem import InvalidEvents, TooLarge
from agents.publish import partition_of
from topics.events import FUTURE_EVENT_TIME, EventDecoder, field_reasons
from topics.pipeline import EventSchema, duration_ms
from topics.records import rfc3339_time

_WHITESPACE = b" \t\r\n"
_FieldReasons = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Event:
    """A valid event, as it is published."""

    key: bytes
    value: bytes
    partition: int
    event_id: str
    request: bytes = b""
    """Which event of which request with a key it is, see `topics.records.request`."""


@dataclass(frozen=True, slots=True)
class Question:
    """The events of a request."""

    events: list[Event]
    is_list: bool
    """It was a list, also one of one event: so is its answer."""


class EventReader:
    """Reads requests by the event schema of a pipeline that has so many *partitions*.

    What would become a dead letter for what stands in it is refused here, and not published.
    *clock* says what time it is, in seconds since 1970.
    """

    def __init__(
        self, schema: EventSchema, partitions: int, limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._schema, self._partitions, self._limits = schema, partitions, limits
        self._clock = clock
        self._decoder = EventDecoder(schema)
        self._future_ms = duration_ms(schema.future)

    def question(self, body: bytes) -> Question:
        """One event, or a list of them. Raises InvalidEvents and TooLarge."""
        body = body.removeprefix(BOM_UTF8).strip(_WHITESPACE)
        if body[:1] == b"[":
            try:
                # NaN is no JSON; it is read all the same, so that its field can be named.
                items = from_json(body, allow_inf_nan=True)
            except ValueError as exc:
                raise InvalidEvents([(0, "", f"malformed JSON: {exc}")], of_list=False) from exc
            return Question(self.events(items), is_list=True)
        try:
            event = self._published(body, self._decoder.event(body))
        except ValidationError as exc:
            raise _invalid({0: field_reasons(exc)}, of_list=False) from exc
        except _Beyond as exc:
            raise _invalid({0: [exc.reason]}, of_list=False) from exc
        return Question([event], is_list=False)

    def events(self, items: Sequence[Any]) -> list[Event]:
        """The events of parsed JSON, all or none. Raises InvalidEvents and TooLarge."""
        if not items:
            raise InvalidEvents([(0, "", "the list has no event")], of_list=False)
        if len(items) > self._limits.events:
            raise TooLarge(
                f"{len(items):,} events, and a request may have {self._limits.events:,}: send "
                "several requests"
            )
        events, wrong = list[Event](), dict[int, _FieldReasons]()
        for number, item in enumerate(items):
            try:
                validated = self._decoder.checked(item)
                events.append(self._published(orjson.dumps(item), validated))
            except ValidationError as exc:
                wrong[number] = field_reasons(exc)
            except _Beyond as exc:
                wrong[number] = [exc.reason]
        if wrong:
            raise _invalid(wrong, of_list=True)
        return events

    def _published(self, value: bytes, event: dict[str, Any]) -> Event:
        """Raises TooLarge, and _Beyond for an event time that is further ahead than can be."""
        if len(value) > self._schema.max_bytes:
            raise TooLarge(
                f"the event has {len(value):,} bytes, and the pipeline takes "
                f"{self._schema.max_bytes:,}"
            )
        time_ms, now_ms = event[self._schema.time], int(self._clock() * 1000)
        if self._schema.beyond_future == "refuse" and time_ms > now_ms + self._future_ms:
            reason = (
                f"{FUTURE_EVENT_TIME}: {rfc3339_time(time_ms)} is more than "
                f"{self._schema.future} after now, {rfc3339_time(now_ms)}"
            )
            raise _Beyond((self._schema.time, reason))
        key = str(event[self._schema.key]).encode()
        event_id = str(event[self._schema.id])
        return Event(key, value, partition_of(key, self._partitions), event_id)


class _Beyond(Exception):
    def __init__(self, reason: tuple[str, str]) -> None:
        self.reason = reason


def _invalid(reasons: dict[int, _FieldReasons], *, of_list: bool) -> InvalidEvents:
    errors = [(n, field, reason) for n, of in reasons.items() for field, reason in of]
    return InvalidEvents(errors, of_list=of_list)
