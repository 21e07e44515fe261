"""Reading fetches: what has come of a worker's partitions, and how much there is still."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import aiokafka
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from topics.kafka import aiokafka_fixes
from topics.transport.fetch import continued
from topics.transport.group_membership import GroupMembership

_GATHER_S = 0.02
_GATHERED_BYTES = 4 * 2**20
"""With so many bytes in hand no more are gathered: what there is keeps a worker busy."""
_AT_ONCE_S = 0.0005
_REFRESH_S = 0.003
_HEARD_WITHIN_S = 3.0
"""A fetch is answered within half a second, also where there is nothing; a busy process is late."""

Records = dict[TP, list[ConsumerRecord]]


def aiokafka_tp(tp: TP) -> aiokafka.TopicPartition:
    """The same partition, as aiokafka has it."""
    return aiokafka.TopicPartition(tp.topic, tp.partition)


class FetchReader:
    """Reads the partitions that a member of a group owns, with all that came meanwhile."""

    def __init__(self, membership: GroupMembership, max_records: int | None) -> None:
        self._membership = membership
        self._max_records = max_records

    @property
    def kafka(self) -> aiokafka.AIOKafkaConsumer:
        """The aiokafka consumer, once started."""
        return self._membership.kafka

    async def read(self, active: set[TP], timeout_s: float, *, fresh: bool) -> Records:
        """What there is of partitions *active*, or comes within *timeout_s*.

        *fresh*: with what has come since the last fetch was answered.
        """
        asked_at = time.monotonic()
        records = await self._getmany(active, timeout_s)
        if fresh and records and time.monotonic() - asked_at < _AT_ONCE_S:
            # They were fetched when the last wave began: here is what has come since.
            _add(records, await self._getmany(active, _REFRESH_S))
        await self._gather(records, active)
        return records

    def give_back(self, tp: TP, offset: int) -> None:
        """Read again from *offset* on, unless a new assignment begins before it."""
        state = aiokafka_fixes.partition_state(self.kafka, aiokafka_tp(tp))
        if state.has_valid_position and state.position > offset:
            self.kafka.seek(aiokafka_tp(tp), offset)

    async def _getmany(self, active: set[TP] | None, timeout_s: float) -> Records:
        aiokafka_fixes.forget_fetched(self.kafka, active)
        fetched = await aiokafka_fixes.fetched_records(
            self.kafka, active, timeout_s, self._max_records
        )
        return {TP(tp.topic, tp.partition): records for tp, records in fetched.items()}

    async def _gather(self, records: Records, active: set[TP]) -> None:
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

    # -- how much there is

    def _waiting_behind(self, records: Records) -> int:
        """How many records follow these in those of their partitions that are still owned."""
        owned = self._membership.assignment()  # a rebalance may have come since they were fetched
        return sum(
            max(0, self.stable_end(tp) - fetched[-1].offset - 1)
            for tp, fetched in records.items()
            if tp in owned
        )

    def unread(self) -> int:
        """How many records have come that were not fetched yet, as far as is known."""
        return sum(
            max(0, _stable_end(state) - state.position)
            for state in aiokafka_fixes.partition_states(self.kafka)
            if state.has_valid_position
        )

    def highwater(self, tp: TP) -> int:
        """The next offset that the partition will get."""
        return self.kafka.highwater(aiokafka_tp(tp)) or 0

    def stable_end(self, tp: TP) -> int:
        """Up to where the partition can be read, as of the last fetch.

        What is behind is of transactions that are still open, and may be for a quarter of an hour.
        """
        stable: int | None = self.kafka.last_stable_offset(aiokafka_tp(tp))
        # A broker that knows no transactions says -1.
        return stable if stable is not None and stable >= 0 else self.highwater(tp)

    def is_behind(self, tp: TP) -> bool:
        """The position is before what can be read, as of the last fetch."""
        state = aiokafka_fixes.partition_state(self.kafka, aiokafka_tp(tp))
        return bool(state.has_valid_position and state.position < self.stable_end(tp))

    def has_unread(self, tp: TP) -> bool:
        """The partition may hold records that were not fetched yet, as far as we are told."""
        if not self.hears(tp):
            return True
        state = aiokafka_fixes.partition_state(self.kafka, aiokafka_tp(tp))
        return bool(state.position < _stable_end(state))

    def hears(self, tp: TP) -> bool:
        """The partition's leader has told us lately whether there is anything to read.

        One broker may be out of our reach while the group's coordinator, another one, is not: then
        nothing comes of the partitions that it leads, whatever is written there.
        """
        if aiokafka_tp(tp) not in aiokafka_fixes.assigned_now(self.kafka):
            return False
        state = aiokafka_fixes.partition_state(self.kafka, aiokafka_tp(tp))
        if not state.has_valid_position or state.highwater is None:
            return False
        # aiokafka notes by the wall clock when a fetch was answered; that clock may be set back.
        return bool(abs(time.time() - state.timestamp / 1000) < _HEARD_WITHIN_S)


def _bytes_of(records: Mapping[TP, list[ConsumerRecord]]) -> int:
    """Of keys and values; a null one counts as -1, which is near enough."""
    return sum(
        record.serialized_key_size + record.serialized_value_size
        for fetched in records.values()
        for record in fetched
    )


def _stable_end(state: Any) -> int:
    """The last stable offset that a broker has told of; one that knows no transactions tells -1."""
    stable: int | None = state.lso
    return stable if stable is not None and stable >= 0 else (state.highwater or 0)


def _add(records: Records, more: Mapping[TP, list[ConsumerRecord]]) -> None:
    for tp, fetched in more.items():
        records[tp] = continued(records.get(tp, []), fetched)
