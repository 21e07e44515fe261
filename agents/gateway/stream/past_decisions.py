"""What was decided before, for a caller of the stream that is not at its end yet.

Each such caller has a consumer of its own for as long as it has its turn: few read the past at the
same time, in a thread of its own, so that they hold up neither each other for long nor anybody who
is at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.gateway.loop_thread import LoopThread
from agents.gateway.stream.stream_events import Block, StreamedRecord, gap_event
from agents.gateway.stream.stream_filter import StreamFilter
from agents.gateway.stream.stream_position import Cursor, Gap, Position, TopicPosition, reachable
from topics.kafka import (
    client_options,
    close_client,
    learn_topics_at_once,
    network_client,
    topic_identities,
)
from topics.pipeline import Topology
from topics.settings import BrokerSettings

_AT_ONCE = 500
"""Records of a block."""
_LOOK_MS, _FETCH_WAIT_MS = 50, 10
_FETCH_BYTES, _EMBEDDED_FETCH_BYTES = 2**20, 16 * 2**20
_TURNS = 4


class PastReader:
    """Reads on from a start, for one caller. All of it runs in the loop of its thread."""

    def __init__(
        self, settings: BrokerSettings, topology: Topology, id_field: str, wanted: StreamFilter,
        since_ms: int,
    ) -> None:  # fmt: skip
        self._embedded, self._id_field, self._wanted = settings.embedded, id_field, wanted
        topics = [topology.decisions, *([topology.dead_letters] if wanted.dead_letters else [])]
        self._partitions = {
            topic: [TopicPartition(topic, p) for p in range(topology.partitions)]
            for topic in topics
        }
        self._decisions = topology.decisions
        self._since_ms = since_ms
        self._settings = settings
        self._consumer: Any = None
        """A consumer, which belongs to the loop that it is made in."""
        self._cursor: Cursor

    @property
    def position(self) -> Position:
        """Right behind what was read."""
        return self._cursor.position

    async def open(self, start: Position | None) -> Block:
        """Begin at *start*, or behind what is not there any more: the block tells of that.

        None is the first that was written since the reader's time. Raises KafkaError.
        """
        self._consumer = aiokafka.AIOKafkaConsumer(
            **client_options(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_EMBEDDED_FETCH_BYTES if self._embedded else _FETCH_BYTES,
        )
        await self._consumer.start()
        await learn_topics_at_once(self._consumer, self._partitions)
        self._consumer.assign([*self._every()])
        return await self._resume(await self._since() if start is None else start)

    async def close(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await close_client(self._consumer)

    async def next(self, until: Position) -> Block | None:
        """The next block, up to that position; None when it is reached. Raises KafkaError."""
        ends = {
            tp: end
            for tps, target in zip(self._partitions.values(), until.topics, strict=True)
            for tp, end in zip(tps, target.offsets, strict=True)
        }
        waiting = [tp for tp, end in ends.items() if self._offset(tp) < end]
        if not waiting:
            return None
        try:
            fetched = await self._consumer.getmany(
                *waiting, timeout_ms=_LOOK_MS, max_records=_AT_ONCE
            )
        except OffsetOutOfRangeError:  # deleted since we were there
            return await self._resume(self.position)
        events = list[bytes]()
        for tp, records in fetched.items():
            for record in records:
                if record.offset >= ends[tp]:
                    # What comes behind has been fetched too: whoever reads on gets it again.
                    self._consumer.seek(tp, record.offset)
                    break
                events += self._event(tp, record)
        for tp in waiting:  # markers of transactions move it on, too
            self._advance(tp, await self._consumer.position(tp))
        return Block(b"".join(events), len(events), self.position)

    def _event(self, tp: TopicPartition, record: ConsumerRecord) -> Iterator[bytes]:
        self._advance(tp, record.offset + 1)
        if self._embedded and record.timestamp < self._since_ms:
            return
        streamed = StreamedRecord(record, self._id_field, is_decision=tp.topic == self._decisions)
        if streamed.is_ours and streamed.is_wanted(self._wanted):
            event_id = self._cursor.event_id(with_dead_letters=self._wanted.dead_letters)
            yield streamed.encoded(event_id)

    async def _resume(self, start: Position) -> Block:
        """Go on at *start* as far as it is there; what is missing is told by the block."""
        firsts = await self._firsts()
        ends = await self._consumer.end_offsets([*self._every()])
        topics, gaps = list[TopicPosition](), list[Gap]()
        for (topic, tps), at, first in zip(
            self._partitions.items(), start.topics, firsts.topics, strict=True
        ):
            there, missing = reachable(topic, at, first, [ends[tp] for tp in tps])
            topics.append(there)
            gaps += missing
        self._cursor = Cursor(Position(*topics))
        for tp in self._every():
            self._consumer.seek(tp, self._offset(tp))
        if not gaps:
            return Block(b"", 0, self.position)
        event_id = self._cursor.event_id(with_dead_letters=self._wanted.dead_letters)
        return Block(gap_event(event_id, gaps), 1, self.position)

    async def _firsts(self) -> Position:
        """Where the topics begin."""
        return await self._at(await self._consumer.beginning_offsets([*self._every()]))

    async def _since(self) -> Position:
        """The first offsets that were written at the reader's time or later."""
        if self._embedded or not self._since_ms:  # the embedded broker knows no times
            return await self._firsts()
        every = [*self._every()]
        ends = await self._consumer.end_offsets(every)
        found = await self._consumer.offsets_for_times(dict.fromkeys(every, self._since_ms))
        return await self._at(
            {tp: ends[tp] if at is None else int(at.offset) for tp, at in found.items()}
        )

    async def _at(self, offsets: Mapping[TopicPartition, int]) -> Position:
        known = await topic_identities(network_client(self._consumer), self._partitions)
        ids = {topic: identity.id for topic, identity in known.items() if identity is not None}
        return Position(*(
            TopicPosition.of(ids.get(topic), [offsets[tp] for tp in tps])
            for topic, tps in self._partitions.items()
        ))  # fmt: skip

    def _every(self) -> Iterator[TopicPartition]:
        for tps in self._partitions.values():
            yield from tps

    def _offset(self, tp: TopicPartition) -> int:
        return self._cursor.offset(tp.partition, is_decision=tp.topic == self._decisions)

    def _advance(self, tp: TopicPartition, offset: int) -> None:
        self._cursor.advance(tp.partition, offset, is_decision=tp.topic == self._decisions)


class PastDecisions:
    """Readers of the past: a few at the same time, others wait for their turn."""

    def __init__(
        self, settings: BrokerSettings, topology: Topology, id_field: str, thread: LoopThread
    ) -> None:
        self._settings, self._topology, self._id_field = settings, topology, id_field
        self._thread = thread
        self._turns = asyncio.Semaphore(_TURNS)

    @asynccontextmanager
    async def turn(self, wanted: StreamFilter, since_ms: int) -> AsyncIterator[PastTurn]:
        """A reader, once it is this caller's turn."""
        async with self._turns:
            reader = PastReader(self._settings, self._topology, self._id_field, wanted, since_ms)
            turn = PastTurn(reader, self._thread)
            try:
                yield turn
            finally:
                await self._thread.run(reader.close())


class PastTurn:
    """A reader in its thread, asked from another."""

    def __init__(self, reader: PastReader, thread: LoopThread) -> None:
        self._reader, self._thread = reader, thread

    async def open(self, start: Position | None) -> Block:
        """See `PastReader`."""
        return await self._thread.run(self._reader.open(start))

    async def next(self, until: Position) -> Block | None:
        """See `PastReader`."""
        return await self._thread.run(self._reader.next(until))
