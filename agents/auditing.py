"""The audit: a ledger filled from the topics alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from aiokafka.structs import ConsumerRecord, TopicPartition
from pydantic import BaseModel, ConfigDict

from agents.following import follower, read_until
from agents.ledger import Account, Ledger
from agents.tail import readable
from topics.ends import attempt_at, buried_offset, decided_offset
from topics.settings import BrokerSettings
from topics.topology import Topology

Ends = Mapping[TopicPartition, int]

_POLL_S = 0.1
_AHEAD = 10_000_000
"""So many events may come between asking where the events end and reading how they ended."""
_SHOW_SHARE = 0.05
"""Of a running audit's time, that its results may take."""


class PartitionAudit(BaseModel):
    """How the source records of a partition ended."""

    model_config = ConfigDict(frozen=True)

    inputs: int
    decided: int
    dead: int
    in_flight: int
    lost: int
    duplicated: int
    redriven: int
    """Dead letters that went through the pipeline again; they count as what came of it."""
    expired: int
    """Source records whose own record or whose end is no longer on the topics."""


class Written(BaseModel):
    """Records that were ever written, by the topics' end offsets."""

    events: int
    decisions: int
    dead_letters: int


class Audit(BaseModel):
    """The result of an audit."""

    model_config = ConfigDict(frozen=True)

    pipeline: str
    partitions: dict[int, PartitionAudit]
    total: PartitionAudit
    written: Written

    @property
    def passed(self) -> bool:
        """Nothing is lost, nothing ended twice."""
        return self.total.lost == 0 and self.total.duplicated == 0


async def audit_topics(
    settings: BrokerSettings,
    topology: Topology,
    stop: asyncio.Event | None,
    show: Callable[[Audit], None] | None = None,
) -> Audit:
    """Audit what the topics hold now; with *stop*, also all that comes until it is set.

    *show* is given the result as it stands, about every second.
    """
    show_at = 0.0
    topics = (topology.events, topology.decisions, topology.dead_letters)
    async with follower(settings, topics, topology.partitions, from_start=True) as consumer:
        assigned = sorted(consumer.assignment())
        book = _Book(topology, await consumer.beginning_offsets(assigned))
        while True:
            ends = await _ends(consumer, topology)
            book.know(ends)
            async for tp, records in read_until(consumer, ends):
                if records and records[0].offset > book.expected[tp]:
                    book.begins_at(tp, (await consumer.beginning_offsets([tp]))[tp], records)
                book.take(tp, records)
            if stop is None or stop.is_set():
                return book.audit(ends)
            began = time.monotonic()
            if show is not None and began >= show_at:
                show(book.audit(ends))
                took_s = time.monotonic() - began
                show_at = began + max(1.0, took_s / _SHOW_SHARE)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _POLL_S)


async def _ends(consumer: object, topology: Topology) -> Ends:
    """End offsets, those of the events first: an event is never newer than its decision."""
    assigned = sorted(consumer.assignment())  # type: ignore[attr-defined]
    events = [tp for tp in assigned if tp.topic == topology.events]
    ends = dict(await consumer.end_offsets(events))  # type: ignore[attr-defined]
    rest = [tp for tp in assigned if tp.topic != topology.events]
    ends.update(await consumer.end_offsets(rest))  # type: ignore[attr-defined]
    return ends


class _Book:
    """A ledger, and where in each partition it can be complete at all."""

    def __init__(self, topology: Topology, starts: Ends) -> None:
        self._topology = topology
        self._ledger = Ledger()
        self._complete_from: dict[int, int] = {
            tp.partition: start for tp, start in starts.items() if tp.topic == topology.events
        }
        # Ends begin at 0: a first record behind that means that earlier ones are gone.
        self.expected = {
            tp: start if tp.topic == topology.events else 0 for tp, start in starts.items()
        }
        """Of each partition, the offset that should come next."""
        self._events: dict[int, int] = {}

    def know(self, ends: Ends) -> None:
        """Where the events end: a record about one far beyond is none of ours."""
        for tp, end in ends.items():
            if tp.topic == self._topology.events:
                self._events[tp.partition] = end

    def begins_at(self, tp: TopicPartition, first: int, records: Sequence[ConsumerRecord]) -> None:
        """The broker holds nothing before *first*; *records* come next.

        Where it has dropped what was expected, the ends of earlier events are unknown. Other
        gaps are transaction markers, or records that somebody has deleted: those are missed.
        """
        if first > self.expected[tp] and (offsets := self._source_offsets(tp, records)):
            self._complete_from[tp.partition] = max(self._complete_from[tp.partition], offsets[0])

    def take(self, tp: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        """Enter the records of one partition of one topic."""
        if not records:
            return
        offsets = self._source_offsets(tp, records)
        self.expected[tp] = records[-1].offset + 1
        if tp.topic == self._topology.events:
            self._ledger.enter(tp.partition, offsets)
            return
        if tp.topic == self._topology.decisions:
            self._ledger.decide(tp.partition, offsets)
        else:
            self._ledger.bury(tp.partition, offsets)
        if len(offsets) < len(records):
            self._end_again(tp, records)

    def _source_offsets(self, tp: TopicPartition, records: Sequence[ConsumerRecord]) -> list[int]:
        """The source offsets that first attempts are about."""
        if tp.topic == self._topology.events:
            return [record.offset for record in records]
        read = decided_offset if tp.topic == self._topology.decisions else buried_offset
        most = self._events[tp.partition] + _AHEAD

        def credible(record: ConsumerRecord) -> int | None:
            offset = read(record)
            if offset is not None and not 0 <= offset < most:
                raise ValueError(f"the events topic has no offset {offset}")
            return offset

        return readable(records, credible)

    def _end_again(self, tp: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        """Enter what later attempts came to."""
        is_decision = tp.topic == self._topology.decisions
        for record in records:
            with suppress(KeyError, ValueError):  # not ours: it has been told already
                offset, attempt = attempt_at(record, is_decision=is_decision)
                if attempt > 1:
                    self._ledger.end_again(tp.partition, offset, attempt, decided=is_decision)

    def audit(self, ends: Ends) -> Audit:
        """The books as they stand."""
        accounts: dict[int, PartitionAudit] = {}
        total, expired = Account(), 0
        for partition in range(self._topology.partitions):
            start = self._complete_from[partition]
            account = self._ledger.account(partition, start)
            accounts[partition] = _shown(account, start)
            total, expired = total + account, expired + start
        by_topic = {
            topic: sum(end for tp, end in ends.items() if tp.topic == topic)
            for topic in (
                self._topology.events, self._topology.decisions, self._topology.dead_letters)
        }  # fmt: skip
        return Audit(
            pipeline=self._topology.pipeline,
            partitions=accounts,
            total=_shown(total, expired),
            written=Written(
                events=by_topic[self._topology.events],
                decisions=by_topic[self._topology.decisions],
                dead_letters=by_topic[self._topology.dead_letters],
            ),
        )


def _shown(account: Account, expired: int) -> PartitionAudit:
    return PartitionAudit(
        inputs=account.inputs, decided=account.decided, dead=account.dead,
        in_flight=account.in_flight, lost=account.lost, duplicated=account.duplicated,
        redriven=account.redriven, expired=expired,
    )  # fmt: skip
