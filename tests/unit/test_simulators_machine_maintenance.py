"""The machine-maintenance simulator against the description of AI4I 2020."""

from __future__ import annotations

import numpy as np
import pytest

from models.simulators.machine_maintenance import Processes, simulate, simulate_days
from models.simulators.scenario import Incident, Scenario


@pytest.fixture(scope="module")
def blocks() -> list[Processes]:
    return list(simulate_days(2020, days=20))


def column(blocks: list[Processes], name: str) -> np.ndarray:
    return np.concatenate([getattr(block, name) for block in blocks])


def test_half_the_products_are_of_low_quality_and_a_fifth_of_high(blocks: list[Processes]) -> None:
    shares = np.bincount(column(blocks, "quality")) / len(column(blocks, "quality"))
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.01)


def test_torque_is_normal_around_40_nm_and_never_negative(blocks: list[Processes]) -> None:
    torque = column(blocks, "torque_nm")
    assert torque.mean() == pytest.approx(40, abs=0.2)
    assert torque.std() == pytest.approx(10, abs=0.2)
    assert (torque >= 0).all()


def test_air_is_300_k_and_processes_are_10_k_warmer(blocks: list[Processes]) -> None:
    air, process = column(blocks, "air_k"), column(blocks, "process_k")
    assert air.mean() == pytest.approx(300, abs=1)
    assert air.std() == pytest.approx(2, abs=0.5)
    assert (process - air).mean() == pytest.approx(10, abs=0.1)
    assert (process - air).std() == pytest.approx(1, abs=0.1)


def test_machines_turn_faster_at_less_torque(blocks: list[Processes]) -> None:
    speed, torque = column(blocks, "speed_rpm"), column(blocks, "torque_nm")
    assert np.corrcoef(speed, torque)[0, 1] < -0.8
    assert 1400 < np.median(speed) < 1600


def test_every_quality_wears_the_tool_as_described(blocks: list[Processes]) -> None:
    machine, wear = column(blocks, "machine_id"), column(blocks, "wear_min")
    quality = column(blocks, "quality")
    for at in range(40):
        mine = machine == at
        worn, made = np.diff(wear[mine]), quality[mine][:-1]
        goes_on = worn > 0
        assert np.array_equal(worn[goes_on], np.array([2.0, 3.0, 5.0])[made[goes_on]])
        assert (wear[mine][1:][~goes_on] == 0).all(), "a new tool"


def test_tools_are_replaced_or_fail_between_200_and_245_minutes(blocks: list[Processes]) -> None:
    wear, failure = column(blocks, "wear_min"), column(blocks, "wear_failure")
    assert wear.max() < 245
    assert wear[failure].min() >= 200
    ends = np.flatnonzero(np.diff(wear[column(blocks, "machine_id") == 0]) < 0)
    assert len(ends) > 5
    of_all = sum(
        int((np.diff(wear[column(blocks, "machine_id") == at]) < 0).sum()) for at in range(40)
    )
    assert failure.sum() / of_all == pytest.approx(51 / 120, abs=0.05)


def test_heat_power_and_overstrain_failures_follow_their_limits(blocks: list[Processes]) -> None:
    torque, speed = column(blocks, "torque_nm"), column(blocks, "speed_rpm")
    apart = (column(blocks, "process_k") - column(blocks, "air_k")).round(1)
    power = torque * speed * 2 * np.pi / 60
    limit = np.array([11_000, 12_000, 13_000])[column(blocks, "quality")]
    heat = (apart < 8.6) & (speed < 1380)
    assert np.array_equal(column(blocks, "heat_failure"), heat)
    assert np.array_equal(column(blocks, "power_failure"), (power < 3500) | (power > 9000))
    strained = column(blocks, "wear_min") * torque > limit
    assert np.array_equal(column(blocks, "overstrain_failure"), strained)


def test_one_in_a_thousand_fails_at_random_and_two_to_five_in_a_hundred_at_all(
    blocks: list[Processes],
) -> None:
    assert column(blocks, "random_failure").mean() == pytest.approx(0.001, abs=0.0003)
    assert 0.02 < column(blocks, "failed").mean() < 0.05  # 339 of 10,000 in the data set
    for mode in ("wear", "heat", "power", "overstrain"):
        assert 0.002 < column(blocks, f"{mode}_failure").mean() < 0.02


def test_drift_raises_torque_by_half_a_deviation() -> None:
    calm = column(list(simulate_days(1, days=4)), "torque_nm")
    drifting = Scenario(drift=1.0, drift_from_day=1.0)
    drifted = list(simulate_days(1, days=4, scenario=drifting))
    assert np.array_equal(drifted[0].torque_nm, next(simulate_days(1)).torque_nm)
    assert column(drifted[2:], "torque_nm").mean() - calm.mean() == pytest.approx(5, abs=0.3)
    assert column(drifted[2:], "failed").mean() > 1.5 * column(drifted[:1], "failed").mean()


def test_a_cooling_failure_makes_heat_failures_many_while_it_lasts() -> None:
    scenario = Scenario(incidents=(Incident(start_day=8 / 24, hours=2),))
    block = next(simulate_days(1, scenario=scenario))
    hour = block.occurred_at.astype("datetime64[h]").astype(np.int64) % 24
    during = (hour >= 8) & (hour < 10)
    assert block.heat_failure[during].mean() > 0.1
    assert block.heat_failure[~during].mean() < 0.04


def test_events_say_what_the_day_blocks_say() -> None:
    block = next(simulate_days(7))
    labelled = list(simulate(7, days=1))
    assert [label for _, label in labelled] == block.failed.tolist()
    assert labelled[5].event == {
        "process_id": "p-000000005",
        "occurred_at": f"{block.occurred_at[5].astype('datetime64[s]')}Z",
        "machine_id": f"m-{block.machine_id[5]:02d}",
        "product_type": "LMH"[block.quality[5]],
        "air_temperature_k": block.air_k[5],
        "process_temperature_k": block.process_k[5],
        "rotational_speed_rpm": block.speed_rpm[5],
        "torque_nm": block.torque_nm[5],
        "tool_wear_min": block.wear_min[5],
    }
