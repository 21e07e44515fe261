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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.join import JoinedRows, aligned
from agents.redrive.redrive_writer import write_redrives
from agents.workers import Wiring
from topics.errors import WireError
from topics.kafka import Record
from topics.records import Ints, Rows, StageBatch
from topics.redrive import RedriveBatch, RedriveRoute, decode_redrive, next_component

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
"""Source offset → why its event cannot be dealt with, ever."""


class Arrival(NamedTuple):
    """Redriven events that have come in one record of the redrive topic, or some of them."""

    offset: int
    """Of the record."""
    written_ms: int
    batch: RedriveBatch
    nbytes: int

    def split(self, rows: int) -> tuple[Arrival, Arrival | None]:
        """The first *rows* events, and the others, if there are any."""
        first, rest = self.batch.split(rows)
        if rest is None:
            return self, None
        nbytes = self.nbytes * rows // len(self.batch)
        return (
            self._replace(batch=first, nbytes=nbytes),
            self._replace(batch=rest, nbytes=self.nbytes - nbytes),
        )

    def by_width(self) -> list[Arrival]:
        """The events in parts, see `RedriveBatch.by_width`."""
        return [
            self._replace(batch=part, nbytes=self.nbytes * len(part) // len(self.batch))
            for part in self.batch.by_width()
        ]


class RedriveResult(NamedTuple):
    """What a component makes of events; those that it says nothing of cannot be dealt with yet."""

    outputs: StageBatch | None
    refused: Refusals = {}  # noqa: RUF012  # never changed


Run = Callable[[RedriveBatch], Awaitable[RedriveResult]]
"""Runs a component on redriven events."""


@dataclass(slots=True)
class _Backlog:
    """What is to be done of one partition of the redrive topic."""

    read_to: int = 0
    """Behind the last record that was read."""
    queue: deque[Arrival] = field(default_factory=deque)
    waiting: deque[Arrival] = field(default_factory=deque)
    """Those that could not be dealt with, before any in the queue; first what was tried longest
    ago: however many wait for one thing, the others have their turn."""
    try_at: float = 0.0
    tried_last: bool = False
    """Those that wait had the last turn."""

    nbytes: int = 0
    """Of all that is to be done."""
    events: int = 0
    """In all that is to be done."""

    @property
    def is_full(self) -> bool:
        """No more are to be read for now."""
        return self.events >= _MOST_HELD or self.nbytes >= _MOST_HELD_BYTES

    @property
    def done(self) -> int:
        """All records before this offset are dealt with."""
        left = (*self.waiting, *islice(self.queue, 1))
        return min((arrival.offset for arrival in left), default=self.read_to)

    def take(self, most: int, now: float, *, in_order: bool) -> list[Arrival]:
        """Up to *most* events to deal with now; with *in_order* none before those that wait.

        Else the others have every second turn, however seldom there is one.
        """
        has_turn = in_order or not self.queue or not self.tried_last
        if self.waiting and has_turn and now >= self.try_at:
            self.tried_last = True
            return self._taken(self.waiting, most)
        if self.waiting and in_order:
            return []
        self.tried_last = False
        return self._taken(self.queue, most)

    def _taken(self, queue: deque[Arrival], most: int) -> list[Arrival]:
        """Take from the front: one event at least, if there is any."""
        arrivals: list[Arrival] = []
        events = nbytes = 0
        while queue and events < most:
            first, rest = queue[0].split(most - events)
            if arrivals and nbytes + first.nbytes > _AT_ONCE_BYTES:
                break
            queue.popleft()
            if rest is not None:
                queue.appendleft(rest)
            arrivals.append(first)
            events, nbytes = events + len(first.batch), nbytes + first.nbytes
        self.events -= events
        self.nbytes -= nbytes
        return arrivals

    def add(self, arrival: Arrival) -> None:
        """It is to be dealt with."""
        self.queue.append(arrival)
        self._count(arrival)

    def put_aside(self, arrivals: Sequence[Arrival], now: float) -> None:
        """These are to be tried again."""
        for arrival in arrivals:
            self._count(arrival)
        if arrivals:
            self.waiting.extend(arrivals)
            self.try_at = now + _LOOK_AGAIN_S

    def _count(self, arrival: Arrival) -> None:
        self.nbytes += arrival.nbytes
        self.events += len(arrival.batch)


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
            for record in records:
                if self.is_for_us(record) and (arrival := self.arrival(record)) is not None:
                    backlog.add(arrival)
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
            if arrivals := backlog.take(most, now, in_order=self.in_order):
                backlog.put_aside(await self.run(partition, arrivals), time.monotonic())
                idle = 0
            else:
                idle += 1
            now = time.monotonic()
            if (arrivals and share) or now - started > _AT_A_STRETCH_S:
                break
        if share:
            self._credit_s -= now - started

    @abstractmethod
    def is_for_us(self, record: ConsumerRecord) -> bool:
        """The record has to be dealt with here, as far as it says; most have not."""

    @abstractmethod
    async def run(self, partition: int, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """Deal with what stood on one partition; what cannot be dealt with yet."""

    async def pass_on(self, batch: RedriveBatch) -> None:
        """Write events to who is to deal with them next.

        One that has grown too large for the topic goes to its end instead.
        """
        batch = self.route.onward(batch)
        partitions = self.route.partitions(batch)
        for partition in np.unique(partitions).tolist():
            some = batch.picked(np.flatnonzero(partitions == partition))
            for refused in await self._send(partition, some):
                reason = f"with what is known of it, it is larger than {self._topic} takes a record"
                log.warning("%s@%d: %s", refused.topic, refused.events[0].offset, reason)
                await self._send(refused.partition, refused.refusal(reason))

    async def _send(self, partition: int, batch: RedriveBatch) -> list[RedriveBatch]:
        async def write(records: Sequence[Record]) -> None:
            await self.wiring.app.writer.write(self._topic, partition, records)

        return await write_redrives(write, batch)

    def arrival(self, record: ConsumerRecord) -> Arrival | None:
        """What is to be done of a record; None, and told, where it is none of this pipeline's."""
        topology = self.wiring.topology
        try:
            batch = decode_redrive(record.key, record.value, record.headers)
            if batch.topic != topology.events or batch.partition >= topology.partitions:
                raise WireError(
                    f"not a redrive record: its source is {batch.topic}[{batch.partition}]"
                )
            known = batch.next is not None and self.route.knows(batch.next)
            if known and (self.route.partitions(batch) != record.partition).any():
                why = f"not a redrive record: {batch.next} reads it on another partition"
                raise WireError(why)
        except WireError as exc:
            self.skip(record, exc)
            return None
        return Arrival(record.offset, record.timestamp, batch, _size(record))

    def skip(self, record: ConsumerRecord, exc: WireError) -> None:
        """Say that a record is no redrive record that can be dealt with."""
        where = f"{record.topic}[{record.partition}]@{record.offset}"
        log.warning("%s skipped: %s", where, exc)
        self.wiring.metrics.observe_skipped()

    def refuse(self, batch: RedriveBatch, refused: Refusals) -> None:
        """Say of events, by their source offset, why they cannot be dealt with, ever."""
        for offset, exc in refused.items():
            log.warning("%s[%d]@%d skipped: %s", batch.topic, batch.partition, offset, exc)
            self.wiring.metrics.observe_skipped()


def _size(record: ConsumerRecord) -> int:
    parts = (record.key, record.value, *(content for _, content in record.headers))
    return sum(len(part or b"") for part in parts)


class StageRedrive(ComponentRedrive):
    """Runs components on the redriven events that are addressed to them, by name."""

    def __init__(self, wiring: Wiring, runs: Mapping[str, Run]) -> None:
        super().__init__(wiring)
        self._runs = runs

    def is_for_us(self, record: ConsumerRecord) -> bool:
        """It is addressed to one of the components."""
        return next_component(record.headers) in self._runs

    async def run(self, partition: int, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:  # noqa: ARG002
        """Run the components on all events at once; these go on to the next."""
        aside: list[Arrival] = []
        for group in groups_of(arrivals):
            batch = group.batch
            outputs, refused = await self._runs[batch.next or ""](batch)
            self.refuse(batch, refused)
            answered = np.empty(0, np.int64) if outputs is None else outputs.rows.offsets
            if outputs is not None and len(outputs):
                rows = np.flatnonzero(np.isin(batch.offsets, answered))
                await self.pass_on(batch.picked(rows).with_output(outputs))
            ended = np.union1d(answered, np.array([*refused], np.int64))
            aside += group.arrivals(np.flatnonzero(~np.isin(batch.offsets, ended)))
        return aside


@dataclass(frozen=True, slots=True)
class ArrivalGroup:
    """Events of several arrivals that can be dealt with together."""

    batch: RedriveBatch
    sources: Mapping[int, Arrival]
    """Source offset → how it arrived."""

    def arrivals(self, rows: Ints) -> list[Arrival]:
        """Some of the events, as they arrived."""
        by_record = defaultdict[int, list[int]](list)
        for row in rows.tolist():
            by_record[self.sources[self.batch.events[row].offset].offset].append(row)
        parts: list[Arrival] = []
        for some in by_record.values():
            whole = self.sources[self.batch.events[some[0]].offset]
            batch = self.batch.picked(np.array(some, np.int64))
            nbytes = whole.nbytes * len(some) // len(whole.batch)
            parts.append(whole._replace(batch=batch, nbytes=nbytes))
        return parts


def groups_of(arrivals: Sequence[Arrival]) -> list[ArrivalGroup]:
    """Arrivals by what their events are addressed to, come from and have outputs of, how wide.

    Of one event that has come twice only one is in a group.
    """
    groups: list[ArrivalGroup] = []
    left = [part for arrival in arrivals for part in arrival.by_width()]
    while left:
        together, rest = [left[0]], list[Arrival]()
        kind, seen = _kind(left[0].batch), {event.offset for event in left[0].batch.events}
        for arrival in left[1:]:
            offsets = {event.offset for event in arrival.batch.events}
            if _kind(arrival.batch) == kind and seen.isdisjoint(offsets):
                together.append(arrival)
                seen |= offsets
            else:
                rest.append(arrival)
        sources = {event.offset: each for each in together for event in each.batch.events}
        groups.append(ArrivalGroup(RedriveBatch.concat([each.batch for each in together]), sources))
        left = rest
    return groups


def _kind(batch: RedriveBatch) -> tuple[object, ...]:
    widths = frozenset(batch.widths.items())
    return batch.next, batch.topic, batch.partition, batch.refused, widths


def joined_rows(batch: RedriveBatch, inputs: Sequence[str]) -> JoinedRows:
    """The events of *batch* as a join would hand them on. Raises WireError without any output."""
    offsets = batch.offsets
    if not batch.outputs:
        raise WireError(f"not a redrive record: {batch.next} needs outputs")
    parts = next(iter(batch.outputs.values()))
    rows = Rows.concat([part.rows for part in parts])
    if len(parts) > 1:
        rows = rows.picked(np.argsort(rows.offsets, kind="stable"))
    stages = {name: aligned([*batch.outputs.get(name, ())], offsets) for name in inputs}
    return JoinedRows(rows, stages, {}, int(offsets[0]), 0)
