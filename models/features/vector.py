"""Feature vectors from event fields: the same code for training and for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from models.arrays import Bools, Floats64
from models.component import Column
from topics.pipeline import Feature

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday
_LAST_NIGHT_HOUR = 6
_SATURDAY = 5


class FeatureVector:
    """Computes the features of a pipeline file, column by column. Times are UTC.

    >>> vector = FeatureVector([Feature(name="hour", of="at", apply="hour")])
    >>> vector.compute({"at": np.array([1522540831000])})
    array([[0.]])
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self._features = features
        self.names = [name for feature in features for name in feature.columns]
        """One name per column; `one_hot` has a column per category, all 0 for any other."""

    def compute(self, columns: Mapping[str, Column]) -> Floats64:
        """The features of N rows, float64 (N, F).

        *columns* holds event fields, and windowed features by the names of their columns.
        NaN where a field is missing and the feature has no value for that.
        """
        return np.concatenate([_block(feature, columns) for feature in self._features], axis=1)


def _block(feature: Feature, columns: Mapping[str, Column]) -> Floats64:
    if feature.over is not None:
        return np.stack([columns[name] for name in feature.columns], axis=1)
    column = columns[feature.of]
    match feature.apply:
        case "one_hot":
            chosen = [column == choice for choice in feature.choices or []]
            return np.stack(chosen, axis=1).astype(np.float64)
        case "ordinal":
            return _ordinal(column, feature.choices or [])[:, None]
        case "missing":
            missing = column == "" if column.dtype == object else np.isnan(column)
            return missing.astype(np.float64)[:, None]
        case apply:
            values = _TRANSFORMS[apply](column.astype(np.float64))
            if feature.missing is not None:
                values = np.where(np.isnan(values), feature.missing, values)
            return values[:, None]


def _ordinal(column: Column, choices: Sequence[str]) -> Floats64:
    """The place of each value in *choices*, from 0 on; -1 for any other and for none."""
    places = np.full(len(column), -1.0)
    for place, choice in enumerate(choices):
        places[column == choice] = place
    return places


def _weekday(times_ms: Floats64) -> Floats64:
    """0 for Monday to 6 for Sunday."""
    weekday: Floats64 = (np.floor(times_ms / _DAY_MS) + _EPOCH_WEEKDAY) % 7
    return weekday


def _month(times_ms: Floats64) -> Floats64:
    """1 for January to 12 for December."""
    missing = np.isnan(times_ms)
    times = np.where(missing, 0, times_ms).astype(np.int64).astype("datetime64[ms]")
    months = times.astype("datetime64[M]").astype(np.int64) % 12 + 1
    return np.where(missing, np.nan, months)


def _hour(times_ms: Floats64) -> Floats64:
    hour: Floats64 = np.floor(times_ms / _HOUR_MS) % 24
    return hour


def _flag(holds: Bools, times_ms: Floats64) -> Floats64:
    """1 where it holds, 0 where not, NaN where the time is missing."""
    return np.where(np.isnan(times_ms), np.nan, holds.astype(np.float64))


_TRANSFORMS: Mapping[str, Callable[[Floats64], Floats64]] = {
    "identity": lambda values: values,
    # Negative values have no logarithm; their size below zero carries no risk here.
    "log1p": lambda values: np.log1p(np.maximum(values, 0)),
    "hour": _hour,
    "day_of_week": _weekday,
    "month": _month,
    # As the handbook has it: hours 0 to 6.
    "night": lambda times: _flag(_hour(times) <= _LAST_NIGHT_HOUR, times),
    "weekend": lambda times: _flag(_weekday(times) >= _SATURDAY, times),
}
