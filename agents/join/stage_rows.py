"""Stages' batches side by side: one row per source offset, absent where a stage has none.

`JoinedRows` leave a join, `StageInput` is what a worker's components are given.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from agents.components import INVALID_OUTPUT
from models.component import Batch
from topics.records import (
    Bools,
    BytesColumn,
    Failure,
    Floats,
    Ints,
    ModelRef,
    Rows,
    StageBatch,
    concat_failures,
)

Reason = Literal["down", "late", "unknown"]
"""Why a stage has given no answer to a row."""
ERRORS: Mapping[Reason, str] = {
    "down": "StageDown", "late": "StageLate", "unknown": "StageMissing",
}  # fmt: skip
"""Reason → the class of error that a dead letter names."""
_Scalar = TypeVar("_Scalar", bound=np.generic)

NO_ROWS = Rows(
    np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_),
    BytesColumn(b"", 0), BytesColumn(b"", 0),
)  # fmt: skip


class ModelRun(NamedTuple):
    """From `start` on, the rows' outputs were made by `model`."""

    start: int
    model: ModelRef


@dataclass(frozen=True, slots=True)
class StageRows:
    """One stage's part of joined rows."""

    present: Bools
    output: Floats
    signal: Floats
    models: tuple[ModelRun, ...]
    """Ascending; empty when the stage delivered nothing."""
    failures: tuple[Failure, ...]
    """Of rows that it has answered by saying that it has no output."""
    delivered: Bools
    """Which rows it has answered, by an output or a failure."""
    unanswered: Reason = "unknown"
    """Why it has not answered the others."""
    early: Bools | None = None
    """Rows that did not wait for a source which was down, here or in an input of it (N,). Given
    where there are any."""

    def __getitem__(self, rows: slice) -> StageRows:
        start, stop, _ = rows.indices(len(self.present))
        begun = [run for run in self.models if run.start <= start][-1:]
        within = [run for run in self.models if start < run.start < stop]
        return StageRows(
            self.present[rows], self.output[rows], self.signal[rows],
            tuple(ModelRun(max(0, run.start - start), run.model) for run in [*begun, *within]),
            tuple(failure._replace(row=failure.row - start) for failure in self.failures
                  if start <= failure.row < stop),
            self.delivered[rows], self.unanswered,
            None if self.early is None else self.early[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class JoinedRows:
    """A prefix of source rows with what every stage says about them."""

    rows: Rows
    stages: Mapping[str, StageRows]
    positions: Mapping[Hashable, int]
    """What may be committed once the rows' output is written."""
    covers_from: int
    """The first source offset that these rows answer for."""
    unaccounted: int
    """Source offsets in front of or between the rows that no stage answered for."""
    overdue_to: int = -1
    """Rows up to this source offset have waited for as long as they may."""

    def failures(self) -> dict[int, Failure]:
        """Row → why it is absent somewhere, see `failures_of`."""
        return failures_of(self.stages)

    @property
    def early(self) -> Bools | None:
        """Rows that some stage has marked early (N,); None where there are none."""
        return early_of(self.stages)


class EventInput(NamedTuple):
    """What a component that reads events is given of N rows."""

    batch: Batch
    """The valid events' columns."""
    valid: Ints
    """Which of the N rows they are."""
    failures: Mapping[int, Failure]
    """Why the others are not."""

    def between(self, start: int, stop: int) -> EventInput:
        """Of rows [start, stop)."""
        first, last = self.valid.searchsorted([start, stop]).tolist()
        columns = {name: column[first:last] for name, column in self.batch.columns.items()}
        failures = {
            row - start: failure._replace(row=row - start)
            for row, failure in self.failures.items()
            if start <= row < stop
        }
        return EventInput(Batch(last - first, columns), self.valid[first:last] - start, failures)


@dataclass(frozen=True, slots=True)
class StageInput:
    """Rows of one source partition, and what there is to read of them."""

    partition: int
    covers_from: int
    rows: Rows
    stages: Mapping[str, StageRows] = field(default_factory=dict)
    events: EventInput | None = None

    def __getitem__(self, rows: slice) -> StageInput:
        start, stop, _ = rows.indices(len(self.rows))
        return StageInput(
            self.partition,
            int(self.rows.offsets[start - 1]) + 1 if start else self.covers_from,
            self.rows[rows],
            {name: stage[rows] for name, stage in self.stages.items()},
            None if self.events is None else self.events.between(start, stop),
        )

    @classmethod
    def of(cls, partition: int, joined: JoinedRows) -> StageInput:
        """Joined rows."""
        return cls(partition, joined.covers_from, joined.rows, joined.stages)


def failures_of(stages: Mapping[str, StageRows]) -> dict[int, Failure]:
    """Row → why it is absent somewhere: the first stage's reason, in stage order."""
    failures: dict[int, Failure] = {}
    for stage in stages.values():
        for failure in stage.failures:
            failures.setdefault(failure.row, failure)
    return failures


def early_of(stages: Mapping[str, StageRows]) -> Bools | None:
    """Rows that any of *stages* has marked early (N,); None where there are none."""
    marked = [stage.early for stage in stages.values() if stage.early is not None]
    return np.logical_or.reduce(marked) if marked else None


def union(candidates: Sequence[Sequence[Rows]]) -> Rows:
    """All rows that any stage knows, in source order; a candidate comes in parts."""
    longest = max(candidates, key=lambda parts: sum(map(len, parts)))
    offsets = np.concatenate([part.offsets for part in longest])
    others = [
        part
        for parts in candidates
        for part in parts
        if parts is not longest and not _holds_all(offsets, part.offsets)
    ]
    merged = Rows.concat([*longest, *others])
    if others:
        _, first = np.unique(merged.offsets, return_index=True)
        merged = merged.picked(first)
    return _with_fields(merged, [part for parts in candidates for part in parts if len(part)])


def _with_fields(rows: Rows, parts: Sequence[Rows]) -> Rows:
    """The same with what any of *parts*, all of whose rows are among them, knows of event fields.

    While workers of two versions of the pipeline file run, some know of a field and some do not.
    """
    if len({frozenset(part.fields) for part in parts}) <= 1:
        return rows
    columns = {name: np.full(len(rows), np.nan) for part in parts for name in part.fields}
    for part in parts:
        at = rows.offsets.searchsorted(part.offsets)
        for name, values in part.fields.items():
            known = ~np.isnan(values)
            columns[name][at[known]] = values[known]
    return replace(rows, fields=columns)


def _holds_all(offsets: Ints, wanted: Ints) -> bool:
    """Whether every one of *wanted* is among *offsets*, both ascending."""
    if len(wanted) == len(offsets):
        return bool((offsets == wanted).all())
    if not len(wanted):
        return True
    at = offsets.searchsorted(wanted)
    return bool(at[-1] < len(offsets) and (offsets[at] == wanted).all())


def aligned(parts: list[StageBatch], offsets: Ints, unanswered: Reason = "unknown") -> StageRows:
    """A stage's rows at their place among *offsets*; rows that it did not deliver are absent.

    So are rows whose output has fewer columns than others have. *parts* may be of several lanes,
    in any order.
    """
    n = len(offsets)
    if not parts:
        nothing = np.zeros(n, np.float32)
        nobody = np.zeros(n, np.bool_)
        return StageRows(nobody, nothing[:, None], nothing, (), (), nobody.copy(), unanswered)
    parts = _of_one_width(parts)
    present = np.concatenate([part.present for part in parts])
    output = np.concatenate([part.output for part in parts])
    signal = np.concatenate([part.signal for part in parts])
    failures = concat_failures(parts)
    own = np.concatenate([part.rows.offsets for part in parts])
    at = offsets.searchsorted(own)
    models, early = _model_runs(parts, at), _early(parts)
    if len(own) == n and bool((own == offsets).all()):
        return StageRows(
            present, output, signal, models, failures, np.ones(n, np.bool_), early=early
        )
    failures = tuple(sorted(failure._replace(row=int(at[failure.row])) for failure in failures))
    delivered = np.zeros(n, np.bool_)
    delivered[at] = True
    return StageRows(
        _scattered(present, at, n), _scattered(output, at, n), _scattered(signal, at, n),
        models, failures, delivered, unanswered,
        None if early is None else _scattered(early, at, n),
    )  # fmt: skip


def _early(parts: list[StageBatch]) -> Bools | None:
    if all(part.early is None for part in parts):
        return None
    return np.concatenate(
        [np.zeros(len(part), np.bool_) if part.early is None else part.early for part in parts]
    )


def _of_one_width(parts: list[StageBatch]) -> list[StageBatch]:
    """The parts, all as wide as the widest; of one that was not so, no row is present.

    A part without any output may have another width than the rest, and that is no failure. Two
    widths come side by side where lanes run two versions of a component; mostly rows leave a join
    in runs of one width, see `Lane.cut`.
    """
    widths = {part.output.shape[1] for part in parts}
    if len(widths) == 1:
        return parts
    width = max((p.output.shape[1] for p in parts if p.present.any()), default=1)
    return [part if part.output.shape[1] == width else _without_outputs(part, width)
            for part in parts]  # fmt: skip


def _without_outputs(part: StageBatch, width: int) -> StageBatch:
    """The part with *width* columns; its rows that were present say why they are not."""
    n = len(part)
    reason = f"{part.output.shape[1]} output columns where rows beside it have {width}"
    absent = [Failure(int(row), part.component, INVALID_OUTPUT, reason)
              for row in np.flatnonzero(part.present)]  # fmt: skip
    return replace(
        part, present=np.zeros(n, np.bool_), output=np.zeros((n, width), part.output.dtype),
        signal=np.zeros(n, np.float32), failures=tuple(sorted([*part.failures, *absent])),
    )  # fmt: skip


def _model_runs(parts: list[StageBatch], at: Ints) -> tuple[ModelRun, ...]:
    models = list(dict.fromkeys(model for part in parts if len(part) for model in _models(part)))
    if len(models) == 1:
        return (ModelRun(int(at.min()), models[0]),)
    which = np.concatenate([_which_models(part, models) for part in parts if len(part)])
    order = np.argsort(at, kind="stable")
    at, which = at[order], which[order]
    changes = np.flatnonzero(np.diff(which, prepend=-1))
    return tuple(ModelRun(int(at[row]), models[which[row]]) for row in changes)


def _models(part: StageBatch) -> list[ModelRef]:
    return [part.model] if part.challenger is None else [part.model, part.challenger]


def _which_models(part: StageBatch, models: list[ModelRef]) -> Ints:
    """The place among *models* of the one that has made each row."""
    if part.challenger is None or part.challenged is None:
        return np.full(len(part), models.index(part.model))
    return np.where(
        part.challenged, models.index(part.challenger), models.index(part.model)
    ).astype(np.int64)


def _scattered(values: NDArray[_Scalar], at: Ints, n: int) -> NDArray[_Scalar]:
    full = np.zeros((n, *values.shape[1:]), values.dtype)
    full[at] = values
    return full
