"""Faust's consumer as a member of its group: aiokafka in the main event loop.

Faust's own runs in a thread, which costs a hand-off (GIL) per fetch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from faust.transport.consumer import Consumer, ensure_TPset
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from topics.errors import NameTaken, NotAuthorized
from topics.kafka import close
from topics.kafka.aiokafka_fixes import join_at_once
from topics.transport.assignor import PartitionNumberAssignor
from topics.transport.group_errors import FencedInstanceId, is_unknown

log = logging.getLogger(__name__)

_KAFKA_PORT = 9092
_GROUP_ERRORS_S = 0.2
_UNTIL_TAKEN_UP_S = 3600.0
_HEARTBEATS = 1.5
"""So many heartbeats' time after a worker has joined by a name, whoever had it knows."""


_REFUSED = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)


class GroupMember(Consumer):
    """Joins its consumer group and stays in it; knows when the broker last said so."""

    logger = logging.getLogger("mode")  # it logs a crash with its traceback; our app says why
    consumer_stopped_errors = (ConsumerStoppedError,)
    fetch_max_wait_ms = 500
    fetch_max_bytes = 16 * 2**20
    """Of one answer of a broker; a record that is larger still comes, alone of its partition."""
    assignors: Sequence[Any] = (PartitionNumberAssignor, RangePartitionAssignor)
    """A group uses the first one that all of its members know; earlier versions know the second."""
    leader_wait_s = 0.0
    """How long this worker, as the leader of a group of several, lets the others sync first."""

    def on_init(self) -> None:
        self._kafka: aiokafka.AIOKafkaConsumer | None = None
        self._owned: tuple[object, set[TP]] = (None, set())
        """aiokafka's assignment, and the same as Faust has it."""
        self._lease_renewed_at = 0.0
        self._joined_before = False
        self.name_is_taken = False
        """Another worker has joined by our name: nothing may be written any more."""

    @property
    def kafka(self) -> aiokafka.AIOKafkaConsumer:
        """The aiokafka consumer, once started."""
        if self._kafka is None:
            raise ConsumerStoppedError
        return self._kafka

    async def on_start(self) -> None:
        """Connect; joining the group follows with the subscription."""
        conf = self.app.conf
        self._kafka = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=driver.server_list(self.transport.url, _KAFKA_PORT),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=self.assignors,
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            # Producers of events may use transactions: what they abort never happened.
            isolation_level="read_committed",
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_bytes=self.fetch_max_bytes,
            fetch_max_wait_ms=self.fetch_max_wait_ms,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            **self.transport.security,  # type: ignore[attr-defined]  # it is our transport
        )
        await self._kafka.start()
        # While anything that a broker has sent is not taken up it is asked for nothing more: else
        # a worker that is busy would soon hold an answer, or a large record, of each partition.
        self._kafka._fetcher._prefetch_backoff = _UNTIL_TAKEN_UP_S
        join_at_once(self._kafka._coordinator)

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
        self._notice_that_the_name_is_taken()

    # -- the group

    def _let_followers_sync_first(self) -> None:
        coordinator = self.kafka._coordinator
        assign = coordinator._perform_assignment

        async def perform_assignment(joined: Any) -> Any:
            if len(joined.members) > 1:
                await asyncio.sleep(self.leader_wait_s)
            return await assign(joined)

        coordinator._perform_assignment = perform_assignment

    def _notice_that_the_name_is_taken(self) -> None:
        """Never join again by a name that another worker has now.

        A broker tells a member that it has replaced no more than that it does not know it. aiokafka
        would join anew: the two would take the name from each other in turns, each of them
        writing in between.
        """
        coordinator = self.kafka._coordinator
        send = coordinator._send_req

        async def send_req(request: Any) -> Any:
            answer = await send(request)
            if self._replaced_by(answer):
                self.name_is_taken = True
                raise FencedInstanceId
            return answer

        coordinator._send_req = send_req

    def _replaced_by(self, answer: Any) -> bool:
        conf = self.app.conf
        in_session = 0 < self.silent_s < conf.broker_session_timeout
        if conf.consumer_group_instance_id is None or self.should_stop or not in_session:
            return False  # without a name, or after its session, a member is forgotten in order
        return is_unknown(answer)

    def name_taken(self) -> NameTaken:
        """What there is to say when `name_is_taken`."""
        return NameTaken(self.app.conf.id, str(self.app.conf.consumer_group_instance_id))

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
                if self.name_is_taken:
                    raise FencedInstanceId
                coordinator.check_errors()
            except _REFUSED as exc:
                named = ", ".join(map(str, exc.args)) or type(exc).__name__
                await self.crash(NotAuthorized(self.app.conf.id, f"to read {named}"))
                return
            except KafkaError as exc:
                # aiokafka hands on no more than a text of it.
                if isinstance(exc, FencedInstanceId) or FencedInstanceId.__name__ in str(exc):
                    await self.crash(self.name_taken())
                    return
                if coordinator._coordination_task.done():
                    await self.crash(exc)
                    return
                log.warning("%s: joining the group again after: %s", self.app.conf.id, exc)

    def _watch_heartbeats(self) -> None:
        """Renew the lease with every answer that renews the member's session at the broker."""
        coordinator = self.kafka._coordinator
        beat, send = coordinator._do_heartbeat, coordinator._send_req

        async def send_req(request: Any) -> Any:
            answer = await send(request)
            if isinstance(request, JoinGroupRequest | SyncGroupRequest) and not answer.error_code:
                # Now, and not when the assignment is taken up: that may be any time later.
                self._lease_renewed_at = time.monotonic()
            return answer

        async def heartbeat() -> bool:
            sent_at = time.monotonic()
            answered: bool = await beat()
            if answered:
                self._lease_renewed_at = sent_at
            return answered

        coordinator._do_heartbeat, coordinator._send_req = heartbeat, send_req

    @property
    def silent_s(self) -> float:
        """Seconds since the broker last answered a heartbeat or a join; 0 before the first."""
        return time.monotonic() - self._lease_renewed_at if self._lease_renewed_at else 0.0

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start afresh on the partitions of a new generation."""
        if self.app.conf.consumer_group_instance_id is not None and not self._joined_before:
            # Whoever had the name before, if it is alive, has to hear that first.
            await asyncio.sleep(_HEARTBEATS * self.app.conf.broker_heartbeat_interval)
        self._joined_before = True
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
        owned = self.kafka.assignment()
        if owned is not self._owned[0]:
            self._owned = owned, ensure_TPset(owned)
        return set(self._owned[1])

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
