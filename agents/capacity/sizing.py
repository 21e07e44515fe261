"""A pipeline's needs at a rate and a latency, from what an event was measured to cost.

Sizes of a pipeline are tried from the smallest on: of each, every component has the workers for a
number of events a second, and the next one is for two in a hundred more. Which sizes there are
depends on nothing that is asked for, and what is enough for a rate is enough for a lower one: so
more events never need less, nor does a shorter latency.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil, inf, isinf, log

from agents.capacity.costs import Cycle, Kind, UnitCosts
from agents.capacity.failure import WorkerLoss, late_of, worker_loss, worst_loss
from agents.capacity.queueing import WaitingTime, waiting_time
from agents.capacity.traffic import Demand, Topic, kept_h, read_bytes, topics
from topics.errors import AnabranchError
from topics.pipeline import EVENTS, WEIGH, Pipeline, Topology, in_order, workers

_BUSIEST = 0.7
"""No worker is planned to be busier: what is above it is for bursts, restarts and catching up."""
_STEP = 1.02
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


class TooManyEvents(AnabranchError):
    """A component would need more workers than there can be partitions."""

    def __init__(self, events_per_s: float, most: int) -> None:
        super().__init__(
            f"{events_per_s:,.0f} events/s take more than {most:,} workers of a component, and a "
            f"topic has at most {_MOST_PARTITIONS:,} partitions: deal the keys out to several "
            "pipelines"
        )


@dataclass(frozen=True, slots=True)
class Workers:
    """What one component needs, or those that a worker fuses."""

    kind: Kind
    replicas: int
    """With those that may be gone."""
    cpu_cores: float
    """Of all its workers together."""
    memory_mb: float
    """Of one worker."""
    busy: float
    """Share of a worker's time, while all are there."""
    busy_at_loss: float
    """The same while those that may be gone are gone."""
    loss: WorkerLoss


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
    retention_h: float
    p50_ms: float
    """This and the next while those that may be gone are gone."""
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
    """The smallest size that the model believes in. Raises OutOfReach, TooManyEvents."""
    least, latency = _smallest(pipeline, demand, costs)
    needed = {
        name: _workers(pipeline, members, demand, costs, least[name])
        for name, members in _members(pipeline).items()
    }
    partitions = _partitions(pipeline, demand, least)
    carried = topics(pipeline, demand, costs)
    sent = sum(topic.bytes_per_event for topic in carried.values()) * demand.events_per_s / 1e6
    return Plan(
        partitions, needed, carried,
        cpu_cores=sum(worker.cpu_cores for worker in needed.values()),
        memory_gb=sum(worker.replicas * worker.memory_mb for worker in needed.values()) / 1000,
        disk_gb=sum(topic.disk_gb for topic in carried.values()),
        in_mb_per_s=sent, replication_mb_per_s=sent * (demand.replication - 1),
        out_mb_per_s=read_bytes(pipeline, carried) * demand.events_per_s / 1e6,
        broker_cores=demand.events_per_s * costs.broker.event_us * demand.replication / 1e6,
        retention_h=kept_h(pipeline, demand),
        p50_ms=latency.p50_ms, p99_ms=latency.p99_ms,
        warnings=_warnings(pipeline, demand, costs, partitions, needed),
    )  # fmt: skip


def _smallest(
    pipeline: Pipeline, demand: Demand, costs: UnitCosts
) -> tuple[Mapping[str, int], WaitingTime]:
    """The workers that each component cannot do without, and how long events take with those."""
    within_ms, best_ms = _within_ms(pipeline, demand), inf
    before: Mapping[str, int] = {}
    for size in _sizes(pipeline, demand, costs):
        if size == before:
            continue
        before = size
        partitions = _partitions(pipeline, demand, size)
        latency = _wait(pipeline, costs, demand.events_per_s, size, partitions)
        if latency.p99_ms <= within_ms:
            return size, latency
        best_ms = min(best_ms, latency.p99_ms)
    if not before:
        raise TooManyEvents(demand.events_per_s, _MOST_PARTITIONS - demand.spare)
    raise OutOfReach(within_ms, best_ms)


def _sizes(pipeline: Pipeline, demand: Demand, costs: UnitCosts) -> Iterator[Mapping[str, int]]:
    """Workers by component, for ever more events, from the first that are not too busy on."""
    event_us = {
        name: _event_us(pipeline, members, costs) for name, members in _members(pipeline).items()
    }
    for step in count(ceil(log(demand.events_per_s / _BUSIEST, _STEP))):
        size = {name: max(1, ceil(_STEP**step * each / 1e6)) for name, each in event_us.items()}
        if max(size.values()) + demand.spare > _MOST_PARTITIONS:
            return
        yield size


def _within_ms(pipeline: Pipeline, demand: Demand) -> float:
    """What 99 of 100 events are to be decided within: late ones would lack a stage."""
    deadline_s = pipeline.weighting.deadline_s
    return demand.p99_ms if deadline_s is None else min(demand.p99_ms, deadline_s * 1000)


def _members(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """Each worker and what it runs, the weighting agent's too."""
    return {**workers(pipeline), WEIGH: (WEIGH,)}


def _event_us(pipeline: Pipeline, components: Sequence[str], costs: UnitCosts) -> float:
    """Of an event in a worker; components that are fused are counted as if apart."""
    return sum(costs.workers[kind_of(pipeline, name)].event_us for name in components)


def _workers(
    pipeline: Pipeline, components: Sequence[str], demand: Demand, costs: UnitCosts, least: int
) -> Workers:
    kind = kind_of(pipeline, components[0])
    cost = costs.workers[kind]
    load = demand.events_per_s * _event_us(pipeline, components, costs) / 1e6
    memory_mb = cost.memory_mb
    if kind in ("windowed", "keyed"):
        memory_mb += demand.entities * costs.state.entity_bytes / least / 1e6
    replicas = least + demand.spare
    cores = load + replicas * cost.idle_ms_per_s / 1000
    left = replicas - 1
    loss = worker_loss(
        pipeline, demand.events_per_s, left, load / max(1, left),
        of_all_partitions=kind == "keyed",
    )  # fmt: skip
    return Workers(kind, replicas, cores, memory_mb, load / replicas, load / least, loss)


def _partitions(pipeline: Pipeline, demand: Demand, size: Mapping[str, int]) -> int:
    """A power of two, so that they divide evenly among so many workers; never fewer than now."""
    replicas = max(size.values()) + demand.spare
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


def _warnings(
    pipeline: Pipeline,
    demand: Demand,
    costs: UnitCosts,
    partitions: int,
    needed: Mapping[str, Workers],
) -> Sequence[str]:
    warnings = [
        *_on_loss(pipeline, demand, needed),
        *_on_retention(pipeline, demand),
        f"costs are those of {costs.machine}; yours: python -m tests.benchmarks.unit_costs",
        _NOT_MODELLED,
        "dead letters, redriven events, outcomes and the sending of snapshots are not counted",
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


def _on_loss(pipeline: Pipeline, demand: Demand, needed: Mapping[str, Workers]) -> Iterator[str]:
    """What a worker that is killed at the peak does to events, and what `late:` says then."""
    name, loss = worst_loss({name: worker.loss for name, worker in needed.items()})
    late, deadline_s = late_of(pipeline), pipeline.weighting.deadline_s
    caught_up = f"caught up with {loss.catch_up_s:,.0f} s later"
    if isinf(loss.catch_up_s):
        caught_up = "and not caught up with before it is back"
    yield (
        f"a worker of {name} that is killed: {loss.waiting_share:.0%} of the events wait for "
        f"{loss.takeover_s:.0f} s (session time-out and start), {caught_up}"
    )
    if not demand.spare:
        yield "no worker may be gone (--spare 0): while one is, its component cannot keep up"
    if deadline_s is None:
        yield (
            "late: wait: none of these is decided without a stage that lives, so too few workers "
            "cost time, not stages; a stage counts as down after "
            f"{pipeline.weighting.stall_timeout_s:g} s"
        )
        return
    end = "without that stage" if late == "degrade" else f"as {pipeline.weighting.fallback}"
    yield (
        f"late: {late}: what takes longer than {deadline_s * 1000:,.0f} ms is decided {end}: so "
        f"the p99 is planned within that, and about {loss.late_events:,.0f} events are at the loss "
        "of that worker"
    )
    if demand.p99_ms > deadline_s * 1000:
        yield f"a p99 of {demand.p99_ms:,.0f} ms is more than deadline_ms allows: planned for that"


def _on_retention(pipeline: Pipeline, demand: Demand) -> Iterator[str]:
    needed_h = Topology.of(pipeline).retention_ms / 3_600_000
    if demand.retention_h is not None and demand.retention_h < needed_h:
        yield (
            f"topics that keep {demand.retention_h:g} h are too short: by the pipeline file's "
            f"windows, delay and replay time they keep {needed_h / 24:g} days; windows that are "
            "lost could not be made again"
        )


def throughput(costs: UnitCosts, workers: int, cores: float) -> float:
    """Events a second of *workers* with all components each, with everything on one machine.

    A worker is one thread; the machine is shared with the broker and what publishes and counts.
    """
    each = 1e6 / costs.together_event_us
    whole = costs.together_event_us + costs.broker.event_us + costs.load_event_us
    return min(workers * each, cores * 1e6 / whole)
