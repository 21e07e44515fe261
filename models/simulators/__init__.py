"""Simulated event streams, by pipeline name: data to start with when there is none yet.

`card_fraud` (with `card_population`), `machine_maintenance`, `road_risk` (with `road_conditions`)
and `tumour_triage`; `scenario` says what a stream yields and what may happen to it,
`mean_reverting` is a random walk for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from models.simulators import card_fraud, machine_maintenance, road_risk, tumour_triage
from models.simulators.scenario import CALM, Incident, LabelledEvent, Scenario


class Simulator(Protocol):
    """Yields labelled events in time order; the same arguments give the same bits."""

    def __call__(
        self, seed: int, *, days: int | None = None, scenario: Scenario = CALM
    ) -> Iterator[LabelledEvent]:
        """Stream *days* days of events, without end when it is None."""


SIMULATORS: Mapping[str, Simulator] = {
    "card-fraud": card_fraud.simulate,
    "machine-maintenance": machine_maintenance.simulate,
    "road-risk": road_risk.simulate,
    "tumour-triage": tumour_triage.simulate,
}

TRAINING: Mapping[str, Simulator] = {**SIMULATORS, "tumour-triage": tumour_triage.training}
"""What to train on: another part of the cases where those are real, and then an end to them."""

__all__ = ["CALM", "SIMULATORS", "TRAINING", "Incident", "LabelledEvent", "Scenario", "Simulator"]
