"""Reading fetches: what has come for an agent, whenever it is free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiokafka
from aiokafka.errors import ConsumerStoppedError
from aiokafka.structs import ConsumerRecord
from faust.types import TP, ConsumerMessage

from topics.transport.fetch import Fetch, continued
from topics.transport.group_member import GroupMember

_GATHER_S = 0.02
_GATHERED_BYTES = 4 * 2**20
"""With so many bytes in hand no more are gathered: what there is keeps a worker busy."""
_MANY_UNREAD = 32
_AT_ONCE_S = 0.0005
_REFRESH_S = 0.003
_HEARD_WITHIN_S = 3.0
"""A fetch is answered within half a second, also where there is nothing; a busy process is late."""


def aiokafka_tp(tp: TP) -> aiokafka.TopicPartition:
    """The same partition, as aiokafka has it."""
    return aiokafka.TopicPartition(tp.topic, tp.partition)


class FetchReader(GroupMember):
    """Gives the agent one fetch at a time, with all that came while it was busy."""

    tick_s = 0.02
    """How long a fetch may stay empty before the agent gets a tick (if it wants ticks)."""
    wants_ticks = False
    """Said by the worker after each fetch: a tick costs as much as a small fetch."""
    turn: Callable[[], Awaitable[None]] | None = None
    """Awaited before a fetch, unless there is a lot to do."""

    def on_init(self) -> None:
        super().on_init()
        self.excused: set[TP] = set()
        """Said by the worker: partitions whose rows wait for others. Nothing is wrong with it."""
        self._given: dict[TP, int] = {}
        self._ticked: int | None = None
        """The generation that the agent has heard of: it gets a tick when a new one begins."""
        self._idle = asyncio.Event()
        self._idle.set()

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                # Only then: what comes meanwhile is one batch, not several small ones in a row.
                await self._idle.wait()
                if self.turn is not None and self._unread() < _MANY_UNREAD:
                    await self.turn()
                message = await self._next_message()
                if message is not None:
                    self._idle.clear()
                    await self.callback(message)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _next_message(self) -> ConsumerMessage | None:
        if not self.flow_active:
            await self.can_resume_flow.wait()
        active = self._get_active_partitions()
        generation = self.app.consumer_generation_id
        if active:
            asked = time.monotonic()
            # Never longer: the worker may come to want ticks while this waits.
            records = await self._getmany(active, self.tick_s)
            if self.turn is not None and records and time.monotonic() - asked < _AT_ONCE_S:
                # They were fetched when the last wave began: here is what has come since.
                _add(records, await self._getmany(active, _REFRESH_S))
            await self._gather(records, active)
        else:
            records = {}
            await asyncio.sleep(self.tick_s)
        assigned = self.assignment()
        if not self.flow_active or generation != self.app.consumer_generation_id:
            # A rebalance came between. aiokafka has moved its positions past these records,
            # so they are given back, or the next commit would pass over them.
            for tp in records.keys() & assigned:
                self._give_back(tp, records[tp][0].offset)
            return None
        is_news = generation != self._ticked
        if not assigned or not (records or self.wants_ticks or is_news):
            return None
        self._ticked = generation
        self._given |= {tp: found[-1].offset + 1 for tp, found in records.items()}
        self.excused -= records.keys()
        tp = next(iter(records), None) or next(iter(assigned))
        return self._message(tp, Fetch(records, generation))

    async def _getmany(
        self, active_partitions: set[TP] | None, timeout: float
    ) -> dict[TP, list[ConsumerRecord]]:
        fetcher = self.kafka._fetcher
        if fetcher._closed:
            raise ConsumerStoppedError
        _drop_what_is_paused(fetcher, active_partitions)
        with fetcher._subscriptions.fetch_context():
            found = await fetcher.fetched_records(
                active_partitions,
                timeout=timeout,
                max_records=self.app.conf.broker_max_poll_records,
            )
        return {TP(tp.topic, tp.partition): records for tp, records in found.items()}

    async def _gather(self, records: dict[TP, list[ConsumerRecord]], active: set[TP]) -> None:
        """Add to *records* what follows them, while that is more than they are.

        A broker may give a few records at a time, however many there are. A worker that is
        behind would then handle small batches, at more cost for each row, and fall back more.
        """
        until = time.monotonic() + _GATHER_S
        while self._waiting_behind(records) > sum(map(len, records.values())) and (
            _bytes_of(records) < _GATHERED_BYTES
        ):
            left_s = until - time.monotonic()
            if left_s <= 0 or not (more := await self._getmany(active, left_s)):
                return
            _add(records, more)

    def _give_back(self, tp: TP, offset: int) -> None:
        """Read again from *offset* on, unless a new assignment begins before it."""
        read = self.kafka._subscription.subscription.assignment.state_value(aiokafka_tp(tp))
        if read.has_valid_position and read.position > offset:
            self.kafka.seek(aiokafka_tp(tp), offset)

    def _waiting_behind(self, records: Mapping[TP, list[ConsumerRecord]]) -> int:
        """How many records follow these in those of their partitions that are still owned."""
        owned = self.assignment()  # a rebalance may have come since they were fetched
        return sum(
            max(0, self.stable_end(tp) - found[-1].offset - 1)
            for tp, found in records.items()
            if tp in owned
        )

    def _unread(self) -> int:
        """How many records have come that were not fetched yet, as far as is known."""
        assigned = self.kafka._subscription.subscription.assignment
        states = [assigned.state_value(tp) for tp in assigned.tps] if assigned else []
        return sum(max(0, _stable_end(it) - it.position) for it in states if it.has_valid_position)

    def stable_end(self, tp: TP) -> int:
        """Up to where the partition can be read, as of the last fetch.

        What is behind is of transactions that are still open, and may be for a quarter of an hour.
        """
        stable: int | None = self.kafka.last_stable_offset(aiokafka_tp(tp))
        # A broker that knows no transactions says -1.
        return stable if stable is not None and stable >= 0 else self.highwater(tp)

    def has_unread(self, tp: TP) -> bool:
        """The partition may hold records that were not fetched yet, as far as we are told."""
        if not self.hears(tp):
            return True
        state = self.kafka._subscription.subscription.assignment.state_value(aiokafka_tp(tp))
        return bool(state.position < _stable_end(state))

    def hears(self, tp: TP) -> bool:
        """The partition's leader has told us lately whether there is anything to read.

        One broker may be out of our reach while the group's coordinator, another one, is not: then
        nothing comes of the partitions that it leads, whatever is written there.
        """
        assigned = self.kafka._subscription.subscription.assignment
        if assigned is None or aiokafka_tp(tp) not in assigned.tps:
            return False
        state = assigned.state_value(aiokafka_tp(tp))
        if not state.has_valid_position or state.highwater is None:
            return False
        # aiokafka notes by the wall clock when a fetch was answered; that clock may be set back.
        return bool(abs(time.time() - state.timestamp / 1000) < _HEARD_WITHIN_S)

    def _message(self, tp: TP, fetch: Fetch) -> ConsumerMessage:
        offset = fetch.records[tp][0].offset if fetch.records else 0
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=offset,
            timestamp=time.time(),
            timestamp_type=0,
            headers=[],
            key=None,
            value=fetch,  # type: ignore[arg-type]  # FetchSchema passes it on as it is
            checksum=None,
            tp=tp,
            generation_id=fetch.generation,
        )


def _bytes_of(fetched: Mapping[TP, list[ConsumerRecord]]) -> int:
    """Of keys and values; a null one counts as -1, which is near enough."""
    return sum(
        record.serialized_key_size + record.serialized_value_size
        for records in fetched.values()
        for record in records
    )


def _drop_what_is_paused(fetcher: Any, active: set[TP] | None) -> None:
    """Forget what was fetched of partitions that are not read now: it is fetched again then.

    While it is kept nobody takes it up, and nothing else is fetched, see `GroupMember.on_start`.
    """
    for tp in list(fetcher._records):
        if active is not None and TP(tp.topic, tp.partition) not in active:
            del fetcher._records[tp]
            fetcher._notify(fetcher._wait_consume_future)


def _stable_end(state: Any) -> int:
    """The last stable offset that a broker has told of; one that knows no transactions tells -1."""
    stable: int | None = state.lso
    return stable if stable is not None and stable >= 0 else (state.highwater or 0)


def _add(records: dict[TP, list[ConsumerRecord]], more: Mapping[TP, list[ConsumerRecord]]) -> None:
    for tp, found in more.items():
        records[tp] = continued(records.get(tp, []), found)
