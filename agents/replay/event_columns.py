"""Events as components read them again: decoded, with the windows over their key's past."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.stages import source_rows
from agents.windows import BEGINNING, EntityPast, orders_of
from models.component import Column
from models.features import WindowPlan
from topics.events import DecodedEvents, SourceDecoder, progress_ms
from topics.pipeline import Pipeline
from topics.records import Bools, Ints, Rows, StageBatch

_FORGET_EVERY = 64
"""Blocks, after which memory of what no window reaches is given back."""


class WindowColumns(NamedTuple):
    """The windowed features of a component, of N events."""

    columns: Mapping[str, Column]
    """By name (N,)."""
    whole: Bools
    """Events whose windows reach back to nothing that was not read (N,)."""
    in_time: Bools
    """Events that nothing came too late for, by its own time (N,)."""


@dataclass(frozen=True, slots=True)
class EventColumns:
    """N events of a partition."""

    decoded: DecodedEvents
    rows: Rows
    windows: Mapping[str, WindowColumns]
    """Of the components with a past of the event's key."""


class KnownPast:
    """From when on, in event time, everything of some sources is read.

    Those that are not *whole* begin behind what was deleted, or was not needed.
    """

    def __init__(self, plan: WindowPlan, whole: Collection[Hashable]) -> None:
        self._plan = plan
        self._begun: set[Hashable] = {*whole}
        self._from_ms = BEGINNING

    def note(self, source: Hashable, times_ms: Ints) -> None:
        """Event times of what is read of a source next; its first ones count."""
        if source not in self._begun and len(times_ms):
            self._begun.add(source)
            # One that was not read may be so much later than those that were.
            self._from_ms = max(self._from_ms, int(times_ms[0]) + self._plan.lateness_ms)

    def covers(self, times_ms: Ints) -> Bools:
        """Which events (N,) look back to nothing before that."""
        if self._from_ms == BEGINNING:
            return np.ones(len(times_ms), np.bool_)
        return np.asarray(times_ms - self._plan.memory_ms >= self._from_ms)


class PartitionEvents:
    """Reads the events of one partition in order, from a place on that may be the beginning."""

    def __init__(self, pipeline: Pipeline, partition: int, *, is_whole: bool) -> None:
        self._pipeline, self._partition = pipeline, partition
        self._decoder = SourceDecoder(pipeline.event, pipeline.partitions)
        self._plans = {
            spec.name: WindowPlan(pipeline, spec.name)
            for spec in pipeline.components
            if spec.windowed and not pipeline.is_repartitioned(spec.name)
        }
        self._pasts = {name: EntityPast.empty(plan) for name, plan in self._plans.items()}
        self._known = {
            name: KnownPast(plan, [partition] if is_whole else [])
            for name, plan in self._plans.items()
        }
        self._blocks = 0
        self.clock_ms = BEGINNING
        """How far the partition has come in event time."""

    def read(
        self, records: Sequence[ConsumerRecord], recorded: Iterable[StageBatch] = ()
    ) -> EventColumns:
        """The next events; event times that were clipped as *recorded* are so again.

        So is what travelled with the rows of event fields, which is taken from the events.
        """
        decoded = self._decoder.decode(records, self._partition)
        recorded = [*recorded]
        decoded = _as_clipped(decoded, records, recorded, self._pipeline)
        rows, valid = source_rows(records, decoded), decoded.valid
        rows = _with_fields(rows, decoded, recorded)
        times: Ints = decoded.columns[self._pipeline.event.time]
        progress = progress_ms(times, rows.published_ms[valid])
        self.clock_ms = max(self.clock_ms, int(progress.max(initial=BEGINNING)))
        orders = orders_of(self._partition, rows.offsets[valid])
        windows = {}
        for name, plan in self._plans.items():
            past, known = self._pasts[name], self._known[name]
            known.note(self._partition, times)
            entities = plan.entities(decoded.columns)
            observed = past.observe(entities, times, orders, plan.values(decoded.columns))
            in_time = np.ones(len(times), np.bool_)
            if past.windows.histories["events"].too_late:
                in_time &= [
                    past.windows.remembers(entity, time_ms)
                    for entity, time_ms in zip(entities, times.tolist(), strict=True)
                ]
            windows[name] = WindowColumns(observed, known.covers(times), in_time)
        self._blocks += 1
        if self._blocks % _FORGET_EVERY == 0:
            for past in self._pasts.values():
                past.windows.forget(past.now_ms)
        return EventColumns(decoded, rows, windows)


def _with_fields(rows: Rows, decoded: DecodedEvents, recorded: Sequence[StageBatch]) -> Rows:
    """The same with the event fields that workers sent on, where they did.

    A worker of a pipeline file that does not name a field has not sent it: then it was not known.
    """
    known = dict[str, Bools]()
    for batch in recorded:
        at = rows.offsets.searchsorted(batch.rows.offsets)
        for name, values in batch.rows.fields.items():
            of_name = known.setdefault(name, np.zeros(len(rows), np.bool_))
            of_name[at] |= ~np.isnan(values)
    fields = {}
    for name, sent in known.items():
        column = decoded.columns.get(name)
        fields[name] = np.full(len(rows), np.nan)
        if column is not None and column.dtype.kind in "if":
            fields[name][decoded.valid] = column
        fields[name][~sent] = np.nan
    return replace(rows, fields=fields) if fields else rows


def _as_clipped(
    decoded: DecodedEvents, records: Sequence[ConsumerRecord], recorded: Sequence[StageBatch],
    pipeline: Pipeline,
) -> DecodedEvents:  # fmt: skip
    """The same with the event times that were given to events from the future when they were read.

    Where a record's own time cannot be believed that was the time of reading.
    """
    times = {
        int(batch.rows.offsets[row]): int(batch.rows.event_time_ms[row])
        for batch in recorded
        if batch.rows.clipped is not None
        for row in np.flatnonzero(batch.rows.clipped)
    }
    if not times:
        return decoded
    name, clipped = pipeline.event.time, dict(decoded.clipped)
    column, times_ms = decoded.columns[name].copy(), decoded.times_ms.copy()
    for place, row in enumerate(decoded.valid.tolist()):
        time_ms = times.get(records[row].offset)
        if time_ms is not None:
            column[place] = times_ms[row] = time_ms
            clipped.setdefault(row, "it was clipped when it was read")
    columns = {**decoded.columns, name: column}
    return replace(decoded, columns=columns, times_ms=times_ms, clipped=clipped)
