"""The audit: a ledger filled from the topics alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition
from pydantic import BaseModel, ConfigDict

from agents.audit.findings import (
    anew_finding,
    compacted_topics,
    identity_findings,
    partition_findings,
    removal_findings,
    unjudged_note,
)
from agents.audit.identity_sample import IdentitySample, Mismatch
from agents.audit.ledger import Account
from agents.audit.partition_accounts import PartitionAccounts
from agents.broker import MOST_EMPTY_FETCHES, LogReader, RecordBatch, SourceCommits, Unreadable
from topics.pipeline import Topology
from topics.settings import BrokerSettings

_POLL_S = 0.1
_LOOK_S = 10.0
"""How often a running audit looks for new partitions, and at its sample again."""
_SHOW_SHARE = 0.05
"""Of a running audit's time, that its results may take."""
_AT_ONCE = 2
"""Of so many parts of the partitions one is received while another is entered."""


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
    """Source records that are no longer on the topic, and have an end."""
    expired_unread: int
    """Source records that are no longer on the topic, and have none: they were never read."""
    unjudged: int
    """Offsets of which nobody can say: their end, if there was one, may have expired."""


class RecordCounts(BaseModel):
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
    written: RecordCounts
    problems: tuple[str, ...] = ()
    """What is wrong with the topics: the numbers do not mean what they say."""
    notes: tuple[str, ...] = ()
    """What the numbers leave open."""

    @property
    def passed(self) -> bool:
        """Nothing is lost, unread or ended twice, and the topics are what they were."""
        wrong = self.total.lost + self.total.duplicated + self.total.expired_unread
        return wrong == 0 and not self.problems


async def audit_topics(
    settings: BrokerSettings,
    topology: Topology,
    stop: asyncio.Event | None,
    show: Callable[[Audit], None] | None = None,
) -> Audit:
    """Audit what the topics hold now; with *stop*, also all that comes until it is set.

    *show* is given the result as it stands, about every second. Raises BrokerError, KafkaError.
    """
    show_at = 0.0
    async with LogReader.of(settings) as reader:
        audit = _AuditRun(reader, settings, topology)
        while True:
            await audit.read()
            if (stop is None or stop.is_set()) and not await audit.waits():
                return await audit.result()
            began = time.monotonic()
            if show is not None and began >= show_at:
                show(await audit.result())
                took_s = time.monotonic() - began
                show_at = began + max(1.0, took_s / _SHOW_SHARE)
            with suppress(TimeoutError):
                await asyncio.wait_for((stop or asyncio.Event()).wait(), _POLL_S)
            if stop is not None and stop.is_set():
                await asyncio.sleep(_POLL_S)  # for what it waits for: a stop is over at once


@dataclass(slots=True)
class _AuditRun:
    """An audit from pass to pass: each reads every partition to where it ends."""

    reader: LogReader
    settings: BrokerSettings
    topology: Topology
    _accounts: PartitionAccounts = field(init=False)
    _sample: IdentitySample = field(init=False)
    _commits: SourceCommits = field(init=False)
    _counts: dict[str, int] = field(default_factory=dict)
    _others: list[Mismatch] = field(default_factory=list)
    _compacted: set[str] = field(default_factory=set)
    _entering: asyncio.Lock = field(default_factory=asyncio.Lock)
    """The accounts are for one thread at a time."""
    _looked_at: float = float("-inf")
    _compared_at: float = float("-inf")

    def __post_init__(self) -> None:
        self._accounts = PartitionAccounts(self.topology)
        self._sample = IdentitySample(self.topology)
        self._commits = SourceCommits(self.settings, self.topology)

    @property
    def _topics(self) -> tuple[str, str, str]:
        return self.topology.events, self.topology.decisions, self.topology.dead_letters

    async def read(self) -> None:
        """One pass."""
        if time.monotonic() - self._looked_at > _LOOK_S:
            await self._look()
        # An event is never newer than its decision, nor a dead letter than a decision behind it.
        for topic in self._topics:
            self._accounts.know(await self.reader.bounds(self._of(topic), "end"))
            if topic == self.topology.events:
                self._accounts.bound_missing(self._accounts.ends(topic))
        numbers = self._accounts.numbers()
        readings = [
            asyncio.ensure_future(self._read(numbers[at::_AT_ONCE])) for at in range(_AT_ONCE)
        ]
        try:
            await asyncio.gather(*readings)
        finally:
            for reading in readings:
                reading.cancel()

    async def _read(self, numbers: Sequence[int]) -> None:
        """Read some partitions to where they end."""
        nothing = 0
        while positions := self._accounts.pending(numbers):
            for tp, result in (await self.reader.fetch(positions)).items():
                if result.dropped:
                    first = await self.reader.bounds([tp], "first")
                    end = await self.reader.bounds([tp], "end")
                    self._accounts.dropped(tp, first[tp], end[tp])
                async with self._entering:
                    await asyncio.to_thread(self._enter, tp, result.batches)
            nothing = nothing + 1 if positions == self._accounts.pending(numbers) else 0
            if nothing > MOST_EMPTY_FETCHES:
                tp, position = next(iter(positions.items()))
                raise Unreadable(tp, position, self._accounts.ends(tp.topic)[tp])

    def _enter(self, tp: TopicPartition, batches: Sequence[RecordBatch]) -> None:
        for ends in self._accounts.take(tp, batches):
            if tp.topic == self.topology.decisions:
                self._sample.offer(tp.partition, ends, self._accounts.first_seen(tp.partition))

    async def _look(self) -> None:
        """Take up partitions that were added."""
        new: list[TopicPartition] = []
        for topic in self._topics:
            count, known = await self.reader.partitions(topic), self._counts.get(topic, 0)
            new += [TopicPartition(topic, partition) for partition in range(known, count)]
            self._counts[topic] = max(count, known)
        if new:
            self._accounts.add(await self.reader.bounds(new, "first"))
        self._looked_at = time.monotonic()

    def _of(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for partition in range(self._counts[topic])]

    async def waits(self) -> bool:
        """Whether a moment will tell more: events that are gone may be in a worker's hand."""
        await self._commits.look(self._accounts.gone_behind())
        return self._commits.moves()

    async def result(self) -> Audit:
        """The accounts as they stand."""
        known, topology = self._accounts, self.topology
        await self._commits.look(known.gone_behind())
        by_number = {
            number: known.account(number, *self._commits.standing(number, known.first_seen(number)))
            for number in known.numbers()
        }
        total = sum(by_number.values(), Account())
        return Audit(
            pipeline=topology.pipeline,
            partitions={number: _shown(account) for number, account in by_number.items()},
            total=_shown(total),
            written=RecordCounts(
                events=known.written(topology.events),
                decisions=known.written(topology.decisions),
                dead_letters=known.written(topology.dead_letters),
            ),
            problems=tuple(await self._problems(total)),
            notes=tuple(self._notes(total)),
        )

    async def _problems(self, total: Account) -> list[str]:
        known, topology = self._accounts, self.topology
        removed = {topic: known.removed(topic) for topic in self._topics}
        if time.monotonic() - self._compared_at > _LOOK_S:
            self._others = await self._sample.mismatches(self.reader)
            if total.lost or any(removed.values()):
                self._compacted = await compacted_topics(self.settings, self._topics)
            self._compared_at = time.monotonic()
        # Asked for anew: what was decided may be newer than the ends that were read to.
        events = await self.reader.bounds(self._of(topology.events), "end")
        far = known.far_ends(events)
        by_number = {tp.partition: end for tp, end in events.items()}
        return [
            *partition_findings(topology, self._counts),
            *(anew_finding(tp.topic, tp.partition) for tp in known.made_anew()),
            *identity_findings(topology, far, by_number, self._others),
            *removal_findings(removed, self._compacted, total.lost),
        ]

    def _notes(self, total: Account) -> list[str]:
        notes = []
        if total.unjudged:
            notes.append(unjudged_note(self.topology, total.unjudged))
        if strange := self._accounts.strange():
            notes.append(
                f"{strange:,} records of {self.topology.decisions} and "
                f"{self.topology.dead_letters} are not Anabranch's: left out"
            )
        return notes


def _shown(account: Account) -> PartitionAudit:
    return PartitionAudit(
        inputs=account.inputs, decided=account.decided, dead=account.dead,
        in_flight=account.in_flight, lost=account.lost, duplicated=account.duplicated,
        redriven=account.redriven, expired=account.expired,
        expired_unread=account.expired_unread, unjudged=account.unjudged,
    )  # fmt: skip
