"""What flows through each topic of a pipeline, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.capacity.costs import UnitCosts
from topics.pipeline import Pipeline, Topology, inputs_of, workers

_HOUR_MS = 3_600_000
_SNAPSHOTS = 2


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked for."""

    events_per_s: float
    p99_ms: float
    event_bytes: float | None = None
    """Of an event as it is published; that of the benchmark without it."""
    entities: int = 0
    """Keys that windows remember at a time."""
    retention_h: float | None = None
    """How long the broker keeps records; without it as long as the pipeline file's windows need."""
    replication: int = 3
    spare: int = 1
    """Workers of each component that may be gone while the others still do it all."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What one topic carries."""

    bytes_per_event: float
    """0 of snapshots of windows, which are written by the clock."""
    disk_gb: float
    """All replicas, at the end of the retention time."""


def kept_h(pipeline: Pipeline, demand: Demand) -> float:
    """How long records are kept, in hours: as is asked for, or as the pipeline's topics need."""
    if demand.retention_h is not None:
        return demand.retention_h
    return Topology.of(pipeline).retention_ms / _HOUR_MS


def topics(pipeline: Pipeline, demand: Demand, costs: UnitCosts) -> Mapping[str, Topic]:
    """What each topic carries, and what it takes on disk, all replicas, when it is full."""
    size = costs.bytes
    topology = Topology.of(pipeline)
    event = demand.event_bytes or size.event
    sizes = {topology.events: event}
    sizes |= {topology.keyed(name): event for name in topology.repartitioned}
    for spec in pipeline.components:
        columns = len(spec.features or []) + 2 * len(spec.windowed)  # at most three windows each
        sizes[topology.stage(spec.name)] = size.stage + size.stage_column * max(0, columns - 1)
    stages = len(pipeline.weighting.inputs)
    sizes[topology.decisions] = size.decision + size.decision_stage * (stages - 1)
    copies = demand.events_per_s * kept_h(pipeline, demand) * 3600 * demand.replication
    carried = {topic: Topic(each, each * copies / 1e9) for topic, each in sizes.items()}
    # Compaction leaves the newest snapshot, and those that are written until it comes round.
    state = _SNAPSHOTS * demand.entities * costs.state.entity_bytes * demand.replication / 1e9
    return carried | {topology.state(name): Topic(0.0, state) for name in topology.stateful}


def read_bytes(pipeline: Pipeline, carried: Mapping[str, Topic]) -> float:
    """Bytes that are read for an event: every topic by each that needs it, decisions once."""
    topology = Topology.of(pipeline)
    fused = workers(pipeline).values()
    stages = [stage for members in fused for stage in inputs_of(pipeline, members)]
    stages += pipeline.weighting.inputs
    read = sum(carried[topology.stage(stage)].bytes_per_event for stage in stages)
    read += sum(carried[topology.keyed(name)].bytes_per_event for name in topology.repartitioned)
    return read + carried[topology.decisions].bytes_per_event
