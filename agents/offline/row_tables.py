"""What a pipeline says of rows, as tables of Arrow: decisions, or features; and what is dead.

Columns are called as `anabranch dataset` has them: `signal.<stage>`, `<component>.<feature>`. A row
of the source is a row of a table, or a dead letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from agents.dataset import arrow_field, arrow_type
from agents.join import JoinedRows, failures_of
from agents.offline.offline_run import ChunkStages, PartitionStages
from agents.weigh import DecisionRule, causes_of_death
from models.arrays import Ints
from models.features import FeatureVector
from topics.pipeline import ComponentSpec, Pipeline
from topics.records import Failure

ROW = "row"
"""The number of a row in its file, from 1 on."""
LABEL = "outcome"
DEAD_LETTER = "dead_letter"

Table = Any
"""A pyarrow.Table: pyarrow has no types."""


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A row that has no decision, and why."""

    row: int
    stage: str
    error: str
    reason: str
    event: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RowTable:
    """The rows of a chunk, in its order."""

    table: Table
    dead: Sequence[DeadRow]


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of one partition as columns."""

    places: Ints
    """Of them (M,) in their chunk."""
    arrays: Sequence[Any]
    """Of the event's fields, and of what is said of it (M,) each."""
    dead: Sequence[Failure]
    """By rows of the partition's part of the chunk."""


class RowTables(Protocol):
    """Makes tables of chunks."""

    schema: Any

    def table(self, done: ChunkStages) -> RowTable:
        """The rows of a chunk."""


class DecisionTables:
    """Decisions by *rule*, with scores and signals; and the true outcomes, where they are known."""

    def __init__(self, pipeline: Pipeline, rule: DecisionRule) -> None:
        import pyarrow as pa

        self._pipeline, self._rule = pipeline, rule
        self._inputs = pipeline.weighting.inputs
        names = pa.dictionary(pa.int32(), pa.string())
        own = [(f"signal.{name}", pa.float32()) for name in self._inputs]
        own += [("score", pa.float64()), ("decision", names), ("degraded", pa.bool_()),
                ("missing", pa.string()), ("clipped", pa.bool_())]  # fmt: skip
        if rule.policy.explore is not None:
            own += [("explored", pa.bool_()), ("instead_of", names), ("propensity", pa.float64())]
        self.schema = _schema(pipeline, own)

    def table(self, done: ChunkStages) -> RowTable:
        """The rows that are decided; the others are dead."""
        return _joined(done, [self._part(part) for part in done.partitions], self.schema)

    def _part(self, part: PartitionStages) -> _Part:
        import pyarrow as pa

        stages = {name: part.stages[name] for name in self._inputs}
        joined = JoinedRows(part.rows, stages, {}, 0, 0)
        scores = self._rule.scorer.score(joined)
        taken = self._rule.decisions.taken(
            part.partition, part.rows, scores.weighed.scores, scores.fallback
        )
        rows: Ints = np.flatnonzero(scores.decidable)
        dying: Ints = np.flatnonzero(~scores.decidable)
        causes = causes_of_death(joined, scores, dying) if len(dying) else []
        arrays = _fields(self._pipeline, part, rows)
        for stage in stages.values():
            absent = ~stage.present[rows]
            arrays.append(pa.array(stage.signal[rows].astype(np.float32), mask=absent))
        present, clipped = scores.present[rows], part.rows.clipped
        lacking = [",".join(np.array(self._inputs)[~has]) or None for has in present]
        arrays += [
            pa.array(scores.weighed.scores[rows]),
            _dictionary(taken.decided[rows], taken.names),
            pa.array(~present.all(axis=1)),
            pa.array(lacking, pa.string()),
            pa.array(np.zeros(len(rows), np.bool_) if clipped is None else clipped[rows]),
        ]
        if taken.explored is not None:
            said = taken.explored.said(taken.names)
            each = [said.get(row, {}) for row in rows.tolist()]
            instead = pa.array([row.get("instead_of") for row in each], pa.string())
            arrays += [
                pa.array([bool(row.get("explored", False)) for row in each]),
                instead.cast(pa.dictionary(pa.int32(), pa.string())),
                pa.array([float(row.get("propensity", 1.0)) for row in each]),
            ]
        return _Part(part.places[rows], arrays, causes)


class FeatureTables:
    """The features that components extract, as they are served; rows that lack any are dead."""

    def __init__(self, pipeline: Pipeline, specs: Sequence[ComponentSpec]) -> None:
        import pyarrow as pa

        self._pipeline = pipeline
        self._names = {spec.name: FeatureVector(spec.features or ()).names for spec in specs}
        own = [
            (f"{component}.{name}", pa.float64())
            for component, names in self._names.items()
            for name in names
        ]
        self.schema = _schema(pipeline, own)

    def table(self, done: ChunkStages) -> RowTable:
        """The rows that have all features."""
        return _joined(done, [self._part(part) for part in done.partitions], self.schema)

    def _part(self, part: PartitionStages) -> _Part:
        import pyarrow as pa

        stages = {name: part.stages[name] for name in self._names}
        present = np.logical_and.reduce([stage.present for stage in stages.values()])
        rows: Ints = np.flatnonzero(present)
        arrays = _fields(self._pipeline, part, rows)
        for component, names in self._names.items():
            output = stages[component].output
            for place in range(len(names)):
                values = output[rows, place] if len(rows) else np.zeros(0)
                arrays.append(pa.array(values.astype(np.float64)))
        failures = failures_of(stages)
        return _Part(part.places[rows], arrays, [failures[row] for row in sorted(failures)])


def _schema(pipeline: Pipeline, own: Sequence[tuple[str, Any]]) -> Any:
    """The row's number, its event's fields, what is said of it, and its outcome."""
    import pyarrow as pa

    taken = {ROW, LABEL, *(name for name, _ in own)}
    fields = [  # an event's field may be called like one of ours
        (f"field.{name}" if name in taken else name, arrow_type(of))
        for name, of in pipeline.event.fields.items()
    ]
    return pa.schema([(ROW, pa.int64()), *fields, *own, (LABEL, pa.bool_())])


def _fields(pipeline: Pipeline, part: PartitionStages, rows: Ints) -> list[Any]:
    """The event fields of *rows*, which are valid events."""
    decoded = part.columns.decoded
    at = decoded.valid.searchsorted(rows)
    return [
        arrow_field(decoded.columns[name][at], of)
        for name, of in pipeline.event.fields.items()
    ]  # fmt: skip


def _dictionary(places: Ints, names: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(
        pa.array(places.astype(np.int32)), pa.array([*names], pa.string())
    )


def _joined(done: ChunkStages, parts: Sequence[_Part], schema: Any) -> RowTable:
    """The parts of all partitions, in the order of the chunk."""
    import pyarrow as pa

    chunk, tables = done.chunk, []
    for part in parts:
        if chunk.labels is None or chunk.known is None:
            outcomes = pa.nulls(len(part.places), pa.bool_())
        else:
            outcomes = pa.array(chunk.labels[part.places], mask=~chunk.known[part.places])
        arrays = [pa.array(part.places + chunk.first), *part.arrays, outcomes]
        tables.append(pa.Table.from_arrays(arrays, schema=schema))
    places = np.concatenate([part.places for part in parts])
    table = pa.concat_tables(tables).unify_dictionaries().take(pa.array(np.argsort(places)))
    dead = [
        DeadRow(
            chunk.first + int(of.places[failure.row]), failure.component, failure.error,
            failure.reason, chunk.events[int(of.places[failure.row])],
        )
        for of, part in zip(done.partitions, parts, strict=True)
        for failure in part.dead
    ]  # fmt: skip
    return RowTable(table, sorted(dead, key=lambda each: each.row))


def whole_table(schema: Any, tables: Iterable[RowTable]) -> Table:
    """All rows in one table, in their order; of one without output the column DEAD_LETTER says why.

    In it all else but the row's number is null.
    """
    import pyarrow as pa

    parts, dead = [schema.empty_table()], list[DeadRow]()
    for rows in tables:
        parts.append(rows.table)
        dead += rows.dead
    table = pa.concat_tables(parts).unify_dictionaries()
    lacking = {
        field.name: pa.array([row.row for row in dead], pa.int64())
        if field.name == ROW
        else pa.nulls(len(dead), field.type)
        for field in schema
    }
    whys = pa.array([f"{row.stage}: {row.error}: {row.reason}" for row in dead], pa.string())
    both = pa.concat_tables([
        table.append_column(DEAD_LETTER, pa.nulls(table.num_rows, pa.string())),
        pa.table(lacking, schema=schema).append_column(DEAD_LETTER, whys),
    ])  # fmt: skip
    return both.sort_by(ROW).unify_dictionaries()
