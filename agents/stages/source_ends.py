"""Where the sources of a keyed component end now: a row may wait for one that has nothing more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from agents.windows import EventTimeOrder
from agents.workers import AttendedClock, TailReader
from topics.pipeline import Topology

_ASKING = 0.25
"""Asking for the ends of the sources may take this share of the time."""
_ASK_WITHIN_S = 1.0
"""They are asked for again after that time at the latest: in a process that is busy an answer takes
long to be read, and that has cost nobody anything."""
_MARKERS_AFTER_S = 0.1
"""A source that gives nothing for so long is asked whether it holds any record at all there."""

Ends = tuple[dict[int, int], dict[int, int]]
"""The next offsets to be written of all event sources, and of all outcome sources."""


class SourceEnds:
    """Asks for the ends of the sources that all *orders* of a worker wait for."""

    def __init__(
        self, tail: TailReader, clock: AttendedClock, topology: Topology, component: str,
        orders: Callable[[], Iterable[EventTimeOrder]],
    ) -> None:  # fmt: skip
        self._tail = tail
        self._clock = clock
        self._topology = topology
        self._sources = topology.sources_of(component)
        self._orders = orders
        self.ask_at = float("-inf")
        """When they may be asked for again (monotonic seconds)."""
        self._empty: dict[tuple[str, int], tuple[int, int]] = {}
        """Source partition → a range of offsets in which there is no record."""
        self._records: dict[tuple[str, int], int] = {}
        """Source partition → an offset with a record: until that has come nothing is looked for."""

    async def ask(self) -> Ends:
        """The ends; after that they are not to be asked for again for some time."""
        started = time.monotonic()
        ends = await self.now()
        asked = time.monotonic()
        self.ask_at = asked + min((asked - started) * (1 / _ASKING - 1), _ASK_WITHIN_S)
        return ends

    async def now(self) -> Ends:
        """The ends. Offsets there that hold no record (a transaction's marker) are none."""
        ends = await self._tail.ends(self._sources, self._topology.partitions)
        now = self._clock.now()
        for order in self._orders():
            for (topic, partition), end in list(ends.items()):
                offset = order.offset(partition, outcomes=topic == self._topology.outcomes)
                lags = offset + 1 < end and order.lagging(now) > _MARKERS_AFTER_S
                if lags and await self._is_empty(topic, partition, offset, end):
                    ends[topic, partition] = offset + 1
        events, outcomes = (
            {partition: end for (of, partition), end in ends.items() if of == topic}
            for topic in (self._topology.events, self._topology.outcomes)
        )
        return events, outcomes

    async def _is_empty(self, topic: str, partition: int, offset: int, end: int) -> bool:
        """There is no record behind *offset* and before *end*."""
        source = topic, partition
        if self._empty.get(source) == (offset + 1, end):
            return True
        if offset < self._records.get(source, -1):
            return False
        record = await self._tail.a_record(topic, partition, offset + 1, end)
        if record is not None:
            self._records[source] = record
            return False
        self._empty[source] = (offset + 1, end)
        return True
