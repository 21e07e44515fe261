"""Rows of the outputs that redrive records carry: some of a batch, and of many batches as few."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from topics.records import Bools, BytesColumn, Ints, Rows, StageBatch, concat_failures


def picked(batches: Sequence[StageBatch], offsets: Ints) -> list[StageBatch]:
    """Of *batches* the rows at some source *offsets* (M,), ascending; batches without any go."""
    parts: list[StageBatch] = []
    for batch in batches:
        rows = np.flatnonzero(np.isin(batch.rows.offsets, offsets, assume_unique=True))
        if len(rows):
            parts.append(batch if len(rows) == len(batch) else _rows_of(batch, rows))
    return parts


def merged(batches: Sequence[StageBatch]) -> list[StageBatch]:
    """The rows of *batches*, which are of one component and different, in a batch of each model."""
    alike = defaultdict[tuple[object, ...], list[StageBatch]](list)
    for batch in batches:
        alike[
            batch.model, batch.challenger, batch.output.shape[1], batch.output.dtype,
            batch.entities is None,
        ].append(batch)  # fmt: skip
    return [parts[0] if len(parts) == 1 else _concat(parts) for parts in alike.values()]


def _concat(parts: Sequence[StageBatch]) -> StageBatch:
    whole = replace(
        parts[0],
        rows=Rows.concat([part.rows for part in parts]),
        present=np.concatenate([part.present for part in parts]),
        output=np.concatenate([part.output for part in parts]),
        signal=np.concatenate([part.signal for part in parts]),
        failures=concat_failures(parts),
        entities=BytesColumn.concat(part.entities for part in parts if part.entities is not None)
        if parts[0].entities is not None else None,
        challenged=_flags([part.challenged for part in parts], parts),
        early=_flags([part.early for part in parts], parts),
    )  # fmt: skip
    return _rows_of(whole, np.argsort(whole.rows.offsets, kind="stable"))


def _flags(columns: Sequence[Bools | None], parts: Sequence[StageBatch]) -> Bools | None:
    if all(column is None for column in columns):
        return None
    return np.concatenate([
        np.zeros(len(part), np.bool_) if column is None else column
        for column, part in zip(columns, parts, strict=True)
    ])  # fmt: skip


def _rows_of(batch: StageBatch, rows: Ints) -> StageBatch:
    """Some rows (M,) of a batch, in this order, whose offsets ascend."""
    place = {row: at for at, row in enumerate(rows.tolist())}
    failures = sorted(
        failure._replace(row=place[failure.row])
        for failure in batch.failures
        if failure.row in place
    )
    entities = batch.entities.items() if batch.entities is not None else None
    return replace(
        batch,
        covers_from=-1,
        covers_to=-1,
        rows=batch.rows.picked(rows),
        present=batch.present[rows],
        output=batch.output[rows],
        signal=batch.signal[rows],
        failures=tuple(failures),
        entities=BytesColumn.of([entities[row] for row in place]) if entities is not None else None,
        challenged=None if batch.challenged is None else batch.challenged[rows],
        early=None if batch.early is None else batch.early[rows],
        shadow=None,
    )
