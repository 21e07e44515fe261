"""What a component does about the redrive topic: it adds its output, and passes the record on.

Its place in the protocol is in `topics.redrive.record`. Redrive records travel beside the stream,
many at a time. Events on their first way come first: while they flow, redrive records get a share
of a worker's time, and no more than some milliseconds of it at once.

One that cannot be dealt with yet is put aside; those behind it go on. After a restart all from the
first that waited are read again: the weighting agent ends each attempt once.
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

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.join import JoinedRows, aligned
from agents.redrive.dead_letter_writer import write_while_they_fit
from agents.workers import Wiring
from topics.errors import WireError
from topics.kafka import Record
from topics.records import Rows, StageBatch
from topics.redrive import (
    RedriveOutputs,
    RedriveRecord,
    RedriveRoute,
    batches_of,
    contents_of,
    encode_redrive,
    next_component,
    open_redrive,
)

log = logging.getLogger(__name__)

SHARE = 0.2
"""Of a worker's time, that redrive records may take while events flow."""
_SAVED_S = 0.05
"""So much of that share is kept for later, at most."""
_AT_ONCE_WHILE_EVENTS_FLOW = 256
_EVENTS_FLOW_FOR_S = 0.5
"""After events have come they are taken to flow for so long: more may be on their way."""
_AT_ONCE = 512
_AT_A_STRETCH_S = 0.03
"""Without events, records are dealt with for so long: then it is time to look for events."""
_LOOK_AGAIN_S = 0.1
"""How often it is tried again to deal with redrive records that wait."""
_MOST_HELD = 4000
_MOST_HELD_BYTES = 8 * 2**20
"""With so many records of a partition in memory, or bytes of them, no more of it are read."""
_AT_ONCE_BYTES = 4 * 2**20
"""So many bytes of redrive records are dealt with at once, or one redrive record."""


Refusals = Mapping[int, WireError]
"""Source offset → why its redrive record cannot be dealt with, ever."""

Arrival = tuple[ConsumerRecord, RedriveRecord]
"""A record of the redrive topic, and what it says."""


class RedriveResult(NamedTuple):
    """What a component makes of records; those that it says nothing of cannot be dealt with yet."""

    outputs: StageBatch | None
    refused: Refusals = {}  # noqa: RUF012  # never changed


Run = Callable[[Sequence[RedriveRecord]], Awaitable[RedriveResult]]
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

    def take(self, most: int, now: float, *, in_order: bool) -> list[ConsumerRecord]:
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

    def add(self, records: Iterable[ConsumerRecord]) -> None:
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


class ComponentRedrive(ABC):
    """Reads the redrive topic and deals with what is addressed here."""

    in_order = False
    """Those that wait all wait for the same, so none is dealt with before them."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.route = RedriveRoute(wiring.pipeline)
        self._topic = wiring.topology.redrive
        self._backlogs: dict[int, _Backlog] = {}
        self._credit_s = 0.0
        self._credited_at = time.monotonic()
        self._events_at = float("-inf")

    @property
    def waits(self) -> bool:
        """Some redrive record has not been dealt with yet."""
        return any(backlog.queue or backlog.waiting for backlog in self._backlogs.values())

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
            backlog.add(record for record in records if self.is_for_us(record))
            backlog.read_to = records[-1].offset + 1
        if events_flow:
            self._events_at = time.monotonic()
        share = time.monotonic() - self._events_at < _EVENTS_FLOW_FOR_S
        if self._may_begin() or not share:
            await self._work_off(share=share)
        for partition, backlog in self._backlogs.items():
            self.wiring.app.batches.done({TP(self._topic, partition): backlog.done})
        full = {
            TP(self._topic, partition)
            for partition, backlog in self._backlogs.items()
            if backlog.is_full
        }
        self.wiring.app.batches.pause_only(full, "redrive")

    def _may_begin(self) -> bool:
        """Redrive records have some of their share left."""
        now = time.monotonic()
        earned = (now - self._credited_at) * SHARE
        self._credited_at = now
        self._credit_s = min(_SAVED_S, self._credit_s + earned)
        return self._credit_s > 0

    async def _work_off(self, *, share: bool) -> None:
        """One batch if redrive records have only a *share*, else as many as there is time for.

        Partitions take turns.
        """
        most = _AT_ONCE_WHILE_EVENTS_FLOW if share else _AT_ONCE
        started = now = time.monotonic()
        idle = 0
        while idle < len(self._backlogs):
            partition = next(iter(self._backlogs))
            backlog = self._backlogs.pop(partition)
            self._backlogs[partition] = backlog  # the last one to have another turn
            if records := backlog.take(most, now, in_order=self.in_order):
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

    async def pass_on(self, redrives: Sequence[RedriveRecord]) -> None:
        """Write redrive records to those that are to deal with them next.

        One that has grown too large for the topic goes to its end instead.
        """
        by_partition = defaultdict[int, list[RedriveRecord]](list)
        for redrive, partition in zip(redrives, self.route.partitions(redrives), strict=True):
            by_partition[partition].append(redrive)
        refused: list[RedriveRecord] = []
        for partition, some in by_partition.items():
            left = some
            while left:
                written = await self._send(partition, left)
                refused += left[written : written + 1]
                left = left[written + 1 :]
        for redrive in refused:
            reason = f"with what is known of it, it is larger than {self._topic} takes a record"
            log.warning("%s@%d: %s", redrive.header.source.topic, redrive.offset, reason)
            await self._send(redrive.partition, [redrive.refusal(reason)])

    async def _send(self, partition: int, redrives: Sequence[RedriveRecord]) -> int:
        async def write(records: Sequence[Record]) -> None:
            await self.wiring.app.writer.write(self._topic, partition, records)

        now_ms = int(time.time() * 1000)
        return await write_while_they_fit(
            write, [encode_redrive(redrive, now_ms) for redrive in redrives]
        )

    def parse(
        self, records: Sequence[ConsumerRecord]
    ) -> tuple[list[Arrival], list[tuple[ConsumerRecord, WireError]]]:
        """What records say, and the records that are none of this pipeline's, and why."""
        good: list[Arrival] = []
        bad: list[tuple[ConsumerRecord, WireError]] = []
        topology = self.wiring.topology
        for record in records:
            try:
                redrive = open_redrive(record.key, record.value, record.headers)
                of = redrive.header.source
                if of.topic != topology.events or of.partition >= topology.partitions:
                    raise WireError(
                        f"not a redrive record: its source is {of.topic}[{of.partition}]"
                    )
            except WireError as exc:
                bad.append((record, exc))
            else:
                good.append((record, redrive))
        where = self.route.partitions([redrive for _, redrive in good])
        here: list[Arrival] = []
        for (record, redrive), partition in zip(good, where, strict=True):
            known = redrive.header.next is not None and self.route.knows(redrive.header.next)
            if known and partition != record.partition:
                why = f"not a redrive record: {redrive.header.next} reads it on another partition"
                bad.append((record, WireError(why)))
            else:
                here.append((record, redrive))
        return here, bad

    def skip(self, record: ConsumerRecord, exc: WireError) -> None:
        """Say that a record is no redrive record that can be dealt with."""
        log.warning("%s[%d]@%d skipped: %s", record.topic, record.partition, record.offset, exc)
        self.wiring.metrics.observe_skipped()


class StageRedrive(ComponentRedrive):
    """Runs components on the events of the redrive records that are addressed to them, by name."""

    def __init__(self, wiring: Wiring, runs: Mapping[str, Run]) -> None:
        super().__init__(wiring)
        self._runs = runs

    def is_for_us(self, record: ConsumerRecord) -> bool:
        """It is addressed to one of the components."""
        return next_component(record.headers) in self._runs

    async def run(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """Run the components on all events at once; the redrive records go on to the next."""
        left, _ = self.parse(records)  # the weighting agent reads all records, and says so
        aside: list[ConsumerRecord] = []
        while left:
            name, some, left = split_batch(left)
            outputs, refused = await self._runs[name]([redrive for _, redrive in some])
            by_offset = dict(zip(outputs.rows.offsets.tolist(), contents_of(outputs), strict=True)
                             if outputs is not None else ())  # fmt: skip
            onward: list[RedriveRecord] = []
            for record, redrive in some:
                if redrive.offset in refused:
                    self.skip(record, refused[redrive.offset])
                elif redrive.offset in by_offset:
                    done = redrive.with_content(name, by_offset[redrive.offset])
                    onward.append(self.route.onward(done))
                else:
                    aside.append(record)
            if onward:
                await self.pass_on(onward)
        return aside


def split_batch(redrives: Sequence[Arrival]) -> tuple[str, list[Arrival], list[Arrival]]:
    """A component, records to it about events of one partition by offset, and the other records.

    Of several about one event only one is among the first.
    """
    kind = (redrives[0][1].header.next, redrives[0][1].partition)
    some: dict[int, Arrival] = {}
    rest: list[Arrival] = []
    for pair in redrives:
        of = pair[1]
        if (of.header.next, of.partition) == kind and of.offset not in some:
            some[of.offset] = pair
        else:
            rest.append(pair)
    return kind[0] or "", [some[offset] for offset in sorted(some)], rest


class RedriveRows(NamedTuple):
    """Redrive records that can be joined, and those that cannot."""

    redrives: list[RedriveRecord]
    joined: JoinedRows | None
    """Their events as a join would hand them on; None when there are none."""
    refused: Refusals


def joined_rows(redrives: Sequence[RedriveRecord], inputs: Sequence[str]) -> RedriveRows:
    """The events of *redrives*, of one source partition and with offsets that ascend."""
    try:
        return RedriveRows([*redrives], _joined(redrives, inputs) if redrives else None, {})
    except WireError as exc:
        if len(redrives) == 1:
            return RedriveRows([], None, {redrives[0].offset: exc})
    good: list[RedriveRecord] = []
    refused: dict[int, WireError] = {}
    for redrive in redrives:
        one = joined_rows([redrive], inputs)
        good += one.redrives
        refused |= one.refused
    return RedriveRows(good, _joined(good, inputs) if good else None, refused)


def _joined(redrives: Sequence[RedriveRecord], inputs: Sequence[str]) -> JoinedRows:
    """Raises WireError when an output of any record is none, or when one has no output at all."""
    by_name = {
        name: _outputs(name, [redrive for redrive in redrives if name in redrive.outputs])
        for name in inputs
    }
    # A redrive record without any of the inputs has its rows by another output.
    others = defaultdict[str, list[RedriveRecord]](list)
    for redrive in redrives:
        if not any(name in redrive.outputs for name in inputs):
            name = next(iter(redrive.outputs), None)
            if name is None:
                raise WireError(f"not a redrive record: {redrive.header.next} needs outputs")
            others[name].append(redrive)
    known = [*by_name.values(), *(_outputs(name, records) for name, records in others.items())]
    rows = _rows([batch.rows for batches in known for batch in batches])
    stages = {name: aligned(batches, rows.offsets) for name, batches in by_name.items()}
    return JoinedRows(rows, stages, {}, redrives[0].offset, 0)


def _outputs(name: str, redrives: Sequence[RedriveRecord]) -> list[StageBatch]:
    """Their outputs of component *name*."""
    contents = [RedriveOutputs.of(redrive.outputs).contents[name] for redrive in redrives]
    return batches_of(name, contents, [redrive.header.source for redrive in redrives])


def _rows(batches: Sequence[Rows]) -> Rows:
    """Each row that is in any batch once, in source order."""
    if len(batches) == 1:
        return batches[0]
    every = Rows.concat(batches)
    _, first = np.unique(every.offsets, return_index=True)
    return every.picked(first)
