"""Faust's consumer with the fetch as its unit.

An offset is committed only after the worker has said `done(...)` for it, which it does when
the output is on the broker. Faust's own consumer acknowledges an event when the agent's body
is left, whatever happened.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata
from faust.types import TP, ConsumerMessage

from topics.errors import LeaseLost
from topics.fetch import Fetch, continued
from topics.group_member import GroupMember

log = logging.getLogger(__name__)

_GATHER_S = 0.02
_MANY_UNREAD = 1000


def _aiokafka_tp(tp: TP) -> aiokafka.TopicPartition:
    return aiokafka.TopicPartition(tp.topic, tp.partition)


class MicroBatchConsumer(GroupMember):
    """Consumes fetches, commits what `done` was called for, knows how old its lease is."""

    tick_s = 0.02
    """How long a fetch may stay empty before the agent gets a tick (if it wants ticks)."""
    wants_ticks = False
    """Said by the worker after each fetch: a tick costs as much as a small fetch."""

    turn: Callable[[], Awaitable[None]] | None = None
    """Awaited before a fetch, unless there is a lot to do."""

    def on_init(self) -> None:
        super().on_init()
        self._done: dict[TP, int] = {}
        self._given: dict[TP, int] = {}
        self._held: set[TP] = set()
        self._handling = -1
        self._gave_up_waiting = False
        self.working = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    # -- the lease

    def check_lease(self) -> None:
        """Raise LeaseLost when the group may have given this worker's partitions away.

        That is so when no heartbeat was answered for the session's time, and when a rebalance
        has come since the fetch in hand was taken up, even if heartbeats go on.
        """
        if self.silent_s > self.app.conf.broker_session_timeout:
            raise LeaseLost(self.app.conf.id, self.silent_s)
        if self._handling != self.app.consumer_generation_id or self._gave_up_waiting:
            raise LeaseLost(self.app.conf.id, self.silent_s)

    @asynccontextmanager
    async def handling(self, fetch: Fetch) -> AsyncIterator[bool]:
        """Hold off rebalances while *fetch* is dealt with; False when it is out of date."""
        async with self.working:
            self._handling = fetch.generation
            self._gave_up_waiting = False
            try:
                yield self.is_current(fetch)
            finally:
                self._idle.set()

    # -- fetching

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
            # Never longer: the worker may come to want ticks while this waits.
            records = await self._getmany(active, self.tick_s)
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
        if not assigned or not (records or self.wants_ticks):
            return None
        self._given |= {tp: found[-1].offset + 1 for tp, found in records.items()}
        tp = next(iter(records), None) or next(iter(assigned))
        return self._message(tp, Fetch(records, generation))

    async def _getmany(
        self, active_partitions: set[TP] | None, timeout: float
    ) -> dict[TP, list[ConsumerRecord]]:
        fetcher = self.kafka._fetcher
        if fetcher._closed:
            raise ConsumerStoppedError
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
        while self._waiting_behind(records) > sum(map(len, records.values())):
            left_s = until - time.monotonic()
            if left_s <= 0 or not (more := await self._getmany(active, left_s)):
                return
            for tp, found in more.items():
                records[tp] = continued(records.get(tp, []), found)

    def _give_back(self, tp: TP, offset: int) -> None:
        """Read again from *offset* on, unless a new assignment begins before it."""
        read = self.kafka._subscription.subscription.assignment.state_value(_aiokafka_tp(tp))
        if read.has_valid_position and read.position > offset:
            self.kafka.seek(_aiokafka_tp(tp), offset)

    def _waiting_behind(self, records: Mapping[TP, list[ConsumerRecord]]) -> int:
        """How many records follow these in those of their partitions that are still owned."""
        owned = self.assignment()  # a rebalance may have come since they were fetched
        return sum(
            max(0, self.highwater(tp) - found[-1].offset - 1)
            for tp, found in records.items()
            if tp in owned
        )

    def _unread(self) -> int:
        """How many records have come that were not fetched yet, as far as is known."""
        assigned = self.kafka._subscription.subscription.assignment
        states = [assigned.state_value(tp) for tp in assigned.tps] if assigned else []
        return sum(
            max(0, (it.highwater or 0) - it.position) for it in states if it.has_valid_position
        )

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

    def is_current(self, fetch: Fetch) -> bool:
        """False for a fetch from before the last rebalance; its records are read again."""
        return self.flow_active and fetch.generation == self.app.consumer_generation_id

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: a busy agent holds up `_drain_messages`, which is all the pressure needed.

        Faust would stop reading this partition alone, whose prefetched records then hold
        up every other partition's fetch for aiokafka's backoff of 100 ms.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing, see `on_buffer_full`."""

    # -- offsets

    def done(self, positions: Mapping[TP, int]) -> None:
        """All records before these offsets are dealt with; the next commit says so."""
        if self._handling == self.app.consumer_generation_id and not self._gave_up_waiting:
            self._done.update(positions)

    def lag(self) -> int:
        """Records of this worker's partitions that are not dealt with yet."""
        behind = 0
        for tp in self.assignment():
            done = self._done.get(tp)
            if done is None:  # nothing yet since the assignment: count from what is committed
                done = self._committed_offset[tp] or 0
            behind += max(0, self.highwater(tp) - done)
        return behind

    def committed(self, tp: TP) -> int:
        """Where reading began after the assignment, if nothing was committed since."""
        return self._committed_offset[tp] or 0

    def standing(self) -> dict[TP, tuple[int, int]]:
        """Partitions with something to do → the offset that is dealt with, and the one given.

        A partition that the worker has paused is not its own concern.
        """
        found: dict[TP, tuple[int, int]] = {}
        for tp in self.assignment() - self._held if self.flow_active else ():
            given = self._given.get(tp, 0)
            done = self._done.get(tp, self._committed_offset[tp] or 0)
            assigned = self.kafka._subscription.subscription.assignment
            unread = assigned.state_value(_aiokafka_tp(tp))
            if given > done or (unread.has_valid_position and unread.position < self.highwater(tp)):
                found[tp] = (done, given)
        return found

    def rewind(self, tp: TP, offset: int) -> None:
        """Read the partition again from *offset* on. Raises LeaseLost when it is another's now."""
        self.check_lease()
        self._done.pop(tp, None)
        self._given.pop(tp, None)
        self.kafka.seek(_aiokafka_tp(tp), offset)

    def pause_only(self, partitions: set[TP]) -> None:
        """Read on from all partitions but these."""
        if partitions == self._held:
            return
        self.pause_partitions(partitions - self._held)
        self.resume_partitions((self._held - partitions) & self.assignment())
        self._held = partitions

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(list(self._done))

    def _new_offset(self, tp: TP) -> int | None:
        return self._done.get(tp)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        try:
            await self.kafka.commit(
                {
                    aiokafka.TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, "")
                    for tp, offset in offsets.items()
                }
            )
        except (CommitFailedError, IllegalStateError) as exc:
            # A rebalance came first. Its new owner reads from the last commit and finds
            # on the output topic what was written since.
            log.info("%s: offsets not committed: %s", self.app.conf.id, exc)
            return False
        except KafkaError as exc:
            log.warning("%s: offsets not committed, tried again: %s", self.app.conf.id, exc)
            return False
        return True

    async def seek_to_committed(self) -> dict[TP, int]:
        """Go back to the committed offset of each partition; the offsets, by partition."""
        committed: Mapping[TP, int] = await self.kafka.seek_to_committed()
        return {tp: offset for tp, offset in committed.items() if offset is not None}

    # -- rebalances

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Read on, also when Faust has dropped the last fetch before the agent saw it."""
        self._idle.set()
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish the fetch in hand, commit it, then give the partitions away."""
        self.stop_flow()
        try:
            async with asyncio.timeout(self.app.conf.broker_session_timeout / 2):
                async with self.working:
                    await self.commit()
        except TimeoutError:
            self._gave_up_waiting = True
            log.warning("%s: rebalance before the batch in hand was done", self.app.conf.id)
        self._done.clear()
        self._given.clear()
        self._held.clear()
        await super().on_partitions_revoked(revoked)
