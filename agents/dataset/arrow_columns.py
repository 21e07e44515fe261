"""Event fields and times as columns of Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.arrays import Bools, Ints
from topics.pipeline import EventField


def arrow_type(of: EventField) -> Any:
    """Of an event field."""
    import pyarrow as pa

    return {
        "string": pa.string(), "integer": pa.int64(), "number": pa.float64(),
        "boolean": pa.bool_(), "timestamp": time_type(), "vector": pa.list_(pa.float64()),
    }[of.type]  # fmt: skip


def arrow_field(values: Any, of: EventField) -> Any:
    """An event field (N,) as `models.component.Batch` has it; missing values become null."""
    import pyarrow as pa

    if of.type == "vector":
        return pa.array(
            [None if np.isnan(row).all() else row.tolist() for row in values], arrow_type(of)
        )
    if of.type == "string":
        return pa.array([text if text or not of.optional else None for text in values], pa.string())
    missing = np.isnan(values) if values.dtype.kind == "f" else None
    if of.type == "number":
        return pa.array(values, mask=missing)
    if missing is not None:  # optional ones are floats
        values = np.where(missing, 0, values)
    if of.type == "timestamp":
        return arrow_times(values, missing)
    return pa.array(values.astype(np.bool_ if of.type == "boolean" else np.int64), mask=missing)


def time_type() -> Any:
    """Of times: to the millisecond, in UTC."""
    import pyarrow as pa

    return pa.timestamp("ms", tz="UTC")


def arrow_times(times_ms: Sequence[int] | Ints, missing: Bools | None = None) -> Any:
    """Milliseconds since 1970 as times."""
    import pyarrow as pa

    return pa.array(np.asarray(times_ms, np.int64), mask=missing).cast(time_type())
