"""Partitions fetched batch by batch, the next batches while those before them are worked on.

What is fetched waits undecoded: a batch is decoded when its records are asked for. Fetched are only
partitions that somebody has asked for, so those of a later turn take no memory yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.broker import MOST_EMPTY_FETCHES, FetchResult, LogReader, RecordBatch, Unreadable
from topics.settings import BrokerSettings

_ENOUGH_BYTES = 2**20
"""Of a partition that has so much waiting no more is fetched."""


@dataclass(slots=True)
class _Log:
    """One partition: where it is read from next, and what waits of it."""

    position: int
    """The offset that is fetched next."""
    start: int
    """The first offset that is wanted: a batch may begin before it."""
    end: int
    is_read: bool = False
    """Somebody has asked for its records."""
    batches: deque[RecordBatch] = field(default_factory=deque)
    waiting_bytes: int = 0


class ReadAhead:
    """Reads partitions from *positions* up to *ends*, each at the pace of who asks for it."""

    def __init__(
        self, reader: LogReader, positions: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:  # fmt: skip
        self._reader = reader
        self._logs = {tp: _Log(start, start, ends[tp]) for tp, start in positions.items()}
        self._fetching: asyncio.Task[dict[TopicPartition, FetchResult]] | None = None
        self._asked: dict[TopicPartition, int] = {}
        """What is being fetched, from where on."""

    @classmethod
    @asynccontextmanager
    async def of(
        cls, settings: BrokerSettings, positions: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> AsyncIterator[ReadAhead]:  # fmt: skip
        """On one connection, outside any group. Raises BrokerError."""
        async with LogReader.of(settings) as reader:
            for topic in dict.fromkeys(tp.topic for tp in positions):
                await reader.partitions(topic)
            ahead = cls(reader, positions, ends)
            try:
                yield ahead
            finally:
                await ahead._stop()

    async def records(self, tp: TopicPartition) -> list[ConsumerRecord]:
        """Some more records, those of a batch; none at the end.

        They have offset, timestamp, key, value and headers, and do not say where they are from.
        Raises KafkaError and Unreadable.
        """
        log, nothing = self._logs[tp], 0
        log.is_read = True
        while True:
            while not log.batches:
                if log.position >= log.end:
                    return []
                before = log.position
                await self._fetch(tp)
                nothing = 0 if log.position > before else nothing + 1
                if nothing > MOST_EMPTY_FETCHES:
                    raise Unreadable(tp, log.position, log.end)
            batch = log.batches.popleft()
            log.waiting_bytes -= len(batch.data)
            self._begin(tp)
            await asyncio.sleep(0)  # or nothing would be received meanwhile
            records = batch.records()
            if batch.offset < log.start or batch.next_offset > log.end:
                records = [each for each in records if log.start <= each.offset < log.end]
            if records:
                return records

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Read on from there."""
        old = self._logs[tp]
        self._logs[tp] = _Log(offset, offset, old.end, old.is_read)

    async def _fetch(self, tp: TopicPartition) -> None:
        """Take in what is being fetched, or else what is of *tp* first."""
        self._begin(tp)
        fetching, asked = self._fetching, self._asked
        if fetching is None:
            return
        try:
            fetched = await fetching
        finally:
            self._fetching = None
        for each, result in fetched.items():
            log = self._logs[each]
            if log.position != asked[each]:  # it was sought elsewhere meanwhile
                continue
            if result.dropped:  # by retention, since its start was found
                log.position = (await self._reader.bounds([each], "first"))[each]
            elif result.batches:
                log.position = result.batches[-1].next_offset
                batches = [batch for batch in result.batches if batch.count]
                log.batches.extend(batches)
                log.waiting_bytes += sum(len(batch.data) for batch in batches)
        self._begin(tp)

    def _begin(self, first: TopicPartition) -> None:
        """Fetch what has not enough waiting, unless something is being fetched already."""
        if self._fetching is not None:
            return
        wanted = {tp: log.position for tp in (first, *self._logs) if _lacks(log := self._logs[tp])}
        if wanted:
            self._asked = wanted
            self._fetching = asyncio.ensure_future(self._reader.fetch(wanted))

    async def _stop(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)


def _lacks(log: _Log) -> bool:
    return log.is_read and log.position < log.end and log.waiting_bytes < _ENOUGH_BYTES
