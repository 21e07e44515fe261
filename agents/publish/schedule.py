"""When published events are due: at a constant rate, or at the pace of their own times."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, Self

from topics.events import epoch_ms

EventAndOutcome = tuple[Mapping[str, object], bool | None]
"""An event and its outcome; None where that is not known."""


class Schedule(Protocol):
    """Says when the events of a stream are due."""

    def due(self, given: int, most: int) -> int:
        """How many more are due now that *given* were published; more than *most* are as good."""


class ConstantRate:
    """The same number of events every second, from the first question on."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._began: float | None = None

    def due(self, given: int, most: int) -> int:  # noqa: ARG002  # a Schedule
        """How many more are due now that *given* were published."""
        now = self._clock()
        if self._began is None:
            self._began = now
        return int((now - self._began) * self._rate) + 1 - given


class EventTimes:
    """The events that it is given, in their order, and their pace: their times' own, but faster.

    *speed* seconds of event time pass in a second, from the first event on. Nothing is left
    out: what is late is due at once, and a gap between events is waited for, however long. An
    event without a valid time, or behind its predecessor's, is due with its predecessor.
    """

    def __init__(
        self,
        events: Iterable[EventAndOutcome],
        time_field: str,
        speed: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._left = iter(events)
        self._field, self._clock = time_field, clock
        self._ms_a_second = speed * 1000
        self._ahead: deque[tuple[float, EventAndOutcome]] = deque()
        """Events that are read, and when they are due by the clock: never falling."""
        self._start: float | None = None
        """By the clock, when event time was 0."""
        self._last = float("-inf")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EventAndOutcome:
        """The next event, due or not."""
        if not self._ahead and not self._read():
            raise StopIteration
        return self._ahead.popleft()[1]

    def due(self, given: int, most: int) -> int:  # noqa: ARG002  # a Schedule
        """How many of the next events are due; 1 when there are no more, which `next` then says."""
        now = self._clock()
        while len(self._ahead) < most and (not self._ahead or self._ahead[-1][0] <= now):
            if not self._read():
                return max(1, len(self._ahead))
        return len(self._ahead) - (self._ahead[-1][0] > now)

    def _read(self) -> bool:
        """Read one more event, if there is one."""
        labelled = next(self._left, None)
        if labelled is None:
            return False
        self._last = max(self._last, self._due_at(labelled[0].get(self._field)))
        self._ahead.append((self._last, labelled))
        return True

    def _due_at(self, event_time: object) -> float:
        try:
            passed = epoch_ms(str(event_time)) / self._ms_a_second
        except ValueError:
            return self._last
        if self._start is None:
            self._start = self._clock() - passed
        return self._start + passed


def scheduled(
    events: Iterable[EventAndOutcome], time_field: str, rate: float | None, speed: float | None
) -> tuple[Iterable[EventAndOutcome], Schedule | None]:
    """The events to publish, and their pace: by *speed* or *rate*, or none where both are None."""
    if speed is not None:
        timed = EventTimes(events, time_field, speed)
        return timed, timed
    return events, None if rate is None else ConstantRate(rate)
