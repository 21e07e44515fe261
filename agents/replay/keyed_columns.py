"""Windows over the past of another key than the events': of all source partitions together.

Events and outcomes are dealt out and put into the order of event time by what workers do it with.
How far each source is read is the caller's: always the one that has come least far.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.recovery import LogRewind
from agents.replay.event_columns import KnownPast, WindowColumns
from agents.stages import KeyDealer, KeyPartition, dealt
from agents.windows import DueRows, EntityPast, EventTimeOrder
from models.component import Column
from models.features import WindowPlan
from topics.events import DecodedEvents
from topics.pipeline import Pipeline, Topology
from topics.records import Bools, Ints

_FOREVER_S = 1e9
_NO_BOUND = 2**62
_UNENDED, _ENDED = 2**62, 0
_FORGET_EVERY = 64
_REMEMBERED = 64
"""Outcomes of an entity, the latest, of which it is known when they were published."""


class KeyedColumns:
    """The windowed features of repartitioned component *name*.

    *whole* are the sources, each a topic and a partition, that are read from their beginning.
    """

    def __init__(self, pipeline: Pipeline, name: str, whole: Collection[Hashable]) -> None:
        self._plan = WindowPlan(pipeline, name)
        self._topology = Topology.of(pipeline)
        self._dealer = KeyDealer(pipeline, name)
        self._count = pipeline.partitions
        delay_ms = self._plan.delay_ms if self._plan.of_outcomes else None
        self.delay_ms = self._plan.delay_ms
        self._lanes = [
            KeyPartition(
                EntityPast.empty(self._plan),
                EventTimeOrder(
                    self._count, outcome_delay_ms=delay_ms, stall_timeout_s=_FOREVER_S,
                    max_bytes=_NO_BOUND,
                ),
                LogRewind(None),
            )
            for _ in range(self._count)
        ]  # fmt: skip
        self._known = KnownPast(self._plan, whole)
        self._ended: tuple[set[int], set[int]] = (set(), set())
        self._released: dict[int, _Released] = defaultdict(lambda: _Released(self._plan.columns))
        self._published = _Publications(self._plan.delay_ms)
        self._releases = 0

    def take_events(
        self, partition: int, records: Sequence[ConsumerRecord], decoded: DecodedEvents
    ) -> None:
        """The next events of a source partition."""
        batch, lanes = self._dealer.batch(
            self._topology.events, partition, records, decoded, int(records[0].offset)
        )
        self._known.note((batch.topic, partition), decoded.columns[self._plan.time])
        for lane, part in zip(self._lanes, dealt(batch, lanes, self._count), strict=True):
            lane.order.push(part, int(records[-1].offset))

    def take_outcomes(
        self, partition: int, records: Sequence[ConsumerRecord], decoded: DecodedEvents
    ) -> None:
        """The next outcomes of a partition."""
        batch, lanes = self._dealer.batch(
            self._topology.outcomes, partition, records, decoded, int(records[0].offset)
        )
        self._known.note((batch.topic, partition), batch.rows.event_time_ms[decoded.valid])
        for lane, part in zip(self._lanes, dealt(batch, lanes, self._count), strict=True):
            learned = lane.order.note_outcomes(part)
            lane.learn(learned)
            entities = [] if learned.entities is None else learned.entities.items()
            self._published.note_outcomes(
                entities, learned.rows.event_time_ms, learned.rows.published_ms
            )

    def end(self, partition: int, *, outcomes: bool) -> None:
        """A source has nothing more to give."""
        self._ended[outcomes].add(partition)

    def release(self) -> None:
        """Compute what waits for no source any more."""
        ends = tuple(
            {p: _ENDED if p in ended else _UNENDED for p in range(self._count)}
            for ended in self._ended
        )
        for lane in self._lanes:
            due = lane.order.pop(0.0, (ends[0], ends[1]))
            if due:
                self._compute(lane, due)
        self._releases += 1
        if self._releases % _FORGET_EVERY == 0:
            for lane in self._lanes:
                lane.past.windows.forget(lane.past.now_ms)

    def has(self, partition: int, offsets: Ints) -> bool:
        """Whether the features of events (N,) of a partition are there."""
        return self._released[partition].count(int(offsets[0]), int(offsets[-1])) >= len(offsets)

    def take(self, partition: int, offsets: Ints) -> WindowColumns:
        """The features of events (N,), which are there; those before them are forgotten."""
        return self._released[partition].take(offsets)

    def _compute(self, lane: KeyPartition, due: Sequence[DueRows]) -> None:
        columns = lane.observe(due)
        in_time = self._published.in_time(due)
        start = 0
        for part in due:
            stop = start + len(part.batch)
            times = part.batch.rows.event_time_ms
            self._released[part.batch.partition].add(
                part.batch.rows.offsets,
                {name: column[start:stop] for name, column in columns.items()},
                self._known.covers(times), in_time[start:stop],
            )  # fmt: skip
            start = stop


class _Released:
    """Features of a source partition's events that are computed and not taken yet."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._parts: list[tuple[Ints, Mapping[str, Column], Bools, Bools]] = []

    def add(
        self, offsets: Ints, columns: Mapping[str, Column], whole: Bools, in_time: Bools
    ) -> None:
        if len(offsets):
            self._parts.append((offsets, columns, whole, in_time))

    def count(self, first: int, last: int) -> int:
        return sum(
            int(part[0].searchsorted(last, "right")) - int(part[0].searchsorted(first))
            for part in self._parts
        )

    def take(self, offsets: Ints) -> WindowColumns:
        last = int(offsets[-1])
        every = np.concatenate([part[0] for part in self._parts])
        order = np.argsort(every, kind="stable")
        columns = {
            name: np.concatenate([part[1][name] for part in self._parts])[order]
            for name in self._names
        }
        whole, in_time = (
            np.concatenate([part[which] for part in self._parts])[order] for which in (2, 3)
        )
        every = every[order]
        first, stop = every.searchsorted([offsets[0], last + 1]).tolist()
        self._parts = []
        self.add(
            every[stop:], {name: column[stop:] for name, column in columns.items()},
            whole[stop:], in_time[stop:],
        )  # fmt: skip
        return WindowColumns(
            {name: column[first:stop] for name, column in columns.items()},
            whole[first:stop], in_time[first:stop],
        )  # fmt: skip


class _Publications:
    """Whether all that an event's windows see was published before the event itself.

    What was published later may have come too late for it: nobody waits for what may come.
    """

    def __init__(self, delay_ms: int) -> None:
        self._delay_ms = delay_ms
        self._events: dict[bytes, dict[int, int]] = {}
        """Entity → source partition → when the last event was published that has had its turn."""
        self._outcomes: dict[bytes, list[tuple[int, int]]] = {}
        """Entity → of outcomes, from which event time on they are seen, and when published."""

    def note_outcomes(self, entities: Sequence[bytes], times_ms: Ints, published: Ints) -> None:
        for entity, time_ms, at in zip(
            entities, times_ms.tolist(), published.tolist(), strict=True
        ):
            known = self._outcomes.setdefault(entity, [])
            known.append((time_ms + self._delay_ms, at))
            del known[:-_REMEMBERED]

    def in_time(self, due: Sequence[DueRows]) -> Bools:
        """Which rows (N,) of *due*, one part after the other; they have their turn now."""
        clocks = np.concatenate([part.clocks_ms for part in due])
        sources = np.concatenate([np.full(len(part.batch), part.batch.partition) for part in due])
        offsets = np.concatenate([part.batch.rows.offsets for part in due])
        published = np.concatenate([part.batch.rows.published_ms for part in due]).tolist()
        times = np.concatenate([part.batch.rows.event_time_ms for part in due]).tolist()
        entities = [
            entity
            for part in due
            for entity in (part.batch.entities.items() if part.batch.entities is not None else ())
        ]
        in_time = np.ones(len(clocks), np.bool_)
        of = sources.tolist()
        for row in np.lexsort((offsets, sources, clocks)).tolist():
            entity, at, own = entities[row], published[row], of[row]
            seen = self._events.setdefault(entity, {})
            late = any(other >= at for source, other in seen.items() if source != own)
            if not late and entity in self._outcomes:
                late = any(
                    visible <= times[row] and other >= at
                    for visible, other in self._outcomes[entity]
                )
            in_time[row] = not late
            seen[own] = max(seen.get(own, 0), at)
        return in_time
