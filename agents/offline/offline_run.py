"""A pipeline over the rows of a file, without a broker: the code of workers, step after step.

Decoding, windows, components and weights are those that serve (`agents.replay` has them side by
side for a replay); between them are arrays instead of topics. What holds on a stream whatever its
workers do holds here: a row's windows see what its partition had before it; windows by another key
see all partitions in the order of event time, as where a stream waits for those that are behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.components import OpenComponent
from agents.join import ModelRun, StageRows, failures_of
from agents.offline.errors import OutOfTimeOrder
from agents.offline.event_chunks import EventChunk, FileEvents, PartitionRecords
from agents.replay.event_columns import EventColumns, PartitionEvents, WindowColumns
from agents.replay.keyed_columns import KeyedColumns
from agents.replay.stage_inputs import stage_inputs
from agents.replay.stage_outputs import recomputed
from agents.stages import source_rows
from models.arrays import Ints
from topics.events import SourceDecoder
from topics.pipeline import EVENTS, ComponentSpec, Pipeline, Topology, in_order
from topics.records import Failure, Rows, outcome_schema

MOST_WAITING = 500_000
"""Rows that may wait for others which are behind them in the file."""


@dataclass(frozen=True, slots=True)
class PartitionStages:
    """Rows of one partition, and what every component says of them."""

    partition: int
    places: Ints
    """Of the rows (N,) among those of their chunk."""
    columns: EventColumns
    rows: Rows
    stages: Mapping[str, StageRows]


@dataclass(frozen=True, slots=True)
class ChunkStages:
    """A chunk of a file that is dealt with."""

    chunk: EventChunk
    partitions: Sequence[PartitionStages]


@dataclass(slots=True)
class _Waiting:
    chunk: EventChunk
    parts: list[tuple[PartitionRecords, EventColumns]]


class OfflineRun:
    """Runs *components*, by name, of a pipeline; what they read has to be among them."""

    def __init__(
        self, pipeline: Pipeline, components: Mapping[str, OpenComponent],
        most_waiting: int = MOST_WAITING,
    ) -> None:  # fmt: skip
        self._pipeline, self._components = pipeline, components
        self._most_waiting = most_waiting
        topology, partitions = Topology.of(pipeline), range(pipeline.partitions)
        self._fields = pipeline.policy.bounded_fields
        self._outcomes = SourceDecoder(outcome_schema(pipeline), pipeline.partitions)
        self._by_outcomes = set(topology.by_outcomes)
        self._events = {
            partition: PartitionEvents(pipeline, partition, is_whole=True)
            for partition in partitions
        }
        whole = [
            (topic, partition)
            for topic in (topology.events, topology.outcomes)
            for partition in partitions
        ]
        self._keyed = {
            name: KeyedColumns(pipeline, name, whole)
            for name in topology.repartitioned
            if name in components
        }
        for keyed in self._keyed.values():
            for partition in partitions:  # an outcome comes with its event, before it can be seen
                keyed.end(partition, outcomes=True)
        self._waiting: deque[_Waiting] = deque()
        self._last_rows: dict[int, int] | None = None

    def run(self, events: FileEvents) -> Iterator[ChunkStages]:
        """All rows, in the file's order. Raises OutOfTimeOrder, DatasetError."""
        for chunk in events.chunks():
            self._read(chunk)
            behind = chunk.first + len(chunk.events)
            if self._keyed and self._rows_waiting() > self._most_waiting // 2:
                self._end_partitions(events, behind)
            yield from self._ready()
            if self._rows_waiting() > self._most_waiting:
                raise OutOfTimeOrder(
                    str(events.source), ", ".join(self._keyed), self._rows_waiting(),
                    self._pipeline.event.time,
                )  # fmt: skip
        for keyed in self._keyed.values():
            for partition in range(self._pipeline.partitions):
                keyed.end(partition, outcomes=False)
        yield from self._ready()

    def _rows_waiting(self) -> int:
        return sum(len(waiting.chunk.events) for waiting in self._waiting)

    def _end_partitions(self, events: FileEvents, behind: int) -> None:
        """Do not wait for partitions that have no rows from *behind* on."""
        if self._last_rows is None:
            self._last_rows = events.last_rows()
        if str(events.source) == "-":
            return
        for partition in range(self._pipeline.partitions):
            if self._last_rows.get(partition, 0) < behind:
                for keyed in self._keyed.values():
                    keyed.end(partition, outcomes=False)

    def _read(self, chunk: EventChunk) -> None:
        parts = []
        for partition, records in chunk.outcomes.items():
            decoded = self._outcomes.decode(records, partition)
            for name, keyed in self._keyed.items():
                if name in self._by_outcomes:
                    keyed.take_outcomes(partition, records, decoded)
        for part in chunk.partitions:
            columns = self._events[part.partition].read(part.records)
            for keyed in self._keyed.values():
                keyed.take_events(part.partition, part.records, columns.decoded)
            parts.append((part, columns))
        self._waiting.append(_Waiting(chunk, parts))

    def _ready(self) -> Iterator[ChunkStages]:
        """The chunks whose rows all have what they need."""
        for keyed in self._keyed.values():
            keyed.release()
        while self._waiting:
            head = self._waiting[0]
            for part, columns in head.parts:
                offsets = columns.rows.offsets
                if not all(keyed.has(part.partition, offsets) for keyed in self._keyed.values()):
                    return
            self._waiting.popleft()
            yield ChunkStages(head.chunk, [self._run(*each) for each in head.parts])

    def _run(self, part: PartitionRecords, columns: EventColumns) -> PartitionStages:
        """What every component says of the rows of a partition."""
        rows = source_rows(part.records, columns.decoded, self._fields)
        windows = {
            name: keyed.take(part.partition, rows.offsets) for name, keyed in self._keyed.items()
        }
        stages: dict[str, StageRows] = {}
        for name in in_order(self._pipeline):
            if name in self._components:
                spec = self._pipeline.component(name)
                stages[name] = self._stage(spec, columns, windows, stages)
        return PartitionStages(part.partition, part.places, columns, rows, stages)

    def _stage(
        self, spec: ComponentSpec, columns: EventColumns, windows: Mapping[str, WindowColumns],
        stages: Mapping[str, StageRows],
    ) -> StageRows:  # fmt: skip
        opened, n = self._components[spec.name], len(columns.rows)
        inputs = stage_inputs(self._pipeline, spec, columns, windows, stages)
        made = recomputed(opened, inputs.batch_of, np.flatnonzero(inputs.valid), n)
        failures = {
            row: Failure(row, spec.name, error, reason)
            for row, (error, reason) in made.errors.items()
        }
        if EVENTS in spec.inputs:
            failures |= {
                failure.row: failure._replace(component=spec.name)
                for failure in columns.decoded.failures
            }
        else:
            failures |= failures_of({name: stages[name] for name in spec.inputs})
        return StageRows(
            made.present, made.output, made.signal, (ModelRun(0, opened.model),),
            tuple(failures[row] for row in sorted(failures)), np.ones(n, np.bool_),
        )  # fmt: skip
