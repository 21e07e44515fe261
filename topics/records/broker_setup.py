"""How a broker has to be set up for a pipeline: the settings of its topics, and who may do what.

A topic's settings are given where they are not the broker's own default. Each part of a pipeline
must be allowed what is said here, and nothing more: read and write imply describe, and a writer may
be idempotent (Kafka 3.0 and later, KIP-679).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from topics.pipeline import EVENTS, WEIGH, Pipeline, Topology, inputs_of, workers

_MAX_EVENT_BYTES = 16 * 2**20
_LARGE = {"max.message.bytes": str(_MAX_EVENT_BYTES)}
_COMPACTED = {"cleanup.policy": "compact", "segment.bytes": str(64 * 2**20)}
_STATE = {**_COMPACTED, **_LARGE}
_DAY_MS = 24 * 3600 * 1000
_READ_WHOLE = {
    # Whoever starts reads all of it. Only a segment that is closed is compacted, and a tombstone
    # goes a day after that: within two days, whether much is written or little.
    "cleanup.policy": "compact",
    "segment.bytes": str(2**20),
    "max.compaction.lag.ms": str(_DAY_MS),
    "delete.retention.ms": str(_DAY_MS),
    "min.cleanable.dirty.ratio": "0.1",
}
_REPORTS = {
    **_READ_WHOLE,
    # One clock tells how old a report is, whatever the workers' clocks say.
    "message.timestamp.type": "LogAppendTime",
}


def topic_configs(topology: Topology) -> Mapping[str, Mapping[str, str]]:
    """Topic → its settings; a topic that is not in there has none of its own.

    What carries whole events takes large ones, and so do snapshots of windows: a key's past is one
    record. These, what is in service and what workers say of themselves are compacted.
    """
    configs = dict.fromkeys((topology.events, topology.dead_letters, topology.redrive), _LARGE)
    states = dict.fromkeys(map(topology.state, topology.stateful), _STATE)
    return configs | states | {topology.control: _READ_WHOLE, topology.reports: _REPORTS}


Resource = Literal["topic", "group", "transactional-id"]
Operation = Literal["read", "write", "describe"]

PRODUCER, CONSUMER, OPERATOR, SCALER = "producer", "consumer", "operator", "scaler"


class Acl(NamedTuple):
    """`principal` may do `operation` on the resource of that very name."""

    principal: str
    operation: Operation
    resource: Resource
    name: str


def acls(pipeline: Pipeline) -> list[Acl]:
    """What every worker needs, each under a user of its own: `<pipeline>.<component>`.

    Besides, `<pipeline>.producer` publishes events and outcomes, `<pipeline>.consumer` reads
    decisions, `<pipeline>.operator` audits, watches, redrives dead letters, promotes and looks at
    the status, and `<pipeline>.scaler` sees how far each consumer group is behind, and no record.
    """
    topology = Topology.of(pipeline)
    needed = [acl for name, of in workers(pipeline).items() for acl in _worker(pipeline, name, of)]
    needed += _weigher(pipeline)
    needed += _may(topology.group(PRODUCER), "write", topology.events, topology.outcomes)
    needed += _may(topology.group(CONSUMER), "read", topology.decisions)
    read = dict.fromkeys((*topology.all, topology.outcomes))
    needed += _may(topology.group(OPERATOR), "read", *read)
    challenges = [topology.shadow(spec.name) for spec in pipeline.components if spec.model]
    needed += _may(topology.group(OPERATOR), "read", *challenges)
    needed += _may(
        topology.group(OPERATOR), "write", topology.redrive, topology.control, topology.reports
    )
    # The control topic is written in transactions; a writer of one may also describe it.
    needed.append(Acl(topology.group(OPERATOR), "write", "transactional-id", topology.control))
    groups = dict.fromkeys(acl.name for acl in needed if acl.resource == "group")
    for who in (OPERATOR, SCALER):
        needed += [Acl(topology.group(who), "describe", "group", name) for name in groups]
    needed += _may(topology.group(SCALER), "describe", *topology.all)
    return needed


def _worker(pipeline: Pipeline, name: str, components: Sequence[str]) -> Iterator[Acl]:
    topology = Topology.of(pipeline)
    who, specs = topology.group(name), [pipeline.component(component) for component in components]
    read = inputs_of(pipeline, components)
    inputs = [topology.stage(stage) for stage in read if stage != EVENTS]
    if EVENTS in read:
        inputs += topology.sources_of(name)
    outputs = [topology.stage(component) for component in components]
    outputs += [topology.redrive, topology.reports]
    inputs.append(topology.control)
    outputs += [topology.shadow(spec.name) for spec in specs if spec.model is not None]
    if name in topology.repartitioned:
        outputs.append(topology.keyed(name))
        yield Acl(who, "read", "group", topology.group(f"{name}.keyed"))
    outputs += [
        topology.state(component) for component in components if component in topology.stateful
    ]
    yield Acl(who, "read", "group", topology.group(name))
    yield from _may(who, "read", *inputs, *outputs)  # a worker finds on its output what is done
    yield from _may(who, "write", *outputs)


def _weigher(pipeline: Pipeline) -> Iterator[Acl]:
    topology = Topology.of(pipeline)
    who = topology.group(WEIGH)
    stages = [topology.stage(stage) for stage in pipeline.weighting.inputs]
    ends = (topology.decisions, topology.dead_letters, topology.redrive, topology.reports)
    yield Acl(who, "read", "group", topology.group(WEIGH))
    # A dead letter repeats its event.
    yield from _may(who, "read", *stages, topology.events, topology.control, *ends)
    yield from _may(who, "write", *ends)


def _may(principal: str, operation: Operation, *topics: str) -> list[Acl]:
    return [Acl(principal, operation, "topic", topic) for topic in topics]


def acl_commands(needed: list[Acl], broker: str) -> Iterator[str]:
    """Lines for a shell: Kafka's own command, once for each principal and operation."""
    for principal, operation in dict.fromkeys((acl.principal, acl.operation) for acl in needed):
        of = [acl for acl in needed if (acl.principal, acl.operation) == (principal, operation)]
        resources = " ".join(f"--{acl.resource} {acl.name}" for acl in of)
        yield (
            f"kafka-acls.sh --bootstrap-server {broker} --add "
            f"--allow-principal User:{principal} --operation {operation.capitalize()} {resources}"
        )
