"""Stage batches for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from topics.records.bytes_column import BytesColumn
from topics.records.stage_batch import Failure, ModelRef, Rows, StageBatch

MODEL = ModelRef("features@1", "sha256:00", "fp32")


def rows_of(offsets: Sequence[int], *, backlog: bool = False) -> Rows:
    """Rows whose every column follows from the offset."""
    at = np.array(offsets, np.int64)
    return Rows(
        offsets=at,
        published_ms=at + 1000,
        event_time_ms=at + 500,
        backlog=np.full(len(at), backlog),
        ids=BytesColumn.of([b"event-%d" % offset for offset in offsets]),
        keys=BytesColumn.of([b"key-%d" % (offset % 3) for offset in offsets]),
    )


def batch_of(
    component: str,
    offsets: Sequence[int],
    *,
    absent: Iterable[int] = (),
    backlog: bool = False,
    covers_from: int | None = None,
    model: ModelRef = MODEL,
    width: int = 1,
) -> StageBatch:
    """A batch of *component*; signals are the last digits of offsets; those in *absent* failed."""
    rows = rows_of(offsets, backlog=backlog)
    failed = set(absent)
    present = np.array([offset not in failed for offset in offsets], np.bool_)
    signal = np.where(present, rows.offsets % 1000 / 1000, 0).astype(np.float32)
    return StageBatch(
        component=component,
        topic="p.events",
        partition=0,
        covers_from=(offsets[0] if offsets else 0) if covers_from is None else covers_from,
        rows=rows,
        present=present,
        output=np.repeat(signal[:, None], width, axis=1),
        signal=signal,
        model=model,
        failures=tuple(
            Failure(row, component, "ValueError", f"row {offset}")
            for row, offset in enumerate(offsets)
            if offset in failed
        ),
    )
