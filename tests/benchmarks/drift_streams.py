"""The simulators' streams as columns of a day, for the drift budget; no Kafka, no models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import Ints
from models.simulators import card_fraud, machine_maintenance, road_risk, tumour_triage
from topics.events import epoch_ms

Columns = Mapping[str, NDArray[Any]]
Day = tuple[Ints, Columns]
"""Event times in milliseconds (N,), and what can be watched, (N,) each."""


def card_fraud_days(seed: int, days: int) -> Iterator[Day]:
    """Amounts; customers and terminals are identifiers."""
    for block in card_fraud.simulate_days(seed, days=days):
        yield _ms(block.occurred_at), {"amount": block.amount}


def machine_maintenance_days(seed: int, days: int) -> Iterator[Day]:
    """All fields but the machine."""
    names = np.array(machine_maintenance.QUALITIES, object)
    for block in machine_maintenance.simulate_days(seed, days=days):
        yield (
            _ms(block.occurred_at),
            {
                "product_type": names[block.quality],
                "air_temperature_k": block.air_k,
                "process_temperature_k": block.process_k,
                "rotational_speed_rpm": block.speed_rpm,
                "torque_nm": block.torque_nm,
                "tool_wear_min": block.wear_min,
            },
        )


def road_risk_days(seed: int, days: int) -> Iterator[Day]:
    """All fields but the segment."""
    for block in road_risk.simulate_days(seed, days=days):
        yield (
            _ms(block.observed_at),
            {
                "flow_veh_h": block.flow,
                "mean_speed_kmh": block.speed_kmh,
                "speed_std_kmh": block.speed_std_kmh,
                "occupancy_pct": block.occupancy_pct,
                "rain_mm_h": block.rain_mm_h,
                "grip": block.grip,
                "connected_vehicles": block.connected,
                "hard_brakings": block.hard_brakings,
                "abs_events": block.abs_events,
            },
        )


def tumour_triage_days(seed: int, days: int) -> Iterator[Day]:
    """The 30 measurements; the reference is of the stream's own cases, not those of training."""
    stream = (labelled.event for labelled in tumour_triage.simulate(seed, days=days))
    for _, events in groupby(stream, lambda event: str(event["measured_at"])[:10]):
        rows = list(events)
        times = np.array([epoch_ms(str(row["measured_at"])) for row in rows], np.int64)
        names = [name for name, value in rows[0].items() if isinstance(value, float)]
        yield times, {name: np.array([row[name] for row in rows]) for name in names}


STREAMS: Mapping[str, Callable[[int, int], Iterator[Day]]] = {
    "card-fraud": card_fraud_days,
    "machine-maintenance": machine_maintenance_days,
    "road-risk": road_risk_days,
    "tumour-triage": tumour_triage_days,
}


def _ms(times: NDArray[np.datetime64]) -> Ints:
    return times.astype("datetime64[ms]").astype(np.int64)
