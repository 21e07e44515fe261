"""Events by segments of a field: numbers by quantiles, others by their most frequent values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from agents.replay.decision_reader import FieldValues
from agents.replay.errors import NotAField
from models.arrays import Bools, Ints
from topics.pipeline import Pipeline
from topics.records import rfc3339_time

_BINS = 5
_MOST_VALUES = 10
_OTHERS, _MISSING, _GONE = "others", "missing", "event gone"
_NUMBERS = ("number", "integer", "timestamp")


class Segments(NamedTuple):
    """N events by segment."""

    names: Sequence[str]
    place: Ints
    """Of each event its segment's place in `names` (N,)."""


def check_field(pipeline: Pipeline, name: str) -> None:
    """Raise NotAField for what segments cannot be made of."""
    usable = [field for field, spec in pipeline.event.fields.items() if spec.type != "vector"]
    if name not in usable:
        raise NotAField(name, usable)


def segments_of(pipeline: Pipeline, name: str, field: FieldValues) -> Segments:
    """The segments of a field's values: quantile bins of numbers, else the most frequent values."""
    kind = pipeline.event.fields[name].type
    if kind in _NUMBERS:
        return _by_quantiles(field, is_time=kind == "timestamp")
    return _by_value(field)


def _by_quantiles(field: FieldValues, *, is_time: bool) -> Segments:
    values = field.values.astype(np.float64)
    there = field.known & np.isfinite(values)
    if not there.any():
        return _named([], np.full(len(values), -1), field, there)
    edges = np.unique(np.quantile(values[there], np.linspace(0, 1, _BINS + 1), method="lower"))
    inner = edges[1:-1]
    place = np.where(there, inner.searchsorted(values, "right"), -1)
    shown = [rfc3339_time(int(edge)) if is_time else f"{edge:g}" for edge in edges.tolist()]
    names = [f"{low} to {high}" for low, high in pairwise(shown)] or shown
    return _named(names, place, field, there)


def _by_value(field: FieldValues) -> Segments:
    texts = np.array([str(value) for value in field.values.tolist()], object)
    there = field.known & (texts != "")
    counts = Counter(texts[there].tolist()).most_common()
    names = [value for value, _ in counts[:_MOST_VALUES]]
    at = {value: number for number, value in enumerate(names)}
    if len(counts) > _MOST_VALUES:
        names.append(_OTHERS)
    place = np.fromiter(
        (at.get(text, len(at)) if known else -1 for text, known in zip(texts, there, strict=True)),
        np.int64, len(texts),
    )  # fmt: skip
    return _named(names, place, field, there)


def _named(names: Sequence[str], place: Ints, field: FieldValues, there: Bools) -> Segments:
    """With segments for events without the field, and for those that are gone."""
    names, place = [*names], place.astype(np.int64)
    for name, rows in ((_MISSING, field.known & ~there), (_GONE, ~field.known)):
        if rows.any():
            place[rows] = len(names)
            names.append(name)
    return Segments(names, place)
