"""Why an event cannot be traced.

AnabranchError
├── EventNotFound    no event of that id was published, as far as was looked
├── EventGone        nothing of the event is left on the topics
└── SeveralEvents    an event id that is not unique
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agents.explanations import named
from topics.errors import AnabranchError
from topics.records import Source, rfc3339_time

_LISTED = 20


class PublishedEvent(NamedTuple):
    """Where an event stands, and when it was published, milliseconds since 1970."""

    published_ms: int
    source: Source


class EventNotFound(AnabranchError):
    """No event of that id was published, as far as was looked."""

    def __init__(self, event_id: str, topic: str, looked_at: int, since: str | None) -> None:
        window = "" if since is None else f" published since {since}"
        further = "older ones are gone by retention" if since is None else "--since looks further"
        super().__init__(
            f"{topic} has no event with the id {event_id!r}{window}: {looked_at:,} events were "
            f"looked at, {further}"
        )


class EventGone(AnabranchError):
    """Nothing of the event is left on the topics."""

    def __init__(self, place: Source, first: int) -> None:
        super().__init__(
            f"{named(place)} is gone by retention ({place.topic} begins at {first:,} in that "
            "partition), and so are its decision and dead letter"
        )


class SeveralEvents(AnabranchError):
    """An event id that is not unique: there is a line for each event, the newest first."""

    def __init__(self, event_id: str, events: Sequence[PublishedEvent]) -> None:
        self._events = sorted(events, reverse=True)
        super().__init__(
            f"{len(events)} events have the id {event_id!r}: name one by its coordinates"
        )

    @property
    def lines(self) -> list[str]:
        """The message, and what can be named."""
        listed = [
            f"  {named(event.source)}  published {rfc3339_time(event.published_ms)}"
            for event in self._events[:_LISTED]
        ]
        more = len(self._events) - _LISTED
        return [f"error: {self}", *listed, *([f"  and {more} more"] if more > 0 else [])]
