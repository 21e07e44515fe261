"""Feature vectors from event fields: the same code for training and for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.component import Column
from topics.pipeline import Feature

Doubles = NDArray[np.float64]

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
        """One name per column of the vector."""

    def compute(self, columns: Mapping[str, Column]) -> Doubles:
        """The features of N rows, float64 (N, F). A missing value (NaN) stays NaN.

        *columns* holds event fields, and windowed features by the names of their columns.
        """
        return np.concatenate([_block(feature, columns) for feature in self._features], axis=1)


def _block(feature: Feature, columns: Mapping[str, Column]) -> Doubles:
    if feature.over is not None:
        return np.stack([columns[name] for name in feature.columns], axis=1)
    column = columns[feature.of]
    if feature.choices is not None:
        return np.stack([column == choice for choice in feature.choices], axis=1).astype(float)
    values: Doubles = _TRANSFORMS[feature.apply](column.astype(np.float64))
    return values[:, None]


def _weekday(times_ms: Doubles) -> Doubles:
    """0 for Monday to 6 for Sunday."""
    weekday: Doubles = (np.floor(times_ms / _DAY_MS) + _EPOCH_WEEKDAY) % 7
    return weekday


def _hour(times_ms: Doubles) -> Doubles:
    hour: Doubles = np.floor(times_ms / _HOUR_MS) % 24
    return hour


def _flag(holds: NDArray[np.bool_], times_ms: Doubles) -> Doubles:
    """1 where it holds, 0 where not, NaN where the time is missing."""
    return np.where(np.isnan(times_ms), np.nan, holds.astype(np.float64))


_TRANSFORMS: Mapping[str, Callable[[Doubles], Doubles]] = {
    "identity": lambda values: values,
    # Negative values have no logarithm; their size below zero carries no risk here.
    "log1p": lambda values: np.log1p(np.maximum(values, 0)),
    "hour": _hour,
    "day_of_week": _weekday,
    # As the handbook has it: hours 0 to 6.
    "night": lambda times: _flag(_hour(times) <= _LAST_NIGHT_HOUR, times),
    "weekend": lambda times: _flag(_weekday(times) >= _SATURDAY, times),
}
