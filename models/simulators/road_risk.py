"""Road segments seen by loop detectors and connected vehicles, as an endless stream.

A ring of segments with two lanes each, minute by minute, in constant memory:

    demand    a daily cycle with a morning and an evening peak on weekdays, one broad peak on
              Saturday and Sunday; each segment has a share of it, and a random walk around it
    traffic   Greenshields, *A Study of Traffic Capacity* (1935): speed falls in a straight
              line with density, v = V · (1 - k / K), so flow q = k · v is highest at K / 2;
              demand below capacity gives the density of the free branch, above of the jammed
    occupancy the share of time that the loop is covered: density · (vehicle + loop length)
    weather   showers; rain wets the road, it dries slowly; water takes grip and speed
    vehicles  hard braking and ABS interventions of the connected ones (2 %)

A segment reports a minute in which at least one connected vehicle crossed it, so reports
follow the demand. The label is an incident on the segment in the next minutes, drawn with

    P = 1 / (1 + exp(-(-6.2 + 0.05 · occupancy [%] + 0.13 · speed deviation [km/h]
                       + 1.2 · water on the road [0..1] + 0.9 · hard brakings)))

where occupancy and speed deviation are means of the last five minutes, reported or not. The
signs and the slice of five minutes are those of real-time crash prediction from loop detectors
(Abdel-Aty and Pande, *Identifying crash propensity using specific traffic speed conditions*,
Journal of Safety Research 36, 2005; they take the slice 10 to 15 minutes before a crash); the
form and the coefficients are chosen here and fitted to no road.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.arrays import Bools, Floats64, Ints
from models.simulators.mean_reverting import walk
from models.simulators.road_conditions import Weather, demand
from models.simulators.scenario import CALM, LabelledEvent, Scenario

START = date(2024, 3, 7)  # a Thursday
MINUTES = 1440
LANES = 2
FREE_SPEED_KMH, JAM_DENSITY = 90.0, 100.0
"""V, and K in vehicles per km and lane: a capacity of 2,250 vehicles per hour and lane."""
WATER_SLOWS = 0.15
COVERING_M = 6.5
CONNECTED_SHARE = 0.02
SEGMENT_DEMAND = (0.7, 1.1)
DEMAND_STD, DEMAND_MEMORY_MIN = 0.06, 15.0
SLICE_MIN = 5
INTERCEPT, PER_OCCUPANCY, PER_SPEED_STD, PER_WATER, PER_HARD_BRAKING = -6.2, 0.05, 0.13, 1.2, 0.9
DRIFT_DEMAND = 0.1
"""Drift of 1: a tenth more traffic."""
QUEUE_SEGMENTS, QUEUE_DENSITY = 8, 80.0
"""Incident: a crash, and the queue on its segment and the seven before it."""


@dataclass(frozen=True, slots=True)
class Reports:
    """One day of reports in time order, as columns of N rows each."""

    report_id: Ints
    """0, 1, 2, … over the whole stream."""
    observed_at: NDArray[np.datetime64]
    """datetime64[ms], UTC, on whole minutes."""
    segment_id: Ints
    flow: Floats64
    """Vehicles per hour, all lanes."""
    speed_kmh: Floats64
    speed_std_kmh: Floats64
    occupancy_pct: Floats64
    rain_mm_h: Floats64
    grip: Floats64
    connected: Ints
    hard_brakings: Ints
    abs_events: Ints
    risk: Floats64
    """The probability that `incident` was drawn with."""
    incident: Bools

    def __len__(self) -> int:
        return len(self.report_id)


def simulate_days(
    seed: int,
    *,
    segments: int = 60,
    start: date = START,
    days: int | None = None,
    scenario: Scenario = CALM,
) -> Iterator[Reports]:
    """Yield one block of reports a day, without end when *days* is None.

    The same arguments give the same bits however much is consumed.
    """
    rng = np.random.default_rng(seed)
    share = rng.uniform(*SEGMENT_DEMAND, segments)
    crash = int(rng.integers(segments))
    queue = np.isin(np.arange(segments), (crash - np.arange(QUEUE_SEGMENTS)) % segments)
    weather, noise, detected = Weather(), np.zeros(segments), None
    first_id = 0
    for day in count() if days is None else range(days):
        when = day + np.arange(MINUTES) / MINUTES
        noises = walk(rng, noise, std=DEMAND_STD, memory=DEMAND_MEMORY_MIN, steps=MINUTES)
        noise = noises[-1]
        rain, water = weather.day(rng, MINUTES)
        growth = 1 + DRIFT_DEMAND * scenario.shift(when)
        wanted = demand((start.weekday() + day) % 7, MINUTES) * growth
        density = _density(wanted[:, None] * share + noises)
        crashed = scenario.in_incident(when)[:, None] & queue
        density[crashed] = QUEUE_DENSITY
        detected = _detected(rng, density, detected)
        block = _observed(
            rng, density, detected, rain, water,
            first_id, np.datetime64(start, "ms") + day * 86_400_000,
        )  # fmt: skip
        yield block
        first_id += len(block)


def simulate(
    seed: int,
    *,
    segments: int = 60,
    start: date = START,
    days: int | None = None,
    scenario: Scenario = CALM,
) -> Iterator[LabelledEvent]:
    """Yield the reports of `simulate_days` one by one, as events of the road-risk pipeline.

    >>> event, label = next(simulate(seed=7))
    >>> event["report_id"], event["observed_at"]
    ('r-000000000', '2024-03-07T00:00:00Z')
    """
    for block in simulate_days(seed, segments=segments, start=start, days=days, scenario=scenario):
        columns = {
            "report_id": [f"r-{report:09d}" for report in block.report_id.tolist()],
            "observed_at": [f"{at}Z" for at in np.datetime_as_string(block.observed_at, unit="s")],
            "segment_id": [f"s-{segment:02d}" for segment in block.segment_id.tolist()],
            "flow_veh_h": block.flow.tolist(),
            "mean_speed_kmh": block.speed_kmh.tolist(),
            "speed_std_kmh": block.speed_std_kmh.tolist(),
            "occupancy_pct": block.occupancy_pct.tolist(),
            "rain_mm_h": block.rain_mm_h.tolist(),
            "grip": block.grip.tolist(),
            "connected_vehicles": block.connected.tolist(),
            "hard_brakings": block.hard_brakings.tolist(),
            "abs_events": block.abs_events.tolist(),
        }
        for row, incident in zip(
            zip(*columns.values(), strict=True), block.incident.tolist(), strict=True
        ):
            yield LabelledEvent(dict(zip(columns, row, strict=True)), incident)


def _density(load: Floats64) -> Floats64:
    """Vehicles per km and lane where demand is *load* times the capacity."""
    beyond = np.sqrt(np.clip(np.abs(1 - load), 0.0, 1.0))
    density: Floats64 = JAM_DENSITY / 2 * np.where(load <= 1, 1 - beyond, 1 + beyond)
    return np.clip(density, 0.5, 0.95 * JAM_DENSITY)


class _Detected(NamedTuple):
    """What the loops measure of a day, (minutes, segments) each."""

    deviation: Floats64
    """Of speed, km/h."""
    occupancy: Floats64
    """Percent."""
    deviations: Floats64
    """The mean of the last SLICE_MIN minutes."""
    occupancies: Floats64


def _detected(rng: np.random.Generator, density: Floats64, before: _Detected | None) -> _Detected:
    """Measure *density* (minutes, segments), on the day after *before*."""
    deviation = (5 + 13 * _unstable(density)) * rng.lognormal(0, 0.2, density.shape)
    occupancy = density * COVERING_M / 10 * rng.lognormal(0, 0.05, density.shape)
    return _Detected(
        deviation,
        occupancy,
        deviations=_means(deviation, before.deviation if before else None),
        occupancies=_means(occupancy, before.occupancy if before else None),
    )


def _means(path: Floats64, before: Floats64 | None) -> Floats64:
    """The mean of every minute and the four before it; the first day goes on from its start."""
    earlier = np.repeat(path[:1], SLICE_MIN, axis=0) if before is None else before
    whole = np.concatenate([earlier[1 - SLICE_MIN :], path])
    means: Floats64 = sliding_window_view(whole, SLICE_MIN, axis=0).mean(axis=-1)
    return means


def _unstable(density: Floats64) -> Floats64:
    """Near capacity, traffic stops and goes: 1 there, towards 0 away from it."""
    unstable: Floats64 = np.exp(-(((density / (JAM_DENSITY / 2) - 1) / 0.4) ** 2))
    return unstable


def _observed(
    rng: np.random.Generator,
    density: Floats64,
    detected: _Detected,
    rain: Floats64,
    water: Floats64,
    first_id: int,
    midnight: np.datetime64,
) -> Reports:
    """What is reported of *density* (minutes, segments), and what follows."""
    usual = FREE_SPEED_KMH * (1 - WATER_SLOWS * water[:, None]) * (1 - density / JAM_DENSITY)
    vehicles = rng.poisson(LANES * density * usual / 60)
    fleet = rng.binomial(vehicles, CONNECTED_SHARE)
    at = minute, segment = np.nonzero(fleet)
    rows = len(minute)
    counted, connected, wet = vehicles[at], fleet[at], water[minute]
    unstable, deviation = _unstable(density[at]), detected.deviation[at]

    speed = usual[at] + deviation / np.sqrt(counted) * rng.normal(size=rows)
    hard = rng.poisson(connected * (0.02 + 0.2 * unstable + 0.05 * wet))
    skids = rng.poisson(connected * (0.002 + 0.05 * wet) + 0.4 * hard * wet)
    risk = 1 / (1 + np.exp(-(
        INTERCEPT + PER_OCCUPANCY * detected.occupancies[at]
        + PER_SPEED_STD * detected.deviations[at] + PER_WATER * wet + PER_HARD_BRAKING * hard
    )))  # fmt: skip
    return Reports(
        report_id=np.arange(first_id, first_id + rows, dtype=np.int64),
        observed_at=midnight + minute * 60_000,
        segment_id=segment,
        flow=(counted * 60).astype(np.float64),
        speed_kmh=np.maximum(speed, 1.0).round(1),
        speed_std_kmh=deviation.round(1),
        occupancy_pct=np.minimum(detected.occupancy[at], 100.0).round(1),
        rain_mm_h=rain[minute].round(1),
        grip=(0.8 - 0.35 * wet).round(2),
        connected=connected,
        hard_brakings=hard,
        abs_events=skids,
        risk=risk,
        incident=rng.random(rows) < risk,
    )
