"""Faust's consumer with the fetch as its unit.

An offset is committed only after the worker has said `done(...)` for it, which it does when
the output is on the broker. Faust's own consumer acknowledges an event when the agent's body
is left, whatever happened.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.consumer import Consumer, ensure_TPset
from faust.transport.drivers.aiokafka import server_list
from faust.types import TP, ConsumerMessage
from mode import Service

from topics.errors import AnabranchError
from topics.kafka import aiokafka_fixes
from topics.transport.backlog import Backlog, PartitionBacklog
from topics.transport.faust_fixes import RebalanceListener, active_partitions, committed_offset
from topics.transport.fetch import Fetch
from topics.transport.fetch_reader import FetchReader, Records, aiokafka_tp
from topics.transport.group_membership import GroupMembership
from topics.transport.lease import Lease

log = logging.getLogger(__name__)

_KAFKA_PORT = 9092
_MANY_UNREAD = 32
_GROUP_ERRORS_S = 0.2
_HEARTBEATS = 1.5
"""So many heartbeats' time after a worker has joined by a name, whoever had it knows."""


class MicroBatchConsumer(Consumer):
    """Gives its agent one fetch at a time, and commits what `done` was called for.

    Its parts: the `lease`, the `membership` in the consumer group, and the `reader` of fetches.
    """

    logger = logging.getLogger("mode")  # it logs a crash with its traceback; our app says why
    consumer_stopped_errors = (ConsumerStoppedError,)

    fetch_max_wait_ms = 500
    fetch_max_bytes = 16 * 2**20
    """Of one answer of a broker; a record that is larger still comes, alone of its partition."""
    leader_wait_s = 0.0
    """How long this worker, as the leader of a group of several, lets the others sync first."""
    tick_s = 0.02
    """How long a fetch may stay empty before the agent gets a tick (if it wants ticks)."""
    wants_ticks = False
    """Said by the worker after each fetch: a tick costs as much as a small fetch."""
    turn: Callable[[], Awaitable[None]] | None = None
    """Awaited before a fetch, unless there is a lot to do."""

    def on_init(self) -> None:
        conf = self.app.conf
        self.lease = Lease(conf.id, conf.consumer_group_instance_id, conf.broker_session_timeout)
        self.membership = GroupMembership(self.lease, lambda: self.should_stop)
        self.reader = FetchReader(self.membership, conf.broker_max_poll_records)
        self.excused: set[TP] = set()
        """Said by the worker: partitions whose rows wait for others. Nothing is wrong with it."""
        self._delivered: dict[TP, int] = {}
        """The offset behind the last record that the agent was given."""
        self._done: dict[TP, int] = {}
        self._backlog = Backlog()
        self.assignments = 0
        """How often the group has dealt its partitions out with this worker in it."""
        self._paused: set[TP] = set()
        self._paused_by: dict[str, set[TP]] = {}
        self._ticked: int | None = None
        """The generation that the agent has heard of: it gets a tick when a new one begins."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._handling = asyncio.Lock()
        self._handling_since = 0.0
        self._joined_before = False

    # -- the client below it

    @property
    def kafka(self) -> aiokafka.AIOKafkaConsumer:
        """The aiokafka consumer, once started."""
        return self.membership.kafka

    async def on_start(self) -> None:
        """Connect; joining the group follows with the subscription."""
        conf = self.app.conf
        await self.membership.start(
            leader_wait_s=self.leader_wait_s,
            bootstrap_servers=server_list(self.transport.url, _KAFKA_PORT),
            client_id=conf.broker_client_id,
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            # Producers of events may use transactions: what they abort never happened.
            isolation_level="read_committed",
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_bytes=self.fetch_max_bytes,
            fetch_max_wait_ms=self.fetch_max_wait_ms,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            **self.transport.security,  # type: ignore[attr-defined]  # it is our transport
        )

    async def on_stop(self) -> None:
        """Commit what is done, then leave the group."""
        await super().on_stop()
        await self.membership.stop()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group for *topics*."""
        self.membership.join(topics, RebalanceListener(self, self.kafka))

    @Service.task
    async def _watch_group_errors(self) -> None:
        while not self.should_stop:
            await self.sleep(_GROUP_ERRORS_S)
            try:
                self.membership.check_errors()
            except (AnabranchError, KafkaError) as exc:
                await self.crash(exc)
                return

    def assignment(self) -> set[TP]:
        """The partitions that this worker owns now."""
        return self.membership.assignment()

    # -- the lease

    @property
    def silent_s(self) -> float:
        """Seconds since the broker last answered a heartbeat or a join; 0 before the first."""
        return self.lease.silent_s

    def check_lease(self) -> None:
        """Raise LeaseLost or NameTaken when the fetch in hand may be another's, see `lease`."""
        self.lease.check(self.app.consumer_generation_id)

    @asynccontextmanager
    async def handling(self, fetch: Fetch) -> AsyncIterator[bool]:
        """Hold off rebalances while *fetch* is dealt with; False when it is out of date."""
        async with self._handling:
            self._handling_since = time.monotonic()
            self.lease.begin(fetch.generation)
            try:
                yield self.is_current(fetch)
            finally:
                self._idle.set()

    def is_current(self, fetch: Fetch) -> bool:
        """False for a fetch from before the last rebalance; its records are read again."""
        return self.flow_active and fetch.generation == self.app.consumer_generation_id

    def busy_s(self) -> float:
        """For how long the fetch in hand has been dealt with; 0 when there is none."""
        return time.monotonic() - self._handling_since if self._handling.locked() else 0.0

    # -- fetches

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                # Only then: what comes meanwhile is one batch, not several small ones in a row.
                await self._idle.wait()
                if self.turn is not None and self.reader.unread() < _MANY_UNREAD:
                    await self.turn()
                fetch = await self._next_fetch()
                if fetch is not None:
                    self._idle.clear()
                    await self.callback(self._message(fetch))
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _next_fetch(self) -> Fetch | None:
        if not self.flow_active:
            await self.can_resume_flow.wait()
        active = active_partitions(self)
        generation = self.app.consumer_generation_id
        records: Records = {}
        if active:
            # Never longer: the worker may come to want ticks while this waits.
            records = await self.reader.read(active, self.tick_s, fresh=self.turn is not None)
        else:
            await asyncio.sleep(self.tick_s)
        assigned = self.assignment()
        if not self.flow_active or generation != self.app.consumer_generation_id:
            # A rebalance came between. aiokafka has moved its positions past these records,
            # so they are given back, or the next commit would pass over them.
            for tp in records.keys() & assigned:
                self.reader.give_back(tp, records[tp][0].offset)
            return None
        is_news = generation != self._ticked
        if not assigned or not (records or self.wants_ticks or is_news):
            return None
        self._ticked = generation
        self._delivered |= {tp: fetched[-1].offset + 1 for tp, fetched in records.items()}
        self._backlog.fetched(records)
        self.excused -= records.keys()
        return Fetch(records, generation)

    def _message(self, fetch: Fetch) -> ConsumerMessage:
        """The fetch as Faust passes it on, by one of its partitions."""
        tp = next(iter(fetch.records), None) or next(iter(self.assignment()))
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=fetch.records[tp][0].offset if fetch.records else 0,
            timestamp=time.time(),
            timestamp_type=0,
            headers=[],
            key=None,
            value=fetch,  # type: ignore[arg-type]  # FetchSchema passes it on as it is
            checksum=None,
            tp=tp,
            generation_id=fetch.generation,
        )

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: a busy agent holds up `_drain_messages`, which is all the pressure needed.

        Faust would stop reading this partition alone, whose prefetched records then hold
        up every other partition's fetch for aiokafka's backoff of 100 ms.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing, see `on_buffer_full`."""

    def pause_only(self, partitions: set[TP], reader: str = "events") -> None:
        """Read on from all partitions but these, as far as *reader* has a say in it."""
        self._paused_by[reader] = partitions
        partitions = set().union(*self._paused_by.values())
        if partitions == self._paused:
            return
        self.pause_partitions(partitions - self._paused)
        self.resume_partitions((self._paused - partitions) & self.assignment())
        self._paused = partitions

    def rewind(self, tp: TP, offset: int) -> None:
        """Read the partition again from *offset* on. Raises LeaseLost when it is another's now."""
        self.check_lease()
        self._done.pop(tp, None)
        self._delivered.pop(tp, None)
        self.kafka.seek(aiokafka_tp(tp), offset)

    # -- what there is to do

    def hears(self, tp: TP) -> bool:
        """The partition's leader has told us lately whether there is anything to read."""
        return self.reader.hears(tp)

    def has_unread(self, tp: TP) -> bool:
        """The partition may hold records that were not fetched yet, as far as we are told."""
        return self.reader.has_unread(tp)

    def lag(self) -> int:
        """Records of this worker's partitions that are not dealt with yet."""
        return sum(map(self.lag_of, self.assignment()))

    def backlog(self) -> list[PartitionBacklog]:
        """What there is left to do of each partition that this worker owns, and since when."""
        return [
            self._backlog.of(
                tp, done=self._done_before(tp), delivered=self._delivered.get(tp, 0),
                end=self.reader.stable_end(tp),
            )
            for tp in self.assignment()
        ]  # fmt: skip

    def lag_of(self, tp: TP) -> int:
        """Records of a partition of its own that are not dealt with yet."""
        return max(0, self.reader.stable_end(tp) - self._done_before(tp))

    def standing(self) -> dict[TP, tuple[int, int]]:
        """Partitions with something to do → the offset that is dealt with, and the one given.

        A partition that the worker has paused is not its own concern, nor are rows that wait for
        another component's answer: then only what it has not read yet is.
        """
        offsets: dict[TP, tuple[int, int]] = {}
        for tp in self.assignment() - self._paused if self.flow_active else ():
            done, delivered = self._done_before(tp), self._delivered.get(tp, 0)
            is_excused = tp in self.excused and not self._handling.locked()
            if (delivered > done and not is_excused) or self.reader.is_behind(tp):
                offsets[tp] = (done, delivered)
        return offsets

    # -- offsets

    def done(self, positions: Mapping[TP, int]) -> None:
        """All records before these offsets are dealt with; the next commit says so."""
        if self.lease.covers(self.app.consumer_generation_id):
            self._done.update(positions)

    def committed(self, tp: TP) -> int:
        """Where reading began after the assignment, if nothing was committed since."""
        return committed_offset(self, tp)

    def _done_before(self, tp: TP) -> int:
        """The offset before which all is dealt with."""
        done = self._done.get(tp)
        # Nothing yet since the assignment: count from what is committed.
        return committed_offset(self, tp) if done is None else done

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(list(self._done))

    def _new_offset(self, tp: TP) -> int | None:
        return self._done.get(tp)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        try:
            await self.kafka.commit(
                {aiokafka_tp(tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
            )
        except (CommitFailedError, IllegalStateError) as exc:
            # A rebalance came first. Its new owner reads from the last commit and finds
            # on the output topic what was written since.
            log.info("%s: offsets not committed: %s", self.app.conf.id, exc)
            return False
        except aiokafka_fixes.FencedInstanceId:
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
        """Start afresh on the partitions of a new generation."""
        # Read on, also when Faust has dropped the last fetch before the agent saw it.
        self._idle.set()
        if self.lease.name is not None and not self._joined_before:
            # Whoever had the name before, if it is alive, has to hear that first.
            await asyncio.sleep(_HEARTBEATS * self.app.conf.broker_heartbeat_interval)
        self._joined_before = True
        self.assignments += 1
        await super().on_partitions_assigned(ensure_TPset(assigned), generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish the fetch in hand, commit it, then give the partitions away."""
        self.stop_flow()
        try:
            async with asyncio.timeout(self.lease.session_s / 2):
                async with self._handling:
                    await self.commit()
                # Heartbeats are written beside the fetch: cut off, they would end this worker.
                await self.app.producer.written()  # type: ignore[attr-defined]  # it is ours
        except TimeoutError:
            log.warning("%s: rebalance before the batch in hand was done", self.app.conf.id)
        self.lease.give_back()
        self._done.clear()
        self._delivered.clear()
        self._backlog.forget()
        self._paused.clear()
        self.excused.clear()
        self._paused_by.clear()
        await super().on_partitions_revoked(revoked)

    # -- what else Faust asks of a consumer

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        raise NotImplementedError("the reader fetches")

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        raise NotImplementedError("records travel in a Fetch")

    def highwater(self, tp: TP) -> int:
        """The next offset that the partition will get."""
        return self.reader.highwater(tp)

    def topic_partitions(self, topic: str) -> int | None:
        """How many partitions *topic* has."""
        return aiokafka_fixes.group_partitions(self.kafka, topic)

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
