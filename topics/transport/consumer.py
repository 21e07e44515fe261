"""Faust's consumer with the fetch as its unit.

An offset is committed only after the worker has said `done(...)` for it, which it does when
the output is on the broker. Faust's own consumer acknowledges an event when the agent's body
is left, whatever happened.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from topics.errors import LeaseLost
from topics.transport.fetch import Fetch
from topics.transport.fetch_reader import FetchReader, aiokafka_tp
from topics.transport.group_errors import FencedInstanceId

log = logging.getLogger(__name__)


class MicroBatchConsumer(FetchReader):
    """Consumes fetches, commits what `done` was called for, knows how old its lease is."""

    def on_init(self) -> None:
        super().on_init()
        self._done: dict[TP, int] = {}
        self._held: set[TP] = set()
        self._held_by: dict[str, set[TP]] = {}
        self._handling = -1
        self._gave_up_waiting = False
        self._took_up_at = 0.0
        self.working = asyncio.Lock()

    # -- the lease

    def check_lease(self) -> None:
        """Raise LeaseLost when the group may have given this worker's partitions away.

        That is so when no heartbeat was answered for the session's time, and when a rebalance
        has come since the fetch in hand was taken up, even if heartbeats go on.
        """
        if self.name_is_taken:
            raise self.name_taken()
        if self.silent_s > self.app.conf.broker_session_timeout:
            raise LeaseLost(self.app.conf.id, self.silent_s)
        if self._handling != self.app.consumer_generation_id or self._gave_up_waiting:
            raise LeaseLost(self.app.conf.id, self.silent_s)

    @asynccontextmanager
    async def handling(self, fetch: Fetch) -> AsyncIterator[bool]:
        """Hold off rebalances while *fetch* is dealt with; False when it is out of date."""
        async with self.working:
            self._took_up_at = time.monotonic()
            self._handling = fetch.generation
            self._gave_up_waiting = False
            try:
                yield self.is_current(fetch)
            finally:
                self._idle.set()

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
            behind += max(0, self.stable_end(tp) - done)
        return behind

    def committed(self, tp: TP) -> int:
        """Where reading began after the assignment, if nothing was committed since."""
        return self._committed_offset[tp] or 0

    def standing(self) -> dict[TP, tuple[int, int]]:
        """Partitions with something to do → the offset that is dealt with, and the one given.

        A partition that the worker has paused is not its own concern, nor are rows that wait for
        another component's answer: then only what it has not read yet is.
        """
        found: dict[TP, tuple[int, int]] = {}
        for tp in self.assignment() - self._held if self.flow_active else ():
            given = self._given.get(tp, 0)
            done = self._done.get(tp, self._committed_offset[tp] or 0)
            assigned = self.kafka._subscription.subscription.assignment
            state = assigned.state_value(aiokafka_tp(tp))
            unread = state.has_valid_position and state.position < self.stable_end(tp)
            excused = tp in self.excused and not self.working.locked()
            if (given > done and not excused) or unread:
                found[tp] = (done, given)
        return found

    def busy_s(self) -> float:
        """For how long the fetch in hand has been dealt with; 0 when there is none."""
        return time.monotonic() - self._took_up_at if self.working.locked() else 0.0

    def rewind(self, tp: TP, offset: int) -> None:
        """Read the partition again from *offset* on. Raises LeaseLost when it is another's now."""
        self.check_lease()
        self._done.pop(tp, None)
        self._given.pop(tp, None)
        self.kafka.seek(aiokafka_tp(tp), offset)

    def pause_only(self, partitions: set[TP], reader: str = "events") -> None:
        """Read on from all partitions but these, as far as *reader* has a say in it."""
        self._held_by[reader] = partitions
        partitions = set().union(*self._held_by.values())
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
        except FencedInstanceId:
            return False  # the worker ends, and says so
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
        self.excused.clear()
        self._held_by.clear()
        await super().on_partitions_revoked(revoked)
