"""What fields and signals looked like in training: bins, and counts of its last 28 days, by hour.

Kept with a model's version in the registry (fields that it reads, its signal) and with that of the
weights (the score). Counts by hour, not one histogram: how much windows of ordinary days differ is
read from them (`models.drift.ordinary`), so no limit has to be guessed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter

from models.arrays import Floats64, Ints
from models.drift.binning import FIRST, PLACES, Bins, CategoryBins, NumberBins, Places
from models.drift.hour_counts import HOUR_MS, HourCounts
from models.drift.together import Together

REFERENCE_DAYS = 28
_MAX_ABS_HOUR = 2**40
Source = Literal["event", "signal"]
TOGETHER = "together"
"""A series' name behind that of the component whose fields it is of: `traffic together`."""


class Series(BaseModel):
    """One field of the event, or one signal in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The field; of a signal its component, or `score`."""
    source: Source
    bins: Bins
    together: Together | None = None
    """What makes its values of several fields; None for values that are there."""

    def values(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
        """Its values (N,) in *columns* of its source; None where they are not all there."""
        if self.together is None:
            return columns.get(self.name)
        if any(name not in columns for name in self.together.fields):
            return None
        return self.together.distances(columns)

    def counted(self, values: NDArray[Any]) -> tuple[Places, Floats64 | None]:
        """Where *values* (N,) fall, and what they add to a mean; None for words."""
        numbers = self.bins.within(values) if isinstance(self.bins, NumberBins) else None
        return self.bins.places(values), numbers

    @property
    def width(self) -> int:
        """How many of its places are in use: the reference's own, missing and outside."""
        return self.bins.inside + (PLACES - self.bins.inside > FIRST) + FIRST


_SERIES = TypeAdapter(list[Series])


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """S series, and what they were in the hours of the reference (D = 1)."""

    series: Sequence[Series]
    counts: HourCounts

    @classmethod
    def of_columns(
        cls,
        source: Source,
        columns: Mapping[str, NDArray[Any]],
        times_ms: Ints | None,
        together: str | None = None,
    ) -> Self:
        """The reference of N rows: their *columns*, each (N,), and event times (N,).

        Rows without times give bins alone: hours are then learned in service. A column that cannot
        be watched (an identifier, a vector, nothing but missing values) is left out. *together*
        names a component whose fields these are: its numbers are watched together, too.
        """
        series, places, numbers = [], [], []
        for name, values in columns.items():
            bins = _bins_of(values)
            if bins is not None:
                series.append(Series(name=name, source=source, bins=bins))
                place, number = series[-1].counted(values)
                places.append(place)
                numbers.append(number)
        if together is not None and (scores := Together.of(columns)) is not None:
            distances = scores.distances(columns)
            series.append(
                Series(
                    name=f"{together} {TOGETHER}", source=source, bins=NumberBins.of(distances),
                    together=scores,
                )
            )  # fmt: skip
            place, number = series[-1].counted(distances)
            places.append(place)
            numbers.append(number)
        if times_ms is None or not series:
            return cls(series, HourCounts.empty(len(series)))
        counts = HourCounts.of_rows(times_ms // HOUR_MS, places, numbers)
        newest = int(counts.hours[-1]) + 1
        return cls(series, counts.between(newest - REFERENCE_DAYS * 24, newest))

    @classmethod
    def joined(cls, parts: Sequence[Reference]) -> Self:
        """All series of *parts*; of one that several have, the first part's."""
        hours = np.unique(np.concatenate([np.zeros(0, np.int64), *(p.counts.hours for p in parts)]))
        series: list[Series] = []
        counts, sums = [], []
        for part in parts:
            taken = {(each.source, each.name) for each in series}
            new = [i for i, each in enumerate(part.series) if (each.source, each.name) not in taken]
            at = np.searchsorted(hours, part.counts.hours)
            wide = np.zeros((len(hours), len(new), PLACES, 1), np.int64)
            wide[at] = part.counts.counts[:, new]
            sum_ = np.zeros((len(hours), len(new)))
            sum_[at] = part.counts.sums[:, new]
            series += [part.series[i] for i in new]
            counts.append(wide)
            sums.append(sum_)
        if not series:
            return cls([], HourCounts.empty(0))
        both = HourCounts(hours, np.concatenate(counts, axis=1), np.concatenate(sums, axis=1))
        return cls(series, both)

    @property
    def days(self) -> Ints:
        """On how many days there are rows, by series, (S,)."""
        days = np.unique(self.counts.hours // 24, return_inverse=True)[1]
        seen = np.zeros((int(days.max(initial=-1)) + 1, len(self.series)), np.bool_)
        np.logical_or.at(seen, days, self.counts.rows > 0)
        total: Ints = seen.sum(axis=0)
        return total

    def to_bytes(self) -> bytes:
        """As a NumPy archive; equal bytes for equal counts."""
        file = io.BytesIO()
        np.savez_compressed(
            file,
            series=np.frombuffer(_SERIES.dump_json([*self.series]), np.uint8),
            hours=self.counts.hours,
            counts=self.counts.counts[..., 0].astype(np.uint32),
            sums=self.counts.sums,
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what `to_bytes` wrote; ValueError when it is something else."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                series = _SERIES.validate_json(file["series"].astype(np.uint8).tobytes())
                hours = file["hours"].astype(np.int64)
                counts = file["counts"].astype(np.int64)[..., None]
                sums = file["sums"].astype(np.float64)
        except (KeyError, ValueError, TypeError, OSError, EOFError, BadZipFile) as exc:
            raise ValueError(f"no reference of drift: {str(exc).splitlines()[0]}") from exc
        shape = (len(hours), len(series))
        ordered = bool((np.diff(hours) > 0).all() and (np.abs(hours) < _MAX_ABS_HOUR).all())
        if counts.shape != (*shape, PLACES, 1) or sums.shape != shape or not ordered:
            raise ValueError(f"no reference of drift: {counts.shape} for {len(series)} series")
        if not np.isfinite(sums).all():
            raise ValueError("no reference of drift: sums that are not finite")
        return cls(series, HourCounts(hours, counts, sums))


def _bins_of(values: NDArray[Any]) -> NumberBins | CategoryBins | None:
    if values.ndim != 1:
        return None
    try:
        if values.dtype.kind in "iuf":
            return NumberBins.of(values)
        return CategoryBins.of(values)
    except ValueError:
        return None
