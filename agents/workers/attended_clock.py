"""A clock that passes only while its owner looks, and while there is something to be seen."""

from __future__ import annotations

import time
from collections.abc import Callable

_LONGEST_STEP_S = 1.0


class AttendedClock:
    """Seconds in which a silence means something.

    A worker that was frozen, or whose broker was away, has heard nothing of the others because it
    did not listen. So a step between two looks counts for at most a second, and for nothing at
    all while *deaf* says that nobody could be heard.

    >>> times = iter([0.0, 0.5, 300.0])
    >>> clock = AttendedClock(lambda: False, lambda: next(times))
    >>> clock.now(), clock.now()
    (0.5, 1.5)
    """

    def __init__(
        self, deaf: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._deaf = deaf
        self._clock = clock
        self._looked_at = clock()
        self._passed = 0.0

    def now(self) -> float:
        """Attended seconds so far."""
        looked_at, self._looked_at = self._looked_at, self._clock()
        if not self._deaf():
            self._passed += min(_LONGEST_STEP_S, self._looked_at - looked_at)
        return self._passed
