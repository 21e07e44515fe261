"""Membership in a consumer group: an aiokafka consumer in the main event loop.

Faust's own runs in a thread, which costs a hand-off (GIL) per fetch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import aiokafka
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownMemberIdError,
)
from aiokafka.protocol.commit import OffsetCommitResponse_v2, OffsetCommitResponse_v3
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from faust.transport.consumer import ensure_TPset
from faust.types import TP

from topics.errors import NotAuthorized
from topics.kafka import aiokafka_fixes, close_client
from topics.transport.assignor import PartitionNumberAssignor
from topics.transport.lease import Lease

log = logging.getLogger(__name__)

ASSIGNORS = (PartitionNumberAssignor, RangePartitionAssignor)
"""A group uses the first one that all of its members know; earlier versions know the second."""
_REFUSED = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)


class GroupMembership:
    """Joins a consumer group and stays in it; renews the lease whenever the broker answers."""

    def __init__(self, lease: Lease, is_leaving: Callable[[], bool]) -> None:
        self._lease = lease
        self._is_leaving = is_leaving
        self._kafka: aiokafka.AIOKafkaConsumer | None = None
        self._owned: tuple[object, set[TP]] = (None, set())
        """aiokafka's assignment, and the same as Faust has it."""

    @property
    def kafka(self) -> aiokafka.AIOKafkaConsumer:
        """The aiokafka consumer, once started."""
        if self._kafka is None:
            raise ConsumerStoppedError
        return self._kafka

    async def start(self, *, leader_wait_s: float, **options: Any) -> None:
        """Connect, with *options* of an aiokafka consumer; joining follows with `join`.

        As the leader of a group of several, let the others sync first, for *leader_wait_s*.
        """
        options = {"partition_assignment_strategy": ASSIGNORS, **options}
        self._kafka = aiokafka.AIOKafkaConsumer(
            group_id=self._lease.group,
            group_instance_id=self._lease.name,
            session_timeout_ms=int(self._lease.session_s * 1000),
            **options,
        )
        await self._kafka.start()
        aiokafka_fixes.hold_back_fetches(self._kafka)
        aiokafka_fixes.join_at_once(self._kafka)
        aiokafka_fixes.delay_leader(self._kafka, lambda: asyncio.sleep(leader_wait_s))
        self._watch_heartbeats()
        self._notice_that_the_name_is_taken()

    def join(self, topics: Iterable[str], listener: ConsumerRebalanceListener) -> None:
        """Join the group for *topics*."""
        self.kafka.subscribe(topics=sorted(topics), listener=listener)

    async def stop(self) -> None:
        """Leave the group, and disconnect."""
        if self._kafka is not None:
            await close_client(self._kafka)

    def assignment(self) -> set[TP]:
        """The partitions that this worker owns now."""
        owned = self.kafka.assignment()
        if owned is not self._owned[0]:
            self._owned = owned, ensure_TPset(owned)
        return set(self._owned[1])

    def check_errors(self) -> None:
        """Take aiokafka's errors off it, or it stays out of the group for ever.

        Raises those that will not pass: NotAuthorized, NameTaken, or a KafkaError.
        """
        try:
            if self._lease.name_is_taken:
                raise aiokafka_fixes.FencedInstanceId
            aiokafka_fixes.raise_group_error(self.kafka)
        except _REFUSED as exc:
            resource = ", ".join(map(str, exc.args)) or type(exc).__name__
            raise NotAuthorized(self._lease.group, f"to read {resource}") from exc
        except KafkaError as exc:
            # aiokafka hands on no more than a text of it.
            if aiokafka_fixes.FencedInstanceId.__name__ in f"{type(exc).__name__} {exc}":
                raise self._lease.name_taken() from exc
            if aiokafka_fixes.has_given_up_group(self.kafka):
                raise
            log.warning("%s: joining the group again after: %s", self._lease.group, exc)

    # -- what the broker answers

    def _watch_heartbeats(self) -> None:
        """Renew the lease with every answer that renews the member's session at the broker."""

        def renew_after_join(request: Any, answer: Any) -> None:
            if isinstance(request, JoinGroupRequest | SyncGroupRequest) and not answer.error_code:
                # Now, and not when the assignment is taken up: that may be any time later.
                self._lease.renew(time.monotonic())

        aiokafka_fixes.observe_answers(self.kafka, renew_after_join)
        aiokafka_fixes.observe_heartbeats(self.kafka, self._lease.renew)

    def _notice_that_the_name_is_taken(self) -> None:
        """Never join again by a name that another worker has now.

        A broker tells a member that it has replaced no more than that it does not know it. aiokafka
        would join anew: the two would take the name from each other in turns, each of them
        writing in between.
        """

        def refuse_to_return(_: Any, answer: Any) -> None:
            # Without a name, or after its session, a member is forgotten in order.
            may_return = self._lease.name is None or not self._lease.is_in_session
            if not may_return and not self._is_leaving() and _is_unknown(answer):
                self._lease.name_is_taken = True
                raise aiokafka_fixes.FencedInstanceId

        aiokafka_fixes.observe_answers(self.kafka, refuse_to_return)


def _is_unknown(answer: object) -> bool:
    """Whether the broker says that it does not know the member that has asked."""
    codes: Sequence[int] = [getattr(answer, "error_code", 0)]
    if isinstance(answer, OffsetCommitResponse_v2 | OffsetCommitResponse_v3):
        codes = [code for _, partitions in answer.topics for _, code in partitions]
    return UnknownMemberIdError.errno in codes
