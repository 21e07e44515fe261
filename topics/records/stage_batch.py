"""A stage batch: what one component says about N source rows, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from topics.records.bytes_column import BytesColumn

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class ModelRef(NamedTuple):
    """Which model made an output."""

    model: str
    """component@version, or component@file."""
    digest: str
    variant: str


class Failure(NamedTuple):
    """Why a row has no output: `row` is its index in the batch."""

    row: int
    component: str
    error: str
    """A class of error, such as InvalidEvent; the label of the metrics."""
    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """The identity of N source rows of one partition: what travels beside every output.

    A row is `offsets[i]` of the source partition; everything else is for people, for the
    decision record and for the clock.
    """

    offsets: Ints
    """Source offsets, strictly ascending (N,)."""
    published_ms: Ints
    """Timestamps of the source records, milliseconds since 1970 (N,)."""
    event_time_ms: Ints
    """Event times, milliseconds since 1970; 0 for an invalid event (N,)."""
    backlog: Bools
    """Already older than the deadline when the pipeline read it (N,)."""
    ids: BytesColumn
    """Event ids, UTF-8; empty for an invalid event."""
    keys: BytesColumn
    """Record keys as the producer sent them; empty for a null key."""
    traces: BytesColumn | None = None
    """W3C traceparent headers, where any row has one."""
    clipped: Bools | None = None
    """Rows whose event time is when they were published, as their own was later than can be (N,).
    Given where there are any."""
    origins: BytesColumn | None = None
    """Where the producer wrote each row's event, as `topic/partition/offset`, if the source record
    is a copy of that record; empty where it is none. Given where there are any copies."""
    fields: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Values of the event fields that the policy's `explore: up_to:` names (N,); NaN where an event
    has none, is invalid, or was read by a worker whose pipeline file does not name the field."""

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, rows: slice) -> Rows:
        return Rows(
            self.offsets[rows],
            self.published_ms[rows],
            self.event_time_ms[rows],
            self.backlog[rows],
            self.ids[rows],
            self.keys[rows],
            None if self.traces is None else self.traces[rows],
            None if self.clipped is None else self.clipped[rows],
            None if self.origins is None else self.origins[rows],
            {name: column[rows] for name, column in self.fields.items()},
        )

    @classmethod
    def concat(cls, parts: Sequence[Rows]) -> Rows:
        """The parts' rows, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.published_ms for part in parts]),
            np.concatenate([part.event_time_ms for part in parts]),
            np.concatenate([part.backlog for part in parts]),
            BytesColumn.concat(part.ids for part in parts),
            BytesColumn.concat(part.keys for part in parts),
            _concat_optional([part.traces for part in parts], parts),
            _concat_clipped(parts),
            _concat_optional([part.origins for part in parts], parts),
            _concat_fields(parts),
        )

    def picked(self, rows: Ints) -> Rows:
        """Some rows (M), in this order."""

        def column(of: BytesColumn) -> BytesColumn:
            items = of.items()
            return BytesColumn.of([items[row] for row in rows.tolist()])

        return Rows(
            self.offsets[rows],
            self.published_ms[rows],
            self.event_time_ms[rows],
            self.backlog[rows],
            column(self.ids),
            column(self.keys),
            None if self.traces is None else column(self.traces),
            None if self.clipped is None else self.clipped[rows],
            None if self.origins is None else column(self.origins),
            {name: values[rows] for name, values in self.fields.items()},
        )


def _concat_optional(
    columns: Sequence[BytesColumn | None], parts: Sequence[Rows]
) -> BytesColumn | None:
    """One column of all parts' own, empty where a part has none; None where no part has one."""
    if all(column is None for column in columns):
        return None
    return BytesColumn.concat(
        column if column is not None else BytesColumn.of([b""] * len(part))
        for column, part in zip(columns, parts, strict=True)
    )


def _concat_clipped(parts: Sequence[Rows]) -> Bools | None:
    if all(part.clipped is None for part in parts):
        return None
    return np.concatenate(
        [np.zeros(len(part), np.bool_) if part.clipped is None else part.clipped for part in parts]
    )


def _concat_fields(parts: Sequence[Rows]) -> dict[str, NDArray[np.float64]]:
    names = dict.fromkeys(name for part in parts for name in part.fields)
    return {
        name: np.concatenate([
            part.fields[name] if name in part.fields else np.full(len(part), np.nan)
            for part in parts
        ])
        for name in names
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class StageBatch:
    """One record of a stage topic."""

    component: str
    topic: str
    """The source topic."""
    partition: int
    """The source partition."""
    covers_from: int
    """The first source offset that this batch answers for; gaps after it hold no record."""
    rows: Rows
    present: Bools
    """False where the component has no output for the row (N,)."""
    output: Floats
    """(N, F); 0 where absent."""
    signal: NDArray[np.float32]
    """(N,); 0 where absent."""
    model: ModelRef
    failures: tuple[Failure, ...] = field(default=())
    """Why rows are absent, by row, ascending."""
    lane: int | None = None
    """Of a repartitioned component: the partition of its key. Rows of the source partition that
    are in other lanes are not here, though the batch covers their offsets too."""
    covers_to: int = -1
    """The last source offset that this batch answers for; at least its last row's."""
    entities: BytesColumn | None = None
    """On its way to a repartitioned component: whose past each row is about (N)."""
    challenger: ModelRef | None = None
    """The model that has made the rows that are `challenged`; `model` has made the others."""
    challenged: Bools | None = None
    """Given with `challenger` (N,)."""
    early: Bools | None = None
    """Rows that did not wait for a source which was down (N,), in a repartitioned component or in
    one that this one reads: their past may be incomplete. Given where there are any."""
    shadow: StageBatch | None = None
    """The same rows, each by the other of the two models: for comparison. It does not travel with
    this batch, but on a topic of its own."""

    def __post_init__(self) -> None:
        last = int(self.rows.offsets[-1]) if len(self.rows) else self.covers_from - 1
        object.__setattr__(self, "covers_to", max(self.covers_to, last))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice) -> StageBatch:
        start, stop, _ = rows.indices(len(self))
        if (start, stop) == (0, len(self)):
            return self
        offsets = self.rows.offsets
        return replace(
            self,
            covers_from=int(offsets[start - 1]) + 1 if start else self.covers_from,
            covers_to=int(offsets[stop]) - 1 if stop < len(self) else self.covers_to,
            rows=self.rows[start:stop],
            present=self.present[start:stop],
            output=self.output[start:stop],
            signal=self.signal[start:stop],
            failures=tuple(
                failure._replace(row=failure.row - start)
                for failure in self.failures
                if start <= failure.row < stop
            ),
            entities=None if self.entities is None else self.entities[start:stop],
            challenged=None if self.challenged is None else self.challenged[start:stop],
            early=None if self.early is None else self.early[start:stop],
            shadow=None,
        )


def concat_failures(parts: Sequence[StageBatch]) -> tuple[Failure, ...]:
    """The parts' failures, with rows counted through all parts."""
    starts = accumulate((len(part) for part in parts), initial=0)
    return tuple(
        failure._replace(row=failure.row + start)
        for part, start in zip(parts, starts, strict=False)
        for failure in part.failures
    )
