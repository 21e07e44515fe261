"""What live events take, as their newest decisions say it: a sample, whatever the rate."""

from __future__ import annotations

from collections import deque

import orjson
from aiokafka.structs import ConsumerRecord

from agents.workers import TailReader
from topics.pipeline import Topology
from topics.records import attempt_of

_PARTITIONS = 8
"""So many are looked at each time, in turns."""
_LAST = 25
"""Of each so many decisions."""


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
        found = await self._tail.ends([self._topic], len(self._partitions))
        ends = {partition: end for (_, partition), end in found.items()}
        before, self._ends = self._ends, ends
        moved = [p for p in self._partitions if ends[p] > before.get(p, ends[p])][:_PARTITIONS]
        self._partitions.rotate(-_PARTITIONS)
        latencies: list[float] = []
        for partition in moved:
            start = max(before[partition], ends[partition] - _LAST)
            records = await self._tail.between(self._topic, partition, start, ends[partition])
            latencies += [it for it in map(live_latency_ms, records) if it is not None]
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
