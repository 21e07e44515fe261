"""Faust's consumer with the fetch as its unit, on aiokafka in the main event loop.

An offset is committed only after the worker has said `done(...)` for it, which it does when
the output is on the broker. Faust's own consumer runs in a thread, which costs a hand-off
(GIL) per fetch, and acknowledges an event when the agent's body is left, whatever happened.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata
from faust.transport.consumer import Consumer, ensure_TPset
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from topics.clients import close
from topics.errors import LeaseLost
from topics.fetch import Fetch

log = logging.getLogger(__name__)

_KAFKA_PORT = 9092
_GROUP_ERRORS_S = 0.2
_GATHER_S = 0.02
_REFUSED = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)


def _aiokafka_tp(tp: TP) -> aiokafka.TopicPartition:
    return aiokafka.TopicPartition(tp.topic, tp.partition)


class MicroBatchConsumer(Consumer):
    """Consumes fetches, commits what `done` was called for, knows how old its lease is."""

    logger = log
    consumer_stopped_errors = (ConsumerStoppedError,)
    tick_s = 0.02
    """How long a fetch may stay empty before the agent gets a tick (if it wants ticks)."""
    wants_ticks = False
    """Said by the worker after each fetch: a tick costs as much as a small fetch."""
    fetch_max_wait_ms = 500
    leader_wait_s = 0.0
    """How long this worker, as the leader of a group of several, lets the others sync first."""

    def on_init(self) -> None:
        self._kafka: aiokafka.AIOKafkaConsumer | None = None
        self._done: dict[TP, int] = {}
        self._given: dict[TP, int] = {}
        self._held: set[TP] = set()
        self._lease_renewed_at = 0.0
        self._handling = -1
        self._gave_up_waiting = False
        self.working = asyncio.Lock()

    @property
    def kafka(self) -> aiokafka.AIOKafkaConsumer:
        """The aiokafka consumer, once started."""
        if self._kafka is None:
            raise ConsumerStoppedError
        return self._kafka

    # -- life cycle

    async def on_start(self) -> None:
        """Connect; joining the group follows with the subscription."""
        conf = self.app.conf
        self._kafka = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=driver.server_list(self.transport.url, _KAFKA_PORT),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            # Range gives partition p of every topic to the same member: the join needs that.
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            # Producers of events may use transactions: what they abort never happened.
            isolation_level="read_committed",
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=self.fetch_max_wait_ms,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )
        await self._kafka.start()

    async def on_stop(self) -> None:
        """Commit what is done, then leave the group."""
        await super().on_stop()
        if self._kafka is not None:
            await close(self._kafka)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group for *topics*."""
        self.kafka.subscribe(
            topics=sorted(topics),
            listener=driver.ConsumerRebalanceListener(self),  # type: ignore[arg-type]  # duck-typed
        )
        self._watch_heartbeats()
        self._let_followers_sync_first()

    # -- the group

    def _let_followers_sync_first(self) -> None:
        coordinator = self.kafka._coordinator
        assign = coordinator._perform_assignment

        async def perform_assignment(joined: Any) -> Any:
            if len(joined.members) > 1:
                await asyncio.sleep(self.leader_wait_s)
            return await assign(joined)

        coordinator._perform_assignment = perform_assignment

    @Service.task
    async def _ask_for_group_errors(self) -> None:
        """Take aiokafka's errors off it, or it stays out of the group for ever.

        After an unexpected answer to a join or a sync it waits until somebody has asked for
        the error; its own `getmany` asks, the fetcher that is used here does not.
        """
        while not self.should_stop:
            await self.sleep(_GROUP_ERRORS_S)
            coordinator = self.kafka._coordinator
            try:
                coordinator.check_errors()
            except _REFUSED as exc:
                await self.crash(exc)
                return
            except KafkaError as exc:
                if coordinator._coordination_task.done():
                    await self.crash(exc)
                    return
                log.warning("%s: joining the group again after: %s", self.app.conf.id, exc)

    # -- the lease

    def _watch_heartbeats(self) -> None:
        coordinator = self.kafka._coordinator
        beat = coordinator._do_heartbeat

        async def heartbeat() -> bool:
            sent_at = time.monotonic()
            answered: bool = await beat()
            if answered:
                self._lease_renewed_at = sent_at
            return answered

        coordinator._do_heartbeat = heartbeat

    @property
    def silent_s(self) -> float:
        """Seconds since the broker last answered a heartbeat; 0 before the first."""
        return time.monotonic() - self._lease_renewed_at if self._lease_renewed_at else 0.0

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
            yield self.is_current(fetch)

    # -- fetching

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                message = await self._next_message()
                if message is not None:
                    # A rebalance suspends the flow: the fetch is then read again.
                    await self.wait_first(self.callback(message), self.suspend_flow.wait())
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _next_message(self) -> ConsumerMessage | None:
        if not self.flow_active:
            await self.can_resume_flow.wait()
        active = self._get_active_partitions()
        generation = self.app.consumer_generation_id
        if active:
            records = await self._getmany(active, self.tick_s if self.wants_ticks else 1.0)
            await self._gather(records, active)
        else:
            records = {}
            await asyncio.sleep(self.tick_s)
        assigned = self.assignment()
        if not self.flow_active or generation != self.app.consumer_generation_id:
            # A rebalance came between. aiokafka has moved its positions past these records,
            # so they are given back, or the next commit would pass over them.
            for tp in records.keys() & assigned:
                self.kafka.seek(_aiokafka_tp(tp), records[tp][0].offset)
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
                records.setdefault(tp, []).extend(found)

    def _waiting_behind(self, records: Mapping[TP, list[ConsumerRecord]]) -> int:
        """How many records follow these in their partitions."""
        return sum(
            max(0, self.highwater(tp) - found[-1].offset - 1) for tp, found in records.items()
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
        """Nothing: a full agent holds up `_drain_messages`, which is all the pressure needed.

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
        """Read the partition again from *offset* on."""
        self._done.pop(tp, None)
        self._given.pop(tp, None)
        self.kafka.seek(_aiokafka_tp(tp), offset)

    def pause_only(self, partitions: set[TP]) -> None:
        """Read on from all partitions but these."""
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

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start afresh on the partitions of a new generation."""
        self._lease_renewed_at = time.monotonic()
        await super().on_partitions_assigned(ensure_TPset(assigned), generation_id)

    # -- what else Faust asks of a consumer

    def _ensure_consumer(self) -> aiokafka.AIOKafkaConsumer:
        return self.kafka

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        raise NotImplementedError("records travel in a Fetch")

    def assignment(self) -> set[TP]:
        """The partitions that this worker owns now."""
        return ensure_TPset(self.kafka.assignment())

    def highwater(self, tp: TP) -> int:
        """The next offset that the partition will get."""
        return self.kafka.highwater(aiokafka.TopicPartition(tp.topic, tp.partition)) or 0

    def topic_partitions(self, topic: str) -> int | None:
        """How many partitions *topic* has."""
        known: Mapping[str, int] = self.kafka._coordinator._metadata_snapshot
        return known.get(topic)

    async def position(self, tp: TP) -> int | None:
        """The offset that is read next."""
        position: int = await self.kafka.position(tp)
        return position

    async def _seek(self, partition: TP, offset: int) -> None:
        self.kafka.seek(partition, offset)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek several partitions."""
        for tp, offset in partitions.items():
            self.kafka.seek(tp, offset)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """The first offset that each partition still has."""
        offsets: Mapping[TP, int] = await self.kafka.beginning_offsets(partitions)
        return offsets

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """The next offset that each partition will get."""
        offsets: Mapping[TP, int] = await self.kafka.end_offsets(partitions)
        return offsets

    async def create_topic(self, topic: str, *args: Any, **kwargs: Any) -> None:
        """Not here: `anabranch topics --create` makes topics, workers only use them."""
        raise NotImplementedError(f"workers create no topics, not even {topic}")

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int:
        """Not here: a stage batch keeps its source's partition number."""
        raise NotImplementedError("rows keep the partition number of their source")
