"""Machining processes with five kinds of failure, as an endless stream in constant memory.

Source: Matzka, *Explainable Artificial Intelligence for Predictive Maintenance Applications*
(AI4I 2020), and the description of its data set, "AI4I 2020 Predictive Maintenance" (UCI 601):

    product        quality L 50 %, M 30 %, H 20 %
    air            a random walk, deviation 2 K around 300 K
    process        air + 10 K + a random walk, deviation 1 K
    torque         Normal(40, 10) Nm, none negative
    speed          from a power of 2860 W, with normal noise
    tool wear      a process of quality H, M, L wears the tool by 5, 3, 2 minutes
    tool wear failure   between 200 and 240 minutes the tool is replaced (69 of 120) or fails (51)
    heat dissipation    process - air below 8.6 K and speed below 1380 rpm
    power               torque · speed [rad/s] below 3500 W or above 9000 W
    overstrain          wear · torque above 11,000 (L), 12,000 (M), 13,000 (H) min·Nm
    random              0.1 %

Where it departs from the description: the walks are pulled back to their mean (a stream has
no end to normalise over). 2860 W alone turn 40 Nm at 683 rpm, where heat and power failures
would be the rule; so speed = 820 rpm + 2860 W / max(torque, 13 Nm) + Normal(0, 60) rpm. A
hall of machines is simulated, each with its own tool, and they run less at night.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import count

import numpy as np
from numpy.typing import NDArray

from models.arrays import Bools, Floats64, Ints
from models.simulators.mean_reverting import walk
from models.simulators.scenario import CALM, LabelledEvent, Scenario

START = date(2020, 3, 2)
MINUTES = 1440
DAY_SHIFT = slice(6 * 60, 22 * 60)
DAY_RATE, NIGHT_RATE = 0.22, 0.08
"""Processes a machine ends in a minute."""
AIR_MEAN_K, AIR_STD_K, AIR_MEMORY_MIN = 300.0, 2.0, 720.0
PROCESS_ABOVE_AIR_K, PROCESS_STD_K, PROCESS_MEMORY_MIN = 10.0, 1.0, 120.0
QUALITIES = ("L", "M", "H")
QUALITY_SHARES = (0.5, 0.3, 0.2)
WEAR_MIN = np.array([2.0, 3.0, 5.0])
OVERSTRAIN_MIN_NM = np.array([11_000.0, 12_000.0, 13_000.0])
TORQUE_MEAN_NM, TORQUE_STD_NM = 40.0, 10.0
IDLE_RPM, SPEED_STD_RPM, SPEED_POWER_W, LEAST_TORQUE_NM = 820.0, 60.0, 2860.0, 13.0
TOOL_LIFE_MIN = (200.0, 240.0)
TOOL_FAILS = 51 / 120
DISSIPATION_K, DISSIPATION_RPM = 8.6, 1380.0
LEAST_POWER_W, MOST_POWER_W = 3500.0, 9000.0
RANDOM_FAILURES = 0.001
RPM_PER_RAD_S = 60 / (2 * np.pi)
DRIFT_TORQUE_NM = 5.0
"""Drift of 1: machines need this much more torque."""
INCIDENT_AIR_K = 3.0
"""Incident: cooling fails, the hall is this much warmer, and processes lose less heat."""


@dataclass(frozen=True, slots=True)
class Processes:
    """One day of processes in time order, as columns of N rows each."""

    process_id: Ints
    """0, 1, 2, … over the whole stream."""
    occurred_at: NDArray[np.datetime64]
    """datetime64[ms], UTC, on whole seconds."""
    machine_id: Ints
    quality: Ints
    """Place in QUALITIES."""
    air_k: Floats64
    process_k: Floats64
    speed_rpm: Floats64
    torque_nm: Floats64
    wear_min: Floats64
    """The tool's wear when the process began."""
    wear_failure: Bools
    heat_failure: Bools
    power_failure: Bools
    overstrain_failure: Bools
    random_failure: Bools

    def __len__(self) -> int:
        return len(self.process_id)

    @property
    def failed(self) -> Bools:
        """Whether a process failed, in any way."""
        thermal = self.heat_failure | self.power_failure
        return thermal | self.wear_failure | self.overstrain_failure | self.random_failure


class _Tools:
    """The tool in each machine: how worn it is, and how long it will last, in minutes."""

    def __init__(self, rng: np.random.Generator, machines: int) -> None:
        self._worn = rng.uniform(0, TOOL_LIFE_MIN[0], machines).round().tolist()
        self._life = rng.uniform(*TOOL_LIFE_MIN, machines).tolist()

    def wear(self, machine: Ints, by: Floats64, next_life: Floats64) -> tuple[Floats64, Bools]:
        """Wear before each process, and whether the tool is at its end in it and replaced."""
        before, ends = np.empty(len(machine)), np.empty(len(machine), np.bool_)
        rows = zip(machine.tolist(), by.tolist(), next_life.tolist(), strict=True)
        for row, (at, more, life) in enumerate(rows):
            before[row] = worn = self._worn[at]
            ends[row] = worn >= self._life[at]
            self._worn[at] = worn + more
            if ends[row]:
                self._worn[at], self._life[at] = 0.0, life
        return before, ends


def simulate_days(
    seed: int,
    *,
    machines: int = 40,
    start: date = START,
    days: int | None = None,
    scenario: Scenario = CALM,
) -> Iterator[Processes]:
    """Yield one block of processes a day, without end when *days* is None.

    The same arguments give the same bits however much is consumed.
    """
    rng = np.random.default_rng(seed)
    tools = _Tools(rng, machines)
    air = rng.normal(0, AIR_STD_K, 1)
    above = rng.normal(0, PROCESS_STD_K, machines)
    first_id = 0
    for day in count() if days is None else range(days):
        airs = walk(rng, air, std=AIR_STD_K, memory=AIR_MEMORY_MIN, steps=MINUTES)
        aboves = walk(rng, above, std=PROCESS_STD_K, memory=PROCESS_MEMORY_MIN, steps=MINUTES)
        air, above = airs[-1], aboves[-1]
        second, machine = _ends_of_processes(rng, machines)
        minute, when = second // 60, day + second / 86_400
        process_k = AIR_MEAN_K + PROCESS_ABOVE_AIR_K + airs[minute, 0] + aboves[minute, machine]
        air_k = AIR_MEAN_K + airs[minute, 0] + INCIDENT_AIR_K * scenario.in_incident(when)
        block = _machined(
            rng,
            tools,
            machine,
            process_id=np.arange(first_id, first_id + len(second), dtype=np.int64),
            occurred_at=np.datetime64(start, "ms") + (day * 86_400 + second) * 1000,
            air_k=air_k.round(1),
            process_k=process_k.round(1),
            more_torque_nm=DRIFT_TORQUE_NM * scenario.shift(when),
        )
        yield block
        first_id += len(block)


def simulate(
    seed: int,
    *,
    machines: int = 40,
    start: date = START,
    days: int | None = None,
    scenario: Scenario = CALM,
) -> Iterator[LabelledEvent]:
    """Yield the processes of `simulate_days` one by one, as events of machine-maintenance.

    >>> event, label = next(simulate(seed=7))
    >>> event["process_id"], event["machine_id"]
    ('p-000000000', 'm-20')
    """
    for block in simulate_days(seed, machines=machines, start=start, days=days, scenario=scenario):
        rows = zip(
            block.process_id.tolist(),
            np.datetime_as_string(block.occurred_at, unit="s").tolist(),
            block.machine_id.tolist(),
            block.quality.tolist(),
            block.air_k.tolist(),
            block.process_k.tolist(),
            block.speed_rpm.tolist(),
            block.torque_nm.tolist(),
            block.wear_min.tolist(),
            block.failed.tolist(),
            strict=True,
        )
        for process, at, machine, quality, air, temperature, speed, torque, wear, failed in rows:
            event: dict[str, object] = {
                "process_id": f"p-{process:09d}",
                "occurred_at": f"{at}Z",
                "machine_id": f"m-{machine:02d}",
                "product_type": QUALITIES[quality],
                "air_temperature_k": air,
                "process_temperature_k": temperature,
                "rotational_speed_rpm": speed,
                "torque_nm": torque,
                "tool_wear_min": wear,
            }
            yield LabelledEvent(event, failed)


def _ends_of_processes(rng: np.random.Generator, machines: int) -> tuple[Ints, Ints]:
    """Second of the day (ascending) and machine of every process that ends in a day."""
    rate = np.full((MINUTES, 1), NIGHT_RATE)
    rate[DAY_SHIFT] = DAY_RATE
    minute, machine = np.nonzero(rng.random((MINUTES, machines)) < rate)
    second = minute * 60 + rng.integers(0, 60, len(minute))
    order = np.argsort(second, kind="stable")
    return second[order], machine[order]


def _machined(
    rng: np.random.Generator,
    tools: _Tools,
    machine: Ints,
    *,
    process_id: Ints,
    occurred_at: NDArray[np.datetime64],
    air_k: Floats64,
    process_k: Floats64,
    more_torque_nm: Floats64,
) -> Processes:
    """Draw products, torque and speed of N processes; what failed follows from them."""
    rows = len(machine)
    quality = rng.choice(len(QUALITIES), rows, p=QUALITY_SHARES)
    torque = np.abs(rng.normal(TORQUE_MEAN_NM, TORQUE_STD_NM, rows) + more_torque_nm).round(1)
    turned = SPEED_POWER_W / np.maximum(torque, LEAST_TORQUE_NM) * RPM_PER_RAD_S
    speed = (IDLE_RPM + turned + rng.normal(0, SPEED_STD_RPM, rows)).round()
    wear, ends = tools.wear(machine, WEAR_MIN[quality], rng.uniform(*TOOL_LIFE_MIN, rows))
    power = torque * speed / RPM_PER_RAD_S
    return Processes(
        process_id=process_id,
        occurred_at=occurred_at,
        machine_id=machine,
        quality=quality,
        air_k=air_k,
        process_k=process_k,
        speed_rpm=speed,
        torque_nm=torque,
        wear_min=wear,
        wear_failure=ends & (rng.random(rows) < TOOL_FAILS),
        heat_failure=((process_k - air_k).round(1) < DISSIPATION_K) & (speed < DISSIPATION_RPM),
        power_failure=(power < LEAST_POWER_W) | (power > MOST_POWER_W),
        overstrain_failure=wear * torque > OVERSTRAIN_MIN_NM[quality],
        random_failure=rng.random(rows) < RANDOM_FAILURES,
    )
