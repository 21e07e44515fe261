"""What one column of a data file holds: its type, how it writes times and numbers, its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import Bools
from topics.pipeline import FieldType


@dataclass(frozen=True, slots=True)
class InferredColumn:
    """A column of N rows and what it holds."""

    name: str
    """As in the file."""
    type: FieldType | None
    """None when it cannot be a field; `problem` says why."""
    values: NDArray[Any]
    """(N,): float64 with NaN for missing (timestamps in ms), or str objects, "" for missing."""
    distinct: int
    """Different values, without missing ones."""
    time_format: str | None = None
    """As in `DataMapping.time_formats`; None for ISO 8601."""
    problem: str = ""
    number_format: str | None = None
    """As in `DataMapping.number_formats`; None for what JSON and CSV have anyway."""
    other_formats: Sequence[str] = ()
    """Formats that fit every value as well, and say something else."""
    missing_words: Sequence[str] = ()
    """Text that stands for no value in this column alone."""
    remark: str = ""
    """What it nearly is, and how it becomes that; a sentence."""
    is_identifier: bool = False
    """Whether its values are names, whatever they look like."""

    @property
    def missing(self) -> Bools:
        """Where no value is, (N,)."""
        gone = self.values == "" if self.values.dtype == object else np.isnan(self.values)
        return np.asarray(gone, dtype=np.bool_)


def numeric_column(
    name: str, kind: FieldType, values: Sequence[object], number: Callable[[Any], float],
    **more: Any,
) -> InferredColumn:  # fmt: skip
    """A column of numbers; each different value is read once."""
    read = {value: number(value) for value in dict.fromkeys(values) if value is not None}
    return numbered_column(name, kind, values, read, len(set(read.values())), **more)


def numbered_column(
    name: str, kind: FieldType, values: Sequence[object], read: Mapping[Any, float],
    distinct: int, **more: Any,
) -> InferredColumn:  # fmt: skip
    """A column of numbers, of which *read* says each different value's."""
    numbers = np.array([np.nan if v is None else read[v] for v in values], dtype=np.float64)
    return InferredColumn(name, kind, numbers, distinct, **more)


def text_column(name: str, values: Sequence[object], **more: Any) -> InferredColumn:
    """A column of text; of whole numbers too, that only text can hold."""
    texts = np.array(["" if value is None else str(value) for value in values], dtype=object)
    return InferredColumn(name, "string", texts, len(set(texts.tolist()) - {""}), **more)


def unusable_column(name: str, values: Sequence[object], problem: str) -> InferredColumn:
    """A column that cannot be a field."""
    return InferredColumn(name, None, np.full(len(values), np.nan), 0, problem=problem)
