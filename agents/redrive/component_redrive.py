"""What a component does about the redrive topic: its part of an errand, then it passes it on.

Errands travel beside the stream, many at a time. Events on their first way come first: while they
flow, errands get a share of a worker's time, and no more than some milliseconds of it at once.

An errand that cannot be dealt with yet is put aside; those behind it go on. After a restart all
from the first that waited are read again: the weighting agent ends each attempt once.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.redrive.dead_letter_writer import write_while_they_fit
from agents.redrive.rows import Refusals
from agents.workers import Wiring
from topics.errors import WireError
from topics.kafka import Record
from topics.records import StageBatch
from topics.redrive import Errand, ErrandRoute, contents_of, next_of, opened
from topics.redrive.record import encoded

log = logging.getLogger(__name__)

SHARE = 0.2
"""Of a worker's time, that errands may take while events flow."""
_SAVED_S = 0.05
"""So much of that share is kept for later, at most."""
_AT_ONCE_WHILE_EVENTS_FLOW = 256
_EVENTS_FLOW_FOR_S = 0.5
"""After events have come they are taken to flow for so long: more may be on their way."""
_AT_ONCE = 512
_AT_A_STRETCH_S = 0.03
"""Without events, errands are dealt with for so long: then it is time to look for events."""
_LOOK_AGAIN_S = 0.1
"""How often it is tried again to deal with errands that wait."""
_MOST_HELD = 4000
_MOST_HELD_BYTES = 8 * 2**20
"""With so many errands of a partition in memory, or bytes of them, no more of it are read."""
_AT_ONCE_BYTES = 4 * 2**20
"""So many bytes of errands are dealt with at once, or one errand."""


Addressed = tuple[ConsumerRecord, Errand]
"""A record, and its errand."""


class Answer(NamedTuple):
    """What a component makes of errands; those that it says nothing of cannot be dealt with yet."""

    outputs: StageBatch | None
    refused: Refusals = {}  # noqa: RUF012  # never changed


Run = Callable[[Sequence[Errand]], Awaitable[Answer]]
"""Runs a component on events of one source partition; their offsets ascend."""


@dataclass(slots=True)
class _Backlog:
    """What is to be done of one partition of the redrive topic."""

    read_to: int = 0
    """Behind the last record that was read."""
    queue: deque[ConsumerRecord] = field(default_factory=deque)
    waiting: list[ConsumerRecord] = field(default_factory=list)
    """Those that could not be dealt with, before any in the queue."""
    try_at: float = 0.0

    nbytes: int = 0
    """Of all that is to be done."""

    @property
    def is_full(self) -> bool:
        """No more are to be read for now."""
        held = len(self.queue) + len(self.waiting)
        return held >= _MOST_HELD or self.nbytes >= _MOST_HELD_BYTES

    @property
    def done(self) -> int:
        """All records before this offset are dealt with."""
        first = next(iter([*self.waiting[:1], *islice(self.queue, 1)]), None)
        return self.read_to if first is None else first.offset

    def taken(self, most: int, now: float, *, in_order: bool) -> list[ConsumerRecord]:
        """Up to *most* records to deal with now; with *in_order* none before those that wait."""
        if self.waiting and now >= self.try_at:
            count = self._fitting(self.waiting, most)
            again, self.waiting = self.waiting[:count], self.waiting[count:]
            return again
        if self.waiting and in_order:
            return []
        return [self.queue.popleft() for _ in range(self._fitting(self.queue, most))]

    def _fitting(self, records: Iterable[ConsumerRecord], most: int) -> int:
        """How many of the first *most* records are taken at once: one at least, if there is any."""
        count = taken = 0
        for record in islice(records, most):
            nbytes = _size(record)
            if count and taken + nbytes > _AT_ONCE_BYTES:
                break
            count, taken = count + 1, taken + nbytes
        self.nbytes -= taken
        return count

    def come(self, records: Iterable[ConsumerRecord]) -> None:
        """These are to be dealt with."""
        for record in records:
            self.queue.append(record)
            self.nbytes += _size(record)

    def put_aside(self, records: Sequence[ConsumerRecord], now: float) -> None:
        """These are to be tried again."""
        if records:
            self.nbytes += sum(map(_size, records))
            self.waiting = sorted([*self.waiting, *records], key=lambda record: record.offset)
            self.try_at = now + _LOOK_AGAIN_S


def _size(record: ConsumerRecord) -> int:
    parts = (record.key, record.value, *(content for _, content in record.headers))
    return sum(len(part or b"") for part in parts)


class Errands(ABC):
    """Reads the redrive topic and deals with what is addressed here."""

    in_order = False
    """Those that wait all wait for the same, so none is dealt with before them."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.route = ErrandRoute(wiring.pipeline)
        self._topic = wiring.topology.redrive
        self._backlogs: dict[int, _Backlog] = {}
        self._credit_s = 0.0
        self._credited_at = time.monotonic()
        self._events_at = float("-inf")

    @property
    def waits(self) -> bool:
        """Some errand has not been dealt with yet."""
        return any(it.queue or it.waiting for it in self._backlogs.values())

    def forget(self) -> None:
        """Partitions may have new owners: what was read is read again."""
        self._backlogs.clear()

    async def deal(
        self, fetched: Mapping[TP, Sequence[ConsumerRecord]], *, events_flow: bool
    ) -> None:
        """Deal with records of the redrive topic; what they lead to is written then.

        Not with all of them at once: what is left is for the next call, which comes with the
        next fetch, or soon (see `waits`). *events_flow*: events have come with these.
        """
        for tp, records in fetched.items():
            backlog = self._backlogs.setdefault(tp.partition, _Backlog())
            backlog.come(record for record in records if self.is_for_us(record))
            backlog.read_to = records[-1].offset + 1
        if events_flow:
            self._events_at = time.monotonic()
        share = time.monotonic() - self._events_at < _EVENTS_FLOW_FOR_S
        if self._may_begin() or not share:
            await self._work_off(share=share)
        for partition, backlog in self._backlogs.items():
            self.wiring.app.batches.done({TP(self._topic, partition): backlog.done})
        full = {
            TP(self._topic, partition) for partition, it in self._backlogs.items() if it.is_full
        }
        self.wiring.app.batches.pause_only(full, "errands")

    def _may_begin(self) -> bool:
        """Errands have some of their share left."""
        now = time.monotonic()
        earned = (now - self._credited_at) * SHARE
        self._credited_at = now
        self._credit_s = min(_SAVED_S, self._credit_s + earned)
        return self._credit_s > 0

    async def _work_off(self, *, share: bool) -> None:
        """One batch if errands have only a *share*, else as many as there is time for.

        Partitions take turns.
        """
        most = _AT_ONCE_WHILE_EVENTS_FLOW if share else _AT_ONCE
        started = now = time.monotonic()
        idle = 0
        while idle < len(self._backlogs):
            partition = next(iter(self._backlogs))
            backlog = self._backlogs.pop(partition)
            self._backlogs[partition] = backlog  # the last one to have another turn
            if records := backlog.taken(most, now, in_order=self.in_order):
                backlog.put_aside(await self.run(records), time.monotonic())
                idle = 0
            else:
                idle += 1
            now = time.monotonic()
            if (records and share) or now - started > _AT_A_STRETCH_S:
                break
        if share:
            self._credit_s -= now - started

    @abstractmethod
    def is_for_us(self, record: ConsumerRecord) -> bool:
        """The record has to be dealt with here, as far as it says; most have not."""

    @abstractmethod
    async def run(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """Deal with records of one partition; those that cannot be dealt with yet."""

    async def pass_on(self, errands: Sequence[Errand]) -> None:
        """Write errands to those that are to deal with them next.

        One that has grown too large for the topic goes to its end instead.
        """
        by_partition = defaultdict[int, list[Errand]](list)
        for errand, partition in zip(errands, self.route.partitions(errands), strict=True):
            by_partition[partition].append(errand)
        refused: list[Errand] = []
        for partition, some in by_partition.items():
            left = some
            while left:
                written = await self._send(partition, left)
                refused += left[written : written + 1]
                left = left[written + 1 :]
        for errand in refused:
            reason = f"with what is known of it, it is larger than {self._topic} takes a record"
            log.warning("%s@%d: %s", errand.about.source.topic, errand.offset, reason)
            await self._send(errand.partition, [errand.refusal(reason)])

    async def _send(self, partition: int, errands: Sequence[Errand]) -> int:
        async def write(records: Sequence[Record]) -> None:
            await self.wiring.app.writer.write(self._topic, partition, records)

        now_ms = int(time.time() * 1000)
        return await write_while_they_fit(write, [encoded(errand, now_ms) for errand in errands])

    def opened(
        self, records: Sequence[ConsumerRecord]
    ) -> tuple[list[Addressed], list[tuple[ConsumerRecord, WireError]]]:
        """The errands of records, and the records that are none of this pipeline's, and why."""
        good: list[Addressed] = []
        bad: list[tuple[ConsumerRecord, WireError]] = []
        topology = self.wiring.topology
        for record in records:
            try:
                errand = opened(record.key, record.value, record.headers)
                of = errand.about.source
                if of.topic != topology.events or of.partition >= topology.partitions:
                    raise WireError(f"not an errand: its source is {of.topic}[{of.partition}]")
            except WireError as exc:
                bad.append((record, exc))
            else:
                good.append((record, errand))
        where = self.route.partitions([errand for _, errand in good])
        here: list[Addressed] = []
        for (record, errand), partition in zip(good, where, strict=True):
            known = errand.about.next is not None and self.route.knows(errand.about.next)
            if known and partition != record.partition:
                why = f"not an errand: {errand.about.next} reads it on another partition"
                bad.append((record, WireError(why)))
            else:
                here.append((record, errand))
        return here, bad

    def skip(self, record: ConsumerRecord, exc: WireError) -> None:
        """Say that a record is no errand that can be dealt with."""
        log.warning("%s[%d]@%d skipped: %s", record.topic, record.partition, record.offset, exc)
        self.wiring.metrics.observe_skipped()


class StageErrands(Errands):
    """Runs components on the events of the errands that are addressed to them, by name."""

    def __init__(self, wiring: Wiring, runs: Mapping[str, Run]) -> None:
        super().__init__(wiring)
        self._runs = runs

    def is_for_us(self, record: ConsumerRecord) -> bool:
        """It is addressed to one of the components."""
        return next_of(record.headers) in self._runs

    async def run(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """Run the components on all events at once; the errands go on to the next."""
        left, _ = self.opened(records)  # the weighting agent reads all records, and says so
        aside: list[ConsumerRecord] = []
        while left:
            name, some, left = alike(left)
            outputs, refused = await self._runs[name]([errand for _, errand in some])
            by_offset = dict(zip(outputs.rows.offsets.tolist(), contents_of(outputs), strict=True)
                             if outputs is not None else ())  # fmt: skip
            onward: list[Errand] = []
            for record, errand in some:
                if errand.offset in refused:
                    self.skip(record, refused[errand.offset])
                elif errand.offset in by_offset:
                    done = errand.with_content(name, by_offset[errand.offset])
                    onward.append(self.route.onward(done))
                else:
                    aside.append(record)
            if onward:
                await self.pass_on(onward)
        return aside


def alike(errands: Sequence[Addressed]) -> tuple[str, list[Addressed], list[Addressed]]:
    """A component, errands to it about events of one partition by offset, and the other errands.

    Of several about one event only one is among the first.
    """
    kind = (errands[0][1].about.next, errands[0][1].partition)
    some: dict[int, Addressed] = {}
    rest: list[Addressed] = []
    for pair in errands:
        of = pair[1]
        if (of.about.next, of.partition) == kind and of.offset not in some:
            some[of.offset] = pair
        else:
            rest.append(pair)
    return kind[0] or "", [some[offset] for offset in sorted(some)], rest
