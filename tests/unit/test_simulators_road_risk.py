"""The road-risk simulator against the traffic that it says it follows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from models.simulators.road_conditions import Weather, demand
from models.simulators.road_risk import Reports, simulate, simulate_days
from models.simulators.scenario import Incident, Scenario


@pytest.fixture(scope="module")
def blocks() -> list[Reports]:
    return list(simulate_days(2024, days=8))


def column(blocks: list[Reports], name: str) -> np.ndarray:
    return np.concatenate([getattr(block, name) for block in blocks])


def test_weekdays_have_two_peaks_and_weekends_one() -> None:
    weekday, sunday = demand(2, 1440), demand(6, 1440)

    def peaks(day: np.ndarray) -> int:
        return int(((day[1:-1] > day[:-2]) & (day[1:-1] > day[2:])).sum())

    assert peaks(weekday) == 2
    assert peaks(sunday) == 1
    assert weekday.argmax() // 60 == 17


def test_speed_falls_in_a_straight_line_with_density(blocks: list[Reports]) -> None:
    dry = column(blocks, "grip") == 0.8
    density = column(blocks, "occupancy_pct")[dry] / 0.65
    speed = column(blocks, "speed_kmh")[dry]
    slope, free = np.polyfit(density, speed, 1)
    assert free == pytest.approx(90, rel=0.03)
    assert -free / slope == pytest.approx(100, rel=0.08)  # the density of a jam


def test_flow_is_highest_at_a_density_between_empty_and_jammed(blocks: list[Reports]) -> None:
    occupancy, flow = column(blocks, "occupancy_pct"), column(blocks, "flow")
    free, full, jammed = (
        flow[(occupancy >= low) & (occupancy < high)].mean()
        for low, high in ((2, 8), (28, 37), (45, 60))
    )
    assert full > 1.2 * free
    assert full > jammed
    assert full == pytest.approx(4500, rel=0.1)  # two lanes of 2,250 vehicles an hour


def test_a_shower_takes_grip_which_comes_back_later() -> None:
    rain, water = Weather().day(np.random.default_rng(4), 1440 * 5)
    assert 0.05 < (rain > 0).mean() < 0.4
    assert water[rain > 0].mean() > 5 * water[rain == 0].mean()
    ends = np.flatnonzero((rain[:-1] > 0) & (rain[1:] == 0))
    assert (water[ends + 1] > 0.05).all(), "the road is wet when the rain stops"
    assert ((water >= 0) & (water <= 1)).all()


def test_vehicles_brake_hard_near_capacity_and_skid_on_wet_roads(blocks: list[Reports]) -> None:
    per_vehicle = column(blocks, "hard_brakings") / column(blocks, "connected")
    near = np.abs(column(blocks, "occupancy_pct") - 32.5) < 8
    assert per_vehicle[near].mean() > 3 * per_vehicle[~near].mean()
    skids, wet = column(blocks, "abs_events"), column(blocks, "grip") < 0.6
    assert skids[wet].mean() > 5 * skids[~wet].mean()


def test_the_risk_is_the_documented_logistic_function_of_five_minutes(
    blocks: list[Reports],
) -> None:
    minute = column(blocks, "observed_at").astype("datetime64[m]").astype(np.int64)
    place = (column(blocks, "segment_id"), minute - minute.min())
    reported = np.full((2, 60, place[1].max() + 1), np.nan)
    reported[:, *place] = column(blocks, "occupancy_pct"), column(blocks, "speed_std_kmh")
    occupancy, deviation = np.full((2, *reported.shape[1:]), np.nan)
    occupancy[:, 4:], deviation[:, 4:] = sliding_window_view(reported, 5, axis=2).mean(axis=-1)
    water = (0.8 - column(blocks, "grip")) / 0.35
    logit = (
        -6.2
        + 0.05 * occupancy[place]
        + 0.13 * deviation[place]
        + 1.2 * water
        + 0.9 * column(blocks, "hard_brakings")
    )
    risk = column(blocks, "risk")
    known = ~np.isnan(logit)  # all five minutes were reported
    midnight = known & (minute % 1440 < 4)
    assert known.sum() > 5000
    assert midnight.any(), "a slice goes on over midnight"
    # reports are rounded
    assert np.log(risk / (1 - risk))[known] == pytest.approx(logit[known], abs=0.05)


def test_incidents_happen_as_often_as_their_risk_says(blocks: list[Reports]) -> None:
    risk, incident = column(blocks, "risk"), column(blocks, "incident")
    assert incident.mean() == pytest.approx(risk.mean(), rel=0.05)
    high = risk > 0.2
    assert incident[high].mean() == pytest.approx(risk[high].mean(), rel=0.1)


def test_a_report_has_a_connected_vehicle_among_those_counted(blocks: list[Reports]) -> None:
    connected = column(blocks, "connected")
    assert connected.min() == 1
    assert (connected <= column(blocks, "flow") / 60).all()


def test_drift_brings_more_traffic_and_more_risk() -> None:
    _, calm = simulate_days(3, days=2)
    _, drifted = simulate_days(3, days=2, scenario=Scenario(drift=2.0))
    assert len(drifted) > 1.05 * len(calm)
    assert drifted.risk.mean() > 1.1 * calm.risk.mean()


def test_a_crash_jams_eight_segments_in_a_row_while_it_lasts() -> None:
    scenario = Scenario(incidents=(Incident(start_day=3 / 24, hours=2),))
    block = next(simulate_days(3, scenario=scenario))
    hour = block.observed_at.astype("datetime64[h]").astype(np.int64) % 24
    during = (hour >= 3) & (hour < 5)
    jammed = np.unique(block.segment_id[during & (block.occupancy_pct > 40)])
    assert len(jammed) == 8
    gaps = np.diff(np.append(jammed, jammed[0] + 60))
    assert sorted(gaps) == [1] * 7 + [53], "in a row on a ring of 60"
    assert not (block.occupancy_pct[hour < 3] > 40).any()
    assert block.speed_kmh[during & np.isin(block.segment_id, jammed)].mean() < 30


def test_events_say_what_the_day_blocks_say() -> None:
    block = next(simulate_days(7))
    labelled = list(simulate(7, days=1))
    assert [label for _, label in labelled] == block.incident.tolist()
    assert labelled[5].event == {
        "report_id": "r-000000005",
        "observed_at": f"{block.observed_at[5].astype('datetime64[s]')}Z",
        "segment_id": f"s-{block.segment_id[5]:02d}",
        "flow_veh_h": block.flow[5],
        "mean_speed_kmh": block.speed_kmh[5],
        "speed_std_kmh": block.speed_std_kmh[5],
        "occupancy_pct": block.occupancy_pct[5],
        "rain_mm_h": block.rain_mm_h[5],
        "grip": block.grip[5],
        "connected_vehicles": block.connected[5],
        "hard_brakings": block.hard_brakings[5],
        "abs_events": block.abs_events[5],
    }
