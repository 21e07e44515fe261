"""How fast redrive records may go so that live events are slower by no more than a stated share.

While live events flow, their latency is looked at twice a second, as their newest decisions say it:
a sample, whatever the rate. It is held against what it was
while no redrive record was under way; that is measured first, and again now and then. Where it is
more than the share above that, redrive records go slower, else faster. Where no live events flow
they go as fast as they may at all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median

import orjson
from aiokafka.structs import ConsumerRecord

from agents.workers import TailReader
from topics.pipeline import Topology
from topics.records import attempt_of

LOOK_S = 0.5
_MEASURED_S = 1.5
"""For so long the latency without redrive records is looked at."""
_MEASURED_EVERY_S = 30.0
_LET_END_S = 5.0
"""Records under way are let end first, for so long: what has not then waits, and is no load."""
_FIRST_RATE = 200.0
_LEAST_RATE = 20.0
"""They go on at this rate, whatever live events take: a backlog of them may last for hours."""
_FASTER, _SLOWER = 1.2, 0.6
_LOOKS = 4
"""The median is of so many looks, unless they went slower since: one look's is off by a fifth."""
_AT_LEAST_MS = 2.0
"""So much more is no sign of anything."""
_TOO_FEW = 10
"""So many redrive records go at once: they slow nothing down that could be measured."""
_STEP_S = 0.25
"""So often they go, all that are due by then: of what one costs most is spent on each batch, and
most live events come between two steps."""
_PARTITIONS = 8
"""Of so many partitions decisions are looked at each time, in turns."""
_LAST = 25
"""Of each so many decisions."""


class LivePace:
    """The rate of redrive records, by what live events take."""

    def __init__(
        self, most: float, slower: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """At *most* so many records a second, live events *slower* by that share (0.1: 10 %)."""
        self._most, self._slower, self._clock = most, slower, clock
        self.rate = min(most, _FIRST_RATE)
        self.without_ms: float | None = None
        """What live events take without redrive records; None while that is not known."""
        self._measuring_since: float | None = clock()
        self._let_end_until = clock() + _LET_END_S
        self._measured_at = float("-inf")
        self._measured: list[float] = []
        self._recent = deque[Sequence[float]](maxlen=_LOOKS)
        self._credit, self._credited_at = 0.0, clock()
        self._due = 0
        """Of the step that has begun."""
        self._free = min(_TOO_FEW, max(1, int(most)))

    @property
    def measures(self) -> bool:
        """Redrive records wait: it is looked at what live events take without them."""
        return self._measuring_since is not None

    def look(self, latencies_ms: Sequence[float], under_way: int) -> None:
        """Take note of what live events took since the last look, and of records *under_way*."""
        now = self._clock()
        if self._measuring_since is not None:
            self._measure(latencies_ms, under_way, self._measuring_since, now)
            return
        if not latencies_ms:
            self.rate = self._most
            return
        due = now - self._measured_at > _MEASURED_EVERY_S
        if self.without_ms is None or due:
            self._measuring_since, self._let_end_until = now, now + _LET_END_S
            return
        limit = max(self.without_ms * (1 + self._slower), self.without_ms + _AT_LEAST_MS)
        self._recent.append(latencies_ms)
        if median(latency for look in self._recent for latency in look) > limit:
            self.rate = max(min(_LEAST_RATE, self._most), self.rate * _SLOWER)
            self._recent.clear()  # what they took at the higher rate
        elif median(latencies_ms) <= limit:
            self.rate = min(self._most, self.rate * _FASTER)

    def _measure(
        self, latencies_ms: Sequence[float], under_way: int, since: float, now: float
    ) -> None:
        if under_way and now < self._let_end_until:
            self._measuring_since = now
            self._measured.clear()
            return
        self._measured += latencies_ms
        if self._measured and now - since < _MEASURED_S:
            return
        self.without_ms = median(self._measured) if self._measured else None
        self.rate = min(self.rate, _FIRST_RATE) if self._measured else self._most
        self._measuring_since, self._measured_at = None, now
        self._credit, self._credited_at, self._due = 0.0, now, 0
        self._measured.clear()

    def due(self) -> int:
        """How many redrive records are due now; say with `gave` how many have gone."""
        now = self._clock()
        passed, self._credited_at = now - self._credited_at, now
        if self.measures:
            return self._free
        step = max(1.0, self.rate * _STEP_S)
        # What was not sent in time is not made up for, but for one step.
        self._credit = min(2 * step, self._credit + passed * self.rate)
        self._due = min(self._due, int(step))  # the rate may be lower than when the step began
        if not self._due and self._credit >= step:
            self._due = int(step)
        return self._due

    def gave(self, redrives: int) -> None:
        """So many of those that were due have gone.

        While they went a measurement may have begun, or ended, and with it the step that they were
        of: neither has a debt, which nothing would ever make up for.
        """
        if self.measures:
            self._free = max(0, self._free - redrives)
        else:
            self._credit -= redrives
            self._due = max(0, self._due - redrives)


class LiveLatency:
    """Reads the newest decisions again and again."""

    def __init__(self, tail: TailReader, topology: Topology) -> None:
        self._tail = tail
        self._topic = topology.decisions
        self._partitions = deque(range(topology.partitions))
        self._ends: dict[int, int] = {}

    async def look(self) -> list[float]:
        """The latencies of decisions on first attempts that were written since the last look (ms).

        Of that which was there before the first look nothing is told.
        """
        by_partition = await self._tail.ends([self._topic], len(self._partitions))
        ends = {partition: end for (_, partition), end in by_partition.items()}
        before, self._ends = self._ends, ends
        moved = [p for p in self._partitions if ends[p] > before.get(p, ends[p])][:_PARTITIONS]
        self._partitions.rotate(-_PARTITIONS)
        latencies: list[float] = []
        for partition in moved:
            start = max(before[partition], ends[partition] - _LAST)
            records = await self._tail.between(self._topic, partition, start, ends[partition])
            latencies += [ms for ms in map(live_latency_ms, records) if ms is not None]
        return latencies


def live_latency_ms(record: ConsumerRecord) -> float | None:
    """What a decision says that it took; None for a redriven event's, and for other records."""
    try:
        if attempt_of(record.headers) > 1:
            return None
        latency_ms = orjson.loads(record.value or b"")["latency_ms"]
    except (ValueError, KeyError, TypeError):  # orjson's is a ValueError
        return None
    return float(latency_ms) if isinstance(latency_ms, int | float) else None
