"""Drift's false alarms in 30 months without change, and how soon injected drift is seen.

    python -m tests.benchmarks.drift_budget                        # both, all four simulators
    python -m tests.benchmarks.drift_budget --only alarms --days 900 --pipelines card-fraud

No Kafka: the simulators' own streams, whose hours, weekends, customers and weather are theirs. The
first 28 days are the reference; everything is at the defaults. Event times are the only clock.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.drift.detector import DriftDetector
from models.drift.finding import Finding
from models.drift.reference import Reference
from tests.benchmarks.drift_streams import STREAMS, Columns, Day

REFERENCE_DAYS = 28
DAYS = 900
STARTS = 8
_MOST_DAYS = 14
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_SEED = 7

Change = Callable[[dict[str, NDArray[Any]], np.random.Generator], None]
"""Changes columns of rows in place."""


class Injection(NamedTuple):
    """What is done to a stream, to which of its fields."""

    what: str
    field: str
    change: Change


def shifted(field: str, deviations: float, deviation: float) -> Injection:
    """A mean that is higher by so many of the field's standard *deviation*."""

    def change(columns: dict[str, NDArray[Any]], _rng: np.random.Generator) -> None:
        columns[field] = columns[field] + deviations * deviation

    return Injection(f"mean + {deviations:g} sd", field, change)


def scaled(field: str, factor: float, mean: float) -> Injection:
    """Values that lie further from their mean."""

    def change(columns: dict[str, NDArray[Any]], _rng: np.random.Generator) -> None:
        columns[field] = mean + factor * (columns[field] - mean)

    return Injection(f"sd × {factor:g}", field, change)


def missing(field: str, share: float) -> Injection:
    """Values that are missing."""

    def change(columns: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        values = columns[field].astype(np.float64)
        values[rng.random(len(values)) < share] = np.nan
        columns[field] = values

    return Injection(f"{share:.0%} missing", field, change)


def new_category(field: str, share: float) -> Injection:
    """A word that was never there."""

    def change(columns: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        values = columns[field].copy()
        values[rng.random(len(values)) < share] = "X"
        columns[field] = values

    return Injection(f"new category, {share:.0%}", field, change)


def uncorrelated(field: str) -> Injection:
    """Values that no longer go with the row's others; their own distribution stays."""

    def change(columns: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        columns[field] = rng.permutation(columns[field])

    return Injection("goes with no other field", field, change)


FIELDS: Mapping[str, tuple[str, str | None, str | None]] = {
    "card-fraud": ("amount", None, None),
    "machine-maintenance": ("torque_nm", "product_type", "rotational_speed_rpm"),
    "road-risk": ("speed_std_kmh", None, "mean_speed_kmh"),
    "tumour-triage": ("mean_radius", None, "mean_texture"),
}
"""Pipeline → the number that is changed, the category, and the field that comes to go with none."""


def injections(pipeline: str, reference: Columns) -> Iterator[Injection]:
    """All that is injected into *pipeline*, by the columns of its reference."""
    number, category, joint = FIELDS[pipeline]
    values = reference[number].astype(np.float64)
    mean, deviation = float(values.mean()), float(values.std())
    for size in (0.1, 0.2, 0.5, 1.0):
        yield shifted(number, size, deviation)
    for factor in (1.2, 1.5):
        yield scaled(number, factor, mean)
    for share in (0.02, 0.1):
        yield missing(number, share)
    if category is not None:
        yield new_category(category, 0.02)
    if joint is not None:
        yield uncorrelated(joint)


@dataclass
class Stream:
    """One simulator's days, and the detector of its first 28."""

    pipeline: str
    days: Iterator[Day]
    reference: Reference
    columns: Columns
    """Of the reference."""

    @classmethod
    def of(cls, pipeline: str, days: int, reference_days: int = REFERENCE_DAYS) -> Stream:
        """The stream of *pipeline*, with so many days behind the reference."""
        stream = iter(STREAMS[pipeline](_SEED, reference_days + days))
        first = [next(stream) for _ in range(reference_days)]
        columns = {name: np.concatenate([day[1][name] for day in first]) for name in first[0][1]}
        times = np.concatenate([day[0] for day in first])
        reference = Reference.of_columns("event", columns, times, together="fields")
        return cls(pipeline, stream, reference, columns)


def alarms(pipeline: str, days: int, reference_days: int = REFERENCE_DAYS) -> list[Finding]:
    """What is found in *days* without change; each is a false alarm."""
    stream = Stream.of(pipeline, days, reference_days)
    detector = DriftDetector(stream.reference, [])
    return [found for day in stream.days for found in fed(detector, day) if not found.ended]


def delays(pipeline: str) -> Iterator[tuple[Injection, list[float]]]:
    """Each injection, and after how many hours it was seen, by start; infinite: not in 14 days."""
    stream = Stream.of(pipeline, STARTS * 3 + _MOST_DAYS + 10)
    days = list(stream.days)
    for injection in injections(pipeline, stream.columns):
        yield injection, [_delay(stream, days, injection, start) for start in range(STARTS)]


def fed(detector: DriftDetector, day: Day) -> list[Finding]:
    """What *detector* finds in a day, which it is given hour by hour."""
    times, columns = day
    found: list[Finding] = []
    for hour in np.unique(times // _HOUR_MS).tolist():
        rows = times // _HOUR_MS == hour
        detector.add("event", {name: values[rows] for name, values in columns.items()}, times[rows])
        found += detector.close((hour + 1) * _HOUR_MS)
    return found


def _delay(stream: Stream, days: list[Day], injection: Injection, start: int) -> float:
    """Hours from the injection, at another hour of another day each time, until it is seen."""
    rng = np.random.default_rng([_SEED, start])
    first = start * 3
    detector = DriftDetector(stream.reference, [])
    midnight = int(days[first + 8][0][0]) // _DAY_MS * _DAY_MS
    at = midnight + int(rng.integers(24)) * _HOUR_MS
    for times, columns in days[first : first + 8 + _MOST_DAYS]:
        altered, later = dict(columns), times >= at
        if later.any():
            part = {name: values[later] for name, values in columns.items()}
            injection.change(part, rng)
            for name, values in part.items():
                altered[name] = columns[name].astype(values.dtype)
                altered[name][later] = values
        for found in fed(detector, (times, altered)):
            concerned = found.series in (injection.field, "fields together")
            if not found.ended and concerned and found.seen_ms > at:
                return (found.seen_ms - at) / _HOUR_MS
    return float("inf")


def main() -> None:
    """Print both tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["alarms", "delays"])
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument(
        "--reference-days",
        type=int,
        default=REFERENCE_DAYS,
        help="shorter, as of 150,000 simulated rows: the rest is learned in service",
    )
    parser.add_argument("--pipelines", nargs="*", default=list(STREAMS), choices=list(STREAMS))
    options = parser.parse_args()
    if options.only != "delays":
        print("| pipeline | series | days | false alarms | a week | of which |")
        print("|---|---:|---:|---:|---:|---|")
        for name in options.pipelines:
            _print_alarms(name, options.days, options.reference_days)
    if options.only != "alarms":
        print("\n| pipeline | field | injected | seen | median hours | slowest |")
        print("|---|---|---|---:|---:|---:|")
        for name in options.pipelines:
            for injection, hours in delays(name):
                _print_delays(name, injection, hours)


def _print_alarms(name: str, days: int, reference_days: int) -> None:
    found = alarms(name, days, reference_days)
    series = len(Stream.of(name, 0).reference.series)
    kinds = {f"{each.series}: {each.kind}" for each in found}
    rate = f"{len(found) / days * 7:.2f}"
    which = "; ".join(sorted(kinds)) or "–"
    print(f"| {name} | {series} | {days} | {len(found)} | {rate} | {which} |", flush=True)


def _print_delays(name: str, injection: Injection, hours: list[float]) -> None:
    seen = [each for each in hours if np.isfinite(each)]
    median = f"{np.median(seen):.0f}" if len(seen) * 2 > len(hours) else "–"
    slowest = f"{max(seen):.0f}" if len(seen) == len(hours) else "–"
    print(
        f"| {name} | {injection.field} | {injection.what} | {len(seen)} of {len(hours)} | "
        f"{median} | {slowest} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
