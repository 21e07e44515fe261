"""A pipeline's needs at a rate and a latency, from what an event was measured to cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, isinf

from agents.capacity.costs import Cycle, Kind, UnitCosts
from agents.capacity.queueing import WaitingTime, waiting_time
from agents.capacity.traffic import Demand, Topic, read_bytes, topics
from topics.errors import AnabranchError
from topics.pipeline import EVENTS, WEIGH, Pipeline, in_order, workers

_BUSIEST, _STEP, _LEAST_BUSY = 0.7, 0.9, 0.02
"""No worker is planned to be busier: what is above it is for bursts, restarts and catching up."""
_GROWTH = 1.5
"""Partitions for so many times the workers: to add some later is an operation of its own."""
_MOST_PARTITIONS = 10_000
_NOT_MODELLED = (
    "not modelled: networks between machines, replication before an acknowledgement (add two "
    "round trips a hop), TLS, other load, keys that are far more frequent than others, "
    "rebalances, restarts and catching up after them; the forecast was held against one machine "
    "with all components in a process, at 100 to 5,000 events/s (within 20 %), and not against "
    "components apart, as they are planned here"
)


class OutOfReach(AnabranchError):
    """No number of workers is enough."""

    def __init__(self, p99_ms: float, best_ms: float) -> None:
        super().__init__(
            f"a p99 of {p99_ms:g} ms is out of reach: with idle workers it is {best_ms:.0f} ms, "
            "one measured hop after the other; allow more, or have fewer components in a row"
        )


@dataclass(frozen=True, slots=True)
class Workers:
    """What one component needs, or those that a worker fuses."""

    kind: Kind
    replicas: int
    cpu_cores: float
    """Of all its workers together."""
    memory_mb: float
    """Of one worker."""
    busy: float
    """Share of a worker's time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pipeline needs."""

    partitions: int
    components: Mapping[str, Workers]
    topics: Mapping[str, Topic]
    cpu_cores: float
    memory_gb: float
    disk_gb: float
    in_mb_per_s: float
    """What producers and workers send to the brokers."""
    replication_mb_per_s: float
    """What the brokers send each other."""
    out_mb_per_s: float
    """What workers and one consumer of the decisions read."""
    broker_cores: float
    p50_ms: float
    p99_ms: float
    warnings: Sequence[str]


def kind_of(pipeline: Pipeline, component: str) -> Kind:
    """Which of the measured kinds *component* is."""
    if component == WEIGH:
        return "weigh"
    spec = pipeline.component(component)
    if pipeline.is_repartitioned(component):
        return "keyed"
    if spec.windowed:
        return "windowed"
    return "source" if spec.inputs == [EVENTS] else "joined"


def plan(pipeline: Pipeline, demand: Demand, costs: UnitCosts) -> Plan:
    """The cheapest plan that the model believes in. Raises OutOfReach."""
    busy = _BUSIEST
    while (latency := _at(pipeline, costs, demand, busy)).p99_ms > demand.p99_ms:
        if busy <= _LEAST_BUSY:
            raise OutOfReach(demand.p99_ms, latency.p99_ms)
        busy *= _STEP
    needed = {
        name: _workers(pipeline, members, demand, costs, busy)
        for name, members in _members(pipeline).items()
    }
    partitions = _partitions(pipeline, max(worker.replicas for worker in needed.values()))
    carried = topics(pipeline, demand, costs.bytes)
    sent = sum(topic.bytes_per_event for topic in carried.values()) * demand.events_per_s / 1e6
    return Plan(
        partitions, needed, carried,
        cpu_cores=sum(worker.cpu_cores for worker in needed.values()),
        memory_gb=sum(worker.replicas * worker.memory_mb for worker in needed.values()) / 1000,
        disk_gb=sum(topic.disk_gb for topic in carried.values()),
        in_mb_per_s=sent, replication_mb_per_s=sent * (demand.replication - 1),
        out_mb_per_s=read_bytes(pipeline, carried) * demand.events_per_s / 1e6,
        broker_cores=demand.events_per_s * costs.broker.event_us * demand.replication / 1e6,
        p50_ms=latency.p50_ms, p99_ms=latency.p99_ms,
        warnings=_warnings(pipeline, demand, costs, partitions),
    )  # fmt: skip


def _members(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """Each worker and what it runs, the weighting agent's too."""
    return {**workers(pipeline), WEIGH: (WEIGH,)}


def _event_us(pipeline: Pipeline, components: Sequence[str], costs: UnitCosts) -> float:
    """Of an event in a worker; components that are fused are counted as if apart."""
    return sum(costs.workers[kind_of(pipeline, name)].event_us for name in components)


def _workers(
    pipeline: Pipeline, components: Sequence[str], demand: Demand, costs: UnitCosts, busy: float
) -> Workers:
    kind = kind_of(pipeline, components[0])
    cost = costs.workers[kind]
    load = demand.events_per_s * _event_us(pipeline, components, costs) / 1e6
    replicas = _replicas(load, busy)
    memory_mb = cost.memory_mb
    if kind in ("windowed", "keyed"):
        memory_mb += demand.entities * costs.state.entity_bytes / replicas / 1e6
    cores = load + replicas * cost.idle_ms_per_s / 1000
    return Workers(kind, replicas, cores, memory_mb, load / replicas)


def _partitions(pipeline: Pipeline, replicas: int) -> int:
    """A power of two, so that they divide evenly among so many workers; never fewer than now."""
    needed = ceil(replicas * _GROWTH) if replicas > 1 else 1
    power_of_two = 1 << (needed - 1).bit_length()
    return min(max(pipeline.partitions, power_of_two), _MOST_PARTITIONS)


def _path(pipeline: Pipeline) -> list[str]:
    """The longest way from an event to its decision, worker by worker."""
    worker_of = {member: name for name, members in workers(pipeline).items() for member in members}
    longest: dict[str, list[str]] = {EVENTS: []}
    for name in in_order(pipeline):
        before = max((longest[source] for source in pipeline.component(name).inputs), key=len)
        worker = worker_of[name]
        longest[name] = before if worker in before else [*before, worker]
    return [*max((longest[stage] for stage in pipeline.weighting.inputs), key=len), WEIGH]


def _wait(
    pipeline: Pipeline, costs: UnitCosts, rate: float, replicas: Mapping[str, int], partitions: int
) -> WaitingTime:
    """Along the longest way, hop by hop; events of a keyed component take a hop more."""
    cycles: list[Cycle] = []
    rates: list[float] = []
    members = _members(pipeline)
    for name in _path(pipeline):
        event_us = _event_us(pipeline, members[name], costs)
        keyed = kind_of(pipeline, members[name][0]) == "keyed"
        for _ in range(2 if keyed else 1):
            cycles.append(costs.hop.model_copy(update={"event_us": event_us}))
            rates.append(rate / replicas[name])
    return waiting_time(cycles, rates, max(1, partitions // max(replicas.values())))


def _at(pipeline: Pipeline, costs: UnitCosts, demand: Demand, busy: float) -> WaitingTime:
    """When every worker is busy for that share of its time, or less."""
    rate = demand.events_per_s
    replicas = {
        name: _replicas(rate * _event_us(pipeline, members, costs) / 1e6, busy)
        for name, members in _members(pipeline).items()
    }
    partitions = _partitions(pipeline, max(replicas.values()))
    return _wait(pipeline, costs, rate, replicas, partitions)


def _replicas(load: float, busy: float) -> int:
    return max(1, ceil(load / busy))


def _warnings(
    pipeline: Pipeline, demand: Demand, costs: UnitCosts, partitions: int
) -> Sequence[str]:
    warnings = [
        f"costs are those of {costs.machine}; yours: python -m tests.benchmarks.unit_costs",
        _NOT_MODELLED,
        "dead letters, redriven events, outcomes and snapshots of windows are not counted",
    ]
    if pipeline.fuse:
        warnings.append("components that are fused are counted as if each read its topics itself")
    own = [spec.name for spec in pipeline.components if spec.import_path is not None]
    if own:
        warnings.append(f"what {', '.join(own)} does itself is not known: counted as a small model")
    if any(spec.windowed for spec in pipeline.components) and not demand.entities:
        warnings.append(
            "windows remember nothing here: say how many keys there are with --entities"
        )
    if partitions != pipeline.partitions:
        warnings.append(
            f"the pipeline file says {pipeline.partitions} partitions, this plan {partitions}: "
            "see deploy/operations.md before you change them"
        )
    throughputs = [point.measured_value for point in costs.points if point.what == "throughput"]
    most = max(throughputs, default=inf)
    if not isinf(most) and demand.events_per_s > most:
        warnings.append(
            f"more than was measured on one machine ({most:,.0f} events/s): brokers and workers "
            "are taken to scale in proportion, which was not tried"
        )
    return warnings


def throughput(costs: UnitCosts, workers: int, cores: float) -> float:
    """Events a second of *workers* with all components each, with everything on one machine.

    A worker is one thread; the machine is shared with the broker and what publishes and counts.
    """
    each = 1e6 / costs.together_event_us
    whole = costs.together_event_us + costs.broker.event_us + costs.load_event_us
    return min(workers * each, cores * 1e6 / whole)
