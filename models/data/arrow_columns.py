"""Apache Arrow columns (of Parquet and CSV files) to columns of event fields.

pyarrow comes with the extra `data`; its objects are `Any` here because it has no types.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from models.data.columns import Column, typed, without


def arrow_column(array: Any, kind: str | None, missing: Collection[str] = ()) -> Column:
    """A pyarrow array as a column of the given event field type; see `column_values.typed`.

    `missing` is text that stands for no value.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if missing and (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        array = pa.array(without(array.to_pylist(), missing), pa.string())
    if kind is not None:
        array = _cast(array, kind)
    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        # Arrow keeps zoned times as UTC; naive ones are UTC by our contract.
        array = array.cast(pa.timestamp("us"), safe=False)
    elif kind == "boolean" or pa.types.is_nested(array.type) or not _fits_numpy(array):
        return typed(array.to_pylist(), kind)
    column: np.ndarray[Any, np.dtype[Any]] = array.to_numpy(zero_copy_only=False)
    return column


def _fits_numpy(array: Any) -> bool:
    """Whether numpy holds the array without boxing or inventing values."""
    import pyarrow as pa

    if pa.types.is_floating(array.type):
        return True
    plain = pa.types.is_integer(array.type) or pa.types.is_boolean(array.type)
    return bool(plain and array.null_count == 0)


def _cast(array: Any, kind: str) -> Any:
    """The array in the Arrow type of *kind*, or unchanged when its values do not all fit."""
    import pyarrow as pa

    if kind == "string" and pa.types.is_floating(array.type):
        # Identifiers that a tool made floating because some were missing: 596.0 is "596".
        array = _cast(array, "integer")
    targets = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64()}
    if kind not in targets or pa.types.is_nested(array.type) or pa.types.is_temporal(array.type):
        return array
    try:
        return array.cast(targets[kind])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return array
