"""Matching what is decided with who asked, by the coordinates of the source record.

Everything that is decided passes by here, mostly about events of others. Where an event of ours
stands is known once the broker has confirmed it, and its decision may come before that: so while
publications are open, what passes by is kept; for so many bytes, the oldest are forgotten first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

_KEPT_BYTES = 64 * 2**20

Place = tuple[int, int]
"""Partition and offset of a source record."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How an event has ended: the decision record, or why it is a dead letter."""

    decision: bytes | None
    """The record's value, JSON; None for a dead letter."""
    stage: str = ""
    error: str = ""
    reason: str = ""
    """Of a dead letter: what failed, in which component."""


class AwaitedAnswers:
    """Who waits for which answer; for one event loop."""

    def __init__(self, kept_bytes: int = _KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._waiting: dict[Place, list[asyncio.Future[Answer]]] = {}
        self._passed = 0
        """Answers that have come."""
        self._open: dict[int, int] = {}
        """Publications that are not confirmed → how many answers had come when each began."""
        self._next = 0
        self._early: deque[tuple[int, Place, int]] = deque()
        """What came meanwhile: its number, place and bytes, in order."""
        self._answers: dict[Place, Answer] = {}
        self._early_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def wants(self, place: Place) -> bool:
        """Whether somebody waits for that answer, or may be about to."""
        return bool(self._open) or place in self._waiting

    @contextmanager
    def publication(self) -> Iterator[None]:
        """Meanwhile something is published; `expect` its answers before the end."""
        number, self._next = self._next, self._next + 1
        self._open[number] = self._passed
        try:
            yield
        finally:
            del self._open[number]
            self._forget_before(min(self._open.values(), default=self._passed))

    def expect(self, place: Place) -> asyncio.Future[Answer]:
        """The answer to the event at *place*, now or later; to be cancelled by who gives up."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if (answer := self._answers.get(place)) is not None:
            future.set_result(answer)
            return future
        self._waiting.setdefault(place, []).append(future)
        future.add_done_callback(partial(self._gone, place))
        return future

    def take(self, place: Place, answer: Answer) -> None:
        """An answer has come."""
        self._passed += 1
        for future in self._waiting.pop(place, ()):
            if not future.done():
                future.set_result(answer)
        if self._open:
            size = len(answer.decision or answer.reason)
            self._early.append((self._passed, place, size))
            self._answers[place] = answer
            self._early_bytes += size
            while self._early_bytes > self._kept_bytes:
                self._forget_oldest()

    def fail(self, error: Exception) -> None:
        """Nothing comes any more: everybody who waits gets *error*."""
        for future in [each for futures in self._waiting.values() for each in futures]:
            if not future.done():
                future.set_exception(error)

    def _gone(self, place: Place, future: asyncio.Future[Answer]) -> None:
        """Nobody waits by *future* any more."""
        futures = self._waiting.get(place, [])
        if future in futures:
            futures.remove(future)
            if not futures:
                del self._waiting[place]

    def _forget_before(self, passed: int) -> None:
        while self._early and self._early[0][0] <= passed:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, place, size = self._early.popleft()
        self._answers.pop(place, None)
        self._early_bytes -= size
