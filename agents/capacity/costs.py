"""What things were measured to cost: `unit_costs.json`, with where each figure comes from."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import Field

from topics.pipeline import Strict

Positive = Annotated[float, Field(gt=0)]
Kind = Literal["source", "windowed", "keyed", "joined", "weigh"]
"""Reads events; reads events and remembers a key's past; the same by another key, so events are
repartitioned; reads stages; the weighting agent."""


class WorkerCost(Strict):
    """What a worker with one component costs."""

    event_us: Positive
    """CPU of an event at load, in large micro-batches, in microseconds."""
    idle_ms_per_s: Positive
    """CPU that grows little with the rate: polling, heartbeats, small batches; per second."""
    memory_mb: Positive
    """Resident, under load."""
    measured: str


class Cycle(Strict):
    """A worker takes whatever has come, deals with it, and looks again: how long that takes."""

    base_ms: Positive
    """Of one micro-batch of one partition."""
    partition_ms: Annotated[float, Field(ge=0)]
    """For every further partition that something has come on."""
    event_us: Positive
    """For every event in it."""
    jitter_ms: Annotated[float, Field(ge=0)]
    """What the slowest of a hundred events waits beyond the model: the machine's own pauses."""
    jitter_event_us: Annotated[float, Field(ge=0)] = 0
    """And how much more for every event in a cycle: what comes in a pause has to be caught up."""
    measured: str


class Bytes(Strict):
    """What an event takes on a topic, at load, in bytes."""

    event: Positive
    stage: Positive
    """A stage with an output of one number."""
    stage_column: Positive
    """Every further number."""
    decision: Positive
    """A decision with one stage."""
    decision_stage: Positive
    """Every further stage that is weighed."""
    measured: str


class BrokerCost(Strict):
    """What the broker does for an event."""

    event_us: Positive
    """CPU, all topics of three stages together, one replica, no TLS."""
    measured: str


class StateCost(Strict):
    """What windows remember."""

    entity_bytes: Positive
    """An entity with 20 entries."""
    measured: str


class Point(Strict):
    """Something that was measured, for the forecast to be held against."""

    what: Literal["throughput", "p50_ms", "p99_ms"]
    workers: Annotated[int, Field(ge=1)] = 1
    events_per_s: float | None = None
    """The rate of a latency."""
    measured_value: Positive
    source: str


class UnitCosts(Strict):
    """All of it."""

    machine: str
    workers: dict[Kind, WorkerCost]
    together: Cycle
    """All components in one process."""
    hop: Cycle
    """One component in a process of its own."""
    together_event_us: Positive
    """CPU of an event in a worker with all components, at load."""
    load_event_us: Positive
    """CPU of what publishes and counts in the benchmark, on the same machine."""
    bytes: Bytes
    broker: BrokerCost
    state: StateCost
    points: list[Point]


@cache
def unit_costs() -> UnitCosts:
    """The measured costs."""
    return UnitCosts.model_validate_json(
        files("agents.capacity").joinpath("unit_costs.json").read_text()
    )
