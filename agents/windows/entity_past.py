"""What a worker knows of the past in one partition, and up to where it has taken it in."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import numpy as np

from models.component import Column
from models.features import Ints, WindowPlan, Windows
from topics.events import DecodedEvents
from topics.records import Floats
from topics.redrive import RedriveBatch

log = logging.getLogger(__name__)

_AT_MOST_EVERY_S = 1.5
"""The embedded broker keeps what comes in about seven seconds at full speed: a worker that starts
anew has to find a snapshot that is younger, by the time that it takes to notice and to load it."""
_SHARE_OF_TIME = 0.05
"""Snapshots may take this share of a worker's time."""
_OFFSET_BITS = 48
_SAMPLE = 255
"""Of so many events, the last ones, the median is what time it is: half of them must be wrong to
make others' past look over."""
_NEVER_MS = -(2**60)
_UNBELIEVABLE_MS = 86_400_000
"""What a snapshot holds that is dated so much later than itself is from before event time was
bounded."""


@dataclass(slots=True)
class SourceProgress:
    """How far one source partition has been taken in."""

    offset: int = -1
    """The highest source offset."""
    clock_ms: int = -(2**60)
    """The highest event time."""


@dataclass(slots=True)
class EntityPast:
    """The windows of one partition of the key, with what they were made from."""

    windows: Windows
    reached: dict[str, SourceProgress] = field(default_factory=dict)
    """By source, as `topic[partition]`."""
    now_ms: int = _NEVER_MS
    """Event time now, by which memory is given back."""
    serial: int = 0
    """Of the last snapshot."""
    changed: bool = False
    log_bytes: int = 0
    """Of the log that it is made from, what has been taken in since the last snapshot."""
    _saved_at: float = float("-inf")
    """Of the last snapshot (monotonic): the first one is due with the first change."""
    _save_s: float = 0.0
    _recent_ms: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Times of the last events."""

    @classmethod
    def empty(cls, plan: WindowPlan) -> EntityPast:
        """Before the first event."""
        return cls(Windows(plan))

    def progress_of(self, topic: str, partition: int) -> SourceProgress:
        """How far a source partition has been taken in."""
        return self.reached.setdefault(f"{topic}[{partition}]", SourceProgress())

    def observe(
        self, entities: list[str], times_ms: Ints, orders: Ints, values: Floats
    ) -> dict[str, Column]:
        """Take in events and return their windowed features, see `Windows.observe`.

        With none its sources may have come further all the same: that is kept, too. Else whoever
        comes next would begin at the same invalid events again and again.
        """
        self.changed = True
        if not len(entities):
            return {column: np.zeros(0) for column in self.windows.plan.columns}
        self._recent_ms = np.concatenate([self._recent_ms, times_ms])[-_SAMPLE:]
        if len(self._recent_ms) == _SAMPLE:
            self.now_ms = int(np.median(self._recent_ms))
        return self.windows.observe(entities, times_ms, orders, values.astype(np.float64))

    def glimpses(
        self, entities: list[str], times_ms: Ints, orders: Ints, values: Floats
    ) -> dict[str, Column]:
        """The windowed features of events (N), each in its turn; none is taken in."""
        return self.windows.glimpses(entities, times_ms, orders, values.astype(np.float64))

    def of_redriven(
        self, plan: WindowPlan, decoded: DecodedEvents, redrives: RedriveBatch
    ) -> dict[str, Column]:
        """The windowed features (M,) of the valid events of *redrives* (N), which are *decoded*.

        Each sees its entity's past up to its own time, and itself. It is not remembered: the state
        of windows stays a function of the events and outcomes alone.
        """
        entities, times_ms = plan.entities(decoded.columns), decoded.columns[plan.time]
        offsets = redrives.offsets[decoded.valid]
        late = [
            offset
            for offset, entity, time_ms in zip(
                offsets.tolist(), entities, times_ms.tolist(), strict=True
            )
            if not self.windows.remembers(entity, time_ms)
        ]
        if late:
            log.warning(
                "%s[%d]@%d and %d more come so late again that the beginnings of their windows are "
                "forgotten", redrives.topic, redrives.partition, late[0], len(late) - 1,
            )  # fmt: skip
        orders = orders_of(redrives.partition, offsets)
        return self.glimpses(entities, times_ms, orders, plan.values(decoded.columns))

    def learn(self, entities: list[str], times_ms: Ints, orders: Ints, outcomes: Floats) -> None:
        """Take in outcomes."""
        self.changed = True
        self.windows.learn(entities, times_ms, orders, outcomes > 0)

    def snapshot_is_due(self, most_log_bytes: int | None = None) -> bool:
        """Something has changed, and the last snapshot is old enough for what it cost.

        Or more than *most_log_bytes* of the log have been taken in since.
        """
        age = time.monotonic() - self._saved_at
        old = age > max(_AT_MOST_EVERY_S, self._save_s / _SHARE_OF_TIME)
        behind = most_log_bytes is not None and self.log_bytes > most_log_bytes
        return self.changed and (old or behind)

    def saved(self, started_at: float) -> None:
        """A snapshot that was begun at *started_at* (monotonic) is on the broker."""
        self.changed = False
        self.log_bytes = 0
        self._saved_at = time.monotonic()
        self._save_s = self._saved_at - started_at

    def loaded(self, written_ms: int) -> None:
        """It comes from a snapshot of that time, whoever wrote it.

        Nothing in it is believed that is dated a day later. What time it is shows anew.

        Were its age counted from now, workers that come and go every few seconds would never
        write one, and each would read more of the log again than the one before.
        """
        self._saved_at = time.monotonic() - max(0.0, time.time() - written_ms / 1000)
        latest_ms = written_ms + self.windows.plan.lateness_ms + _UNBELIEVABLE_MS
        self.windows.disbelieve(latest_ms)
        for reached in self.reached.values():
            reached.clock_ms = min(reached.clock_ms, latest_ms)
        self.now_ms = _NEVER_MS


def orders_of(partitions: int | Ints, offsets: Ints) -> Ints:
    """One number per source record: events of one time are ordered by it."""
    return (np.asarray(partitions, np.int64) << _OFFSET_BITS) + offsets
