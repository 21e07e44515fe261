"""Simulated event streams, by pipeline name: data to start with when there is none yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from models.simulators.card_fraud import LabelledEvent
from models.simulators.card_fraud import simulate as simulate_card_fraud


class Simulator(Protocol):
    """Yields labelled events in time order; the same seed gives the same bits."""

    def __call__(self, seed: int, *, days: int | None = None) -> Iterator[LabelledEvent]:
        """Stream *days* days of events, without end when it is None."""


SIMULATORS: Mapping[str, Simulator] = {"card-fraud": simulate_card_fraud}

__all__ = ["SIMULATORS", "LabelledEvent", "Simulator"]
