"""The detector: rows in, hour by hour; findings out, when a series leaves what is ordinary.

Bounded: the reference (28 days of counts), the newest 8 days with the decisions, and the hours that
are still open. Two detectors that were given the same rows in any order before the hours are closed
find the same.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from models.arrays import Bools, Floats64, Ints
from models.drift.binning import FIRST, PLACES, NumberBins, Places
from models.drift.change_point import ChangePoint, OrdinaryMeans
from models.drift.effect_sizes import jensen_shannon, psi, wasserstein
from models.drift.finding import Finding, Growth, Kind
from models.drift.hour_counts import HOUR_MS, HourCounts
from models.drift.ordinary import (
    READY_DAYS,
    TESTS,
    WINDOW_HOURS,
    Ordinary,
    WindowSizes,
    window_before,
    window_sizes,
)
from models.drift.reference import REFERENCE_DAYS, Reference, Source

LEAST_SHIFT = 0.1
"""A change of the mean matters from so many of the field's standard deviations on."""
ALARMS_A_WEEK = 1.0
_RECENT_HOURS = 192
_HOURS_A_WEEK = 168
_RELEARN_HOURS = 24
_TWICE = 2
_SUSPECT_LOOKS = 72
"""ADWIN often cuts before the hours after a change outweigh those before it in what it keeps."""
_MOST_GROWN = 3


@dataclass(slots=True)
class _Episode:
    """What goes on with one series."""

    above: int = 0
    """Looks in a row that exceeded a limit."""
    calm: int = 0
    suspect: int = 0
    """Looks that are left to see whether a change of the mean is large enough to matter."""
    finding: Finding | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PlacedRows:
    """N rows by where their values fall, of k series of one source."""

    series: Ints
    """Places in the reference (k,)."""
    hours: Ints
    """Hours since 1970 (N,)."""
    places: Places
    """(N, k)."""
    numbers: Floats64
    """What they add to means, (N, k)."""

    def take(self, rows: Ints | Bools) -> PlacedRows:
        """These rows."""
        return PlacedRows(self.series, self.hours[rows], self.places[rows], self.numbers[rows])


class DriftDetector:
    """Watches the series of *reference*; *decisions* are the policy's, in any order."""

    def __init__(
        self, reference: Reference, decisions: Sequence[str], alarms_a_week: float = ALARMS_A_WEEK
    ) -> None:
        self.reference, self._alarms = reference, alarms_a_week
        self._kinds = ["", *decisions]
        self._open = HourCounts.empty(len(reference.series), len(self._kinds))
        self._recent = self._open
        self._closed: int | None = None
        self.late_rows = 0
        """Rows that came when their hour was closed."""
        self._episodes = [_Episode() for _ in reference.series]
        hours = alarms_a_week / (_HOURS_A_WEEK * max(len(reference.series), 1) * TESTS)
        self._changes = [ChangePoint(hours) for _ in reference.series]
        self._before = np.full(len(reference.series), np.nan)
        self._before_hour = -1
        self._learnt_hours = 0
        self._numbers: Bools = np.array(
            [isinstance(each.bins, NumberBins) for each in reference.series], np.bool_
        )
        self._learn()

    # -- rows

    def placed(
        self, source: Source, columns: Mapping[str, NDArray[Any]], times_ms: Ints
    ) -> PlacedRows:
        """Where N rows of a source fall: *columns* (N,) each, and event times (N,)."""
        at, places, numbers = [], [], []
        for place, series in enumerate(self.reference.series):
            values = series.values(columns) if series.source == source else None
            if values is not None:
                at.append(place)
                found, number = series.counted(values)
                places.append(found)
                numbers.append(np.zeros(len(found)) if number is None else number)
        rows = len(times_ms)
        return PlacedRows(
            np.array(at, np.int64), times_ms // HOUR_MS,
            np.array(places, np.uint8).reshape(len(at), rows).T,
            np.array(numbers, np.float64).reshape(len(at), rows).T,
        )  # fmt: skip

    def count(self, rows: PlacedRows, decisions: Sequence[str | None] | None = None) -> None:
        """Count rows, and what was decided of each (N,); None for what is not known."""
        if self._closed is not None:
            in_time = rows.hours >= self._closed
            self.late_rows += int((~in_time).sum())
            if decisions is not None:
                decisions = [decisions[row] for row in np.flatnonzero(in_time).tolist()]
            rows = rows.take(in_time)
        if not len(rows.hours) or not len(rows.series):
            return
        decided = None
        if decisions is not None:
            names = {name: place for place, name in enumerate(self._kinds)}
            decided = np.array([names.get(name or "", 0) for name in decisions], np.int64)
        part = HourCounts.of_rows(
            rows.hours, [*rows.places.T], [*rows.numbers.T], decided, len(self._kinds)
        )
        self._open = self._open.added(self._widened(part, rows.series.tolist()))

    def add(
        self,
        source: Source,
        columns: Mapping[str, NDArray[Any]],
        times_ms: Ints,
        decisions: Sequence[str | None] | None = None,
    ) -> None:
        """Place N rows of a source and count them."""
        self.count(self.placed(source, columns, times_ms), decisions)

    @property
    def newest_ms(self) -> int:
        """When the newest hour that has rows begins; -1 without one."""
        hours = self._open.hours if len(self._open.hours) else self._recent.hours
        return int(hours[-1]) * HOUR_MS if len(hours) else -1

    def _widened(self, part: HourCounts, at: Sequence[int]) -> HourCounts:
        """Counts of some series as counts of all."""
        series = len(self.reference.series)
        counts = np.zeros((len(part.hours), series, PLACES, len(self._kinds)), np.int64)
        counts[:, at] = part.counts
        sums = np.zeros((len(part.hours), series))
        sums[:, at] = part.sums
        return HourCounts(part.hours, counts, sums)

    # -- hours

    def close(self, until_ms: int) -> list[Finding]:
        """Take every hour before *until_ms* for whole; what is found new, and what has ended."""
        until, findings = until_ms // HOUR_MS, []
        for hour in self._open.hours[self._open.hours < until].tolist():
            findings += self._closed_hour(int(hour))
        self._open = self._open.between(until, 2**62)
        self._closed = until if self._closed is None else max(until, self._closed)
        return findings

    def _closed_hour(self, hour: int) -> list[Finding]:
        new = self._open.between(hour, hour + 1)
        self._recent = self._recent.added(new).between(hour + 1 - _RECENT_HOURS, hour + 1)
        changed = self._changed(new)
        sizes = self.sizes(hour + 1)
        findings = self._judged(hour, sizes, changed)
        self._take_into_reference(new)
        return findings

    def sizes(self, behind: int) -> WindowSizes:
        """How the window before hour *behind* differs from the reference."""
        return window_sizes(window_before(self._recent, behind), self.ordinary.shares)

    def _changed(self, new: HourCounts) -> Bools:
        """Which series' means ADWIN finds changed with this hour, (S,)."""
        left = self._means.left(new)[0]
        hour = int(new.hours[0])
        before = self._before if self._before_hour == hour - 1 else np.full(len(left), np.nan)
        changed = np.zeros(len(left), np.bool_)
        for place in np.flatnonzero(self._numbers & self.ordinary.ready).tolist():
            deviation, value = self._means.deviation[place], left[place]
            if deviation > 0 and np.isfinite(value):
                usual = self._means.correlation[place] * np.nan_to_num(before[place])
                changed[place] = self._changes[place].update((value - usual) / deviation)
        self._before, self._before_hour = left, hour
        return changed

    def _judged(self, hour: int, sizes: WindowSizes, changed: Bools) -> list[Finding]:
        ordinary, findings = self.ordinary, []
        limits = ordinary.psi_limit_of(sizes.counts.sum(axis=1))
        beyond: dict[Kind, Bools] = {
            "missing": sizes.missing > ordinary.missing_limit,
            "outside": sizes.outside > ordinary.outside_limit,
            "distribution": sizes.psi > limits,
        }
        for place, episode in enumerate(self._episodes):
            kind: Kind | None = next((name for name, which in beyond.items() if which[place]), None)
            far = episode.finding is not None and self._shift(place, episode.finding) >= LEAST_SHIFT
            episode.above = episode.above + 1 if kind else 0
            episode.calm = 0 if kind or far else episode.calm + 1
            if episode.finding is None:
                episode.suspect = _SUSPECT_LOOKS if changed[place] else max(episode.suspect - 1, 0)
                since = self._changed_hour(place, hour) if episode.suspect else hour
                if kind is not None and episode.above >= _TWICE:
                    since = self._since(place)
                elif episode.suspect and self._still_shifted(place, since, hour):
                    kind = "mean"
                else:
                    continue
                episode.finding = self._finding(place, kind, since, hour, sizes, limits[place])
                findings.append(episode.finding)
            elif episode.calm >= WINDOW_HOURS:
                ended = {"ended": True, "since_ms": hour * HOUR_MS, "seen_ms": hour * HOUR_MS}
                findings.append(episode.finding.model_copy(update=ended))
                self._episodes[place] = _Episode()
                self._changes[place].restore([])  # or the way back would be a change, too
        return findings

    @property
    def going_on(self) -> list[Finding]:
        """What was found and has not ended."""
        return [each.finding for each in self._episodes if each.finding is not None]

    # -- how ordinary windows are

    @property
    def learning(self) -> dict[str, int]:
        """Series of which nothing is said yet → days until it can be, at the earliest."""
        days, series = self.reference.days.tolist(), self.reference.series
        return {
            each.name: (READY_DAYS if known < READY_DAYS else REFERENCE_DAYS) - known
            for each, known, ready in zip(series, days, self.ordinary.ready, strict=True)
            if not ready
        }

    def _learn(self) -> None:
        self.ordinary = Ordinary.of(self.reference, self._alarms)
        self._means = OrdinaryMeans.of(self.reference.counts)
        self._whole: Bools = self.reference.days >= REFERENCE_DAYS

    def _take_into_reference(self, new: HourCounts) -> None:
        """Complete a reference that has fewer than 28 days with hours in which nothing is odd."""
        calm = np.array([each.finding is None and each.above == 0 for each in self._episodes])
        lacking = ~self._whole & calm
        if not lacking.any():
            return
        counts = np.where(lacking[None, :, None, None], new.counts, 0)
        part = HourCounts(new.hours, counts, np.where(lacking, new.sums, 0.0))
        both = self.reference.counts.added(part.whatever_decided())
        self.reference = Reference(self.reference.series, both)
        self._learnt_hours += 1
        if self._learnt_hours % _RELEARN_HOURS == 0:
            self._learn()

    # -- what is said of a finding

    def _since(self, place: int) -> int:
        """The hour that divides the newest 8 days best: the largest index, weighed by its rows."""
        counts = self._recent.counts[:, place].sum(axis=-1)
        before = np.cumsum(counts, axis=0)
        after = before[-1] - before
        rows, rest = before.sum(axis=1), after.sum(axis=1)
        total = rows + rest
        apart = psi(_smoothed(before, before[-1]), _smoothed(after, before[-1]))
        gain = np.where((rows > 0) & (rest > 0), apart * rows * rest / np.maximum(total, 1), -1.0)
        best = int(np.argmax(gain))
        return int(self._recent.hours[min(best + 1, len(self._recent.hours) - 1)])

    def _changed_hour(self, place: int, hour: int) -> int:
        """The hour that ADWIN's window begins with; it is given those with enough rows alone."""
        given = self._recent.hours[np.isfinite(self._means.left(self._recent)[:, place])]
        width = self._changes[place].hours
        if not len(given):
            return hour
        return int(given[-min(max(width, 1), len(given))])

    def _still_shifted(self, place: int, since: int, hour: int) -> bool:
        """Whether the mean is off by enough to matter since then, and in the newest window."""
        newest = max(since, hour + 1 - WINDOW_HOURS)
        return min(self._mean_shift(place, at) for at in (since, newest)) >= LEAST_SHIFT

    def _mean_shift(self, place: int, since: int) -> float:
        """How far the mean has moved from what is expected, in standard deviations of the field."""
        bins = self.reference.series[place].bins
        part = self._recent.between(since, 2**62)
        if not isinstance(bins, NumberBins) or bins.deviation <= 0 or not len(part.hours):
            return 0.0
        left, rows = self._means.left(part)[:, place], part.present[:, place]
        known = np.isfinite(left)
        if not known.any():
            return 0.0
        return float(abs(np.average(left[known], weights=rows[known]))) / bins.deviation

    def _shift(self, place: int, finding: Finding) -> float:
        """How far the mean of the newest window is off, for a finding of the mean."""
        if finding.kind != "mean" or not len(self._recent.hours):
            return 0.0
        return self._mean_shift(place, int(self._recent.hours[-1]) + 1 - WINDOW_HOURS)

    def _finding(
        self, place: int, kind: Kind, since: int, hour: int, sizes: WindowSizes, limit: float
    ) -> Finding:
        series = self.reference.series[place]
        now, expected = sizes.shares[place], sizes.expected[place]
        parts = (now - expected) * np.log(now / expected)
        grown = [int(at) for at in np.argsort(-parts) if now[at] > expected[at]][:_MOST_GROWN]
        if kind in ("missing", "outside"):
            grown = [at for at in grown if at < FIRST or at == PLACES - 1] or grown
        odd = sizes.missing if kind == "missing" else sizes.outside
        before, after = self._recent.between(0, since), self._recent.between(since, 2**62)
        is_odd = kind in ("missing", "outside")
        odd_now = self._odd_share(kind, sizes.counts[place]) if is_odd else None
        return Finding(
            series=series.name, source=series.source, kind=kind,
            since_ms=since * HOUR_MS, seen_ms=(hour + 1) * HOUR_MS,
            rows=int(sizes.counts[place].sum()),
            psi=_number(sizes.psi[place]), limit=float(limit),
            jensen_shannon=float(jensen_shannon(now, expected)),
            wasserstein=_distance(series.bins, now, expected),
            mean_before=self._usual_mean(place, since), mean_now=_mean(after, place)
            if self._numbers[place] else None,
            odd_share=odd_now,
            odd_before=None if odd_now is None else max(0.0, odd_now - _number(odd[place])),
            grown=[
                Growth(what=series.bins.words(at), share_before=float(expected[at]),
                       share_now=float(now[at]))
                for at in grown
            ],
            decisions_before=self._decided(before, place, grown[:1]),
            decisions_now=self._decided(after, place, grown[:1]),
            all_before=self._decided(before, place, None),
            all_now=self._decided(after, place, None),
        )  # fmt: skip

    def _odd_share(self, kind: Kind, counts: Ints) -> float:
        places = [0] if kind == "missing" else [1, PLACES - 1]
        return float(counts[places].sum() / max(counts.sum(), 1))

    def _usual_mean(self, place: int, since: int) -> float | None:
        """The mean that the reference lets expect of the hours from *since* on."""
        part = self._recent.between(since, 2**62)
        mean = _mean(part, place)
        if not self._numbers[place] or mean is None:
            return None
        left, rows = self._means.left(part)[:, place], part.present[:, place]
        known = np.isfinite(left)
        return mean - float(np.average(left[known], weights=rows[known])) if known.any() else None

    def _decided(
        self, part: HourCounts, place: int, places: Sequence[int] | None
    ) -> dict[str, float]:
        counts = part.counts[:, place].sum(axis=0)
        chosen = counts if places is None else counts[list(places)]
        by_kind = chosen.sum(axis=0)[1:]
        total = by_kind.sum()
        if not total:
            return {}
        return {
            name: float(count / total)
            for name, count in zip(self._kinds[1:], by_kind.tolist(), strict=True)
        }

    # -- state

    def to_bytes(self) -> bytes:
        """All that `from_bytes` needs to go on: a NumPy archive."""
        file = io.BytesIO()
        about = {
            "closed": self._closed, "learnt": self._learnt_hours, "kinds": self._kinds,
            "before_hour": self._before_hour, "late": self.late_rows,
            "episodes": [
                [e.above, e.calm, e.suspect, None if e.finding is None else e.finding.model_dump()]
                for e in self._episodes
            ],
        }  # fmt: skip
        arrays: dict[str, NDArray[Any]] = {
            f"fed{place}": change.fed for place, change in enumerate(self._changes)
        }
        for name, part in (("open", self._open), ("recent", self._recent)):
            arrays |= {f"{name}.hours": part.hours, f"{name}.sums": part.sums}
            arrays[f"{name}.counts"] = part.counts.astype(np.uint32)
        np.savez_compressed(
            file, about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            reference=np.frombuffer(self.reference.to_bytes(), np.uint8),
            before=self._before, allow_pickle=False, **arrays,
        )  # fmt: skip
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, alarms_a_week: float = ALARMS_A_WEEK) -> Self:
        """Go on where `to_bytes` was; ValueError when it is something else."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                about = json.loads(file["about"].tobytes())
                reference = Reference.from_bytes(file["reference"].tobytes())
                detector = cls(reference, about["kinds"][1:], alarms_a_week)
                for name in ("open", "recent"):
                    part = HourCounts(
                        file[f"{name}.hours"], file[f"{name}.counts"].astype(np.int64),
                        file[f"{name}.sums"],
                    )  # fmt: skip
                    setattr(detector, f"_{name}", part)
                detector._before = file["before"]
                for place, change in enumerate(detector._changes):
                    change.restore(file[f"fed{place}"].tolist())
            detector._closed, detector._learnt_hours = about["closed"], about["learnt"]
            detector._before_hour = about["before_hour"]
            detector.late_rows = about["late"]
            detector._episodes = [
                _Episode(
                    above, calm, suspect, None if found is None else Finding.model_validate(found)
                )
                for above, calm, suspect, found in about["episodes"]
            ]
        except (KeyError, ValueError, TypeError, OSError, EOFError, BadZipFile) as exc:
            raise ValueError(f"no state of drift: {str(exc).splitlines()[0]}") from exc
        return detector


def _smoothed(counts: Ints, towards: Ints) -> Floats64:
    """Shares of counts (…, B), drawn a little to those of *towards* (B,)."""
    usual = (towards + 0.5) / (towards.sum() + 0.5 * len(towards))
    drawn: Floats64 = (counts + usual) / (counts.sum(axis=-1, keepdims=True) + 1)
    return drawn


def _mean(part: HourCounts, place: int) -> float | None:
    rows = int(part.present[:, place].sum())
    return float(part.sums[:, place].sum() / rows) if rows else None


def _distance(bins: object, now: Floats64, before: Floats64) -> float | None:
    """Wasserstein-1 of the places of numbers; None for words."""
    if not isinstance(bins, NumberBins):
        return None
    inside = slice(FIRST, FIRST + bins.inside)
    order = [1, *range(inside.start, inside.stop), PLACES - 1]
    centres = np.array([bins.low, *bins.centres, bins.high])
    one, other = now[order], before[order]
    return float(wasserstein(one / one.sum(), other / other.sum(), centres))


def _number(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0
