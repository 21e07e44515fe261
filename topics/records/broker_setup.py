"""How a broker has to be set up for a pipeline: the settings of its topics, and who may do what.

A topic's settings are given where they are not the broker's own default. Each part of a pipeline
must be allowed what is said here, and nothing more: read and write imply describe, and a writer may
be idempotent (Kafka 3.0 and later, KIP-679).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from topics.pipeline import (
    EVENTS,
    EXPLAINER,
    MONITOR,
    TRAINER,
    WEIGH,
    Pipeline,
    Topology,
    event_fields,
    inputs_of,
    workers,
)

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

_REQUESTS = {
    # A gateway reads all of it when it starts; keys are remembered for an hour.
    "retention.ms": str(2 * 3600 * 1000),
    "segment.ms": str(3600 * 1000),
    # One clock tells how far claims are apart, whatever the gateways' clocks say.
    "message.timestamp.type": "LogAppendTime",
}


def topic_configs(topology: Topology) -> Mapping[str, Mapping[str, str]]:
    """Topic → its settings; a topic that is not in there has none of its own.

    What carries whole events takes large ones, and so do snapshots of windows: a key's past is one
    record. These, what is in service and what workers say of themselves are compacted; all else is
    kept as long as somebody may look back (`topics.pipeline.topic_retention`).
    """
    kept = {"retention.ms": str(topology.retention_ms)}
    shadows = map(topology.shadow, topology.components)
    configs = dict.fromkeys((*topology.all, topology.outcomes, *shadows), kept)
    whole_events = (topology.events, topology.dead_letters, topology.redrive)
    configs |= dict.fromkeys(whole_events, kept | _LARGE)
    configs |= dict.fromkeys(map(topology.state, topology.stateful), _STATE)
    return configs | {
        topology.control: _READ_WHOLE, topology.reports: _REPORTS, topology.requests: _REQUESTS,
        topology.renewals: _READ_WHOLE,
        topology.monitor: kept, topology.monitor_state: _READ_WHOLE,
        topology.outcome_letters: kept,
    }  # fmt: skip


Resource = Literal["topic", "group", "transactional-id"]
Operation = Literal["read", "write", "describe"]
Pattern = Literal["literal", "prefixed"]

PRODUCER, CONSUMER, OPERATOR, SCALER = "producer", "consumer", "operator", "scaler"
GATEWAY = "gateway"


class Acl(NamedTuple):
    """`principal` may do `operation` on the resource of that name, or on all that begin with it."""

    principal: str
    operation: Operation
    resource: Resource
    name: str
    pattern: Pattern = "literal"


def acls(pipeline: Pipeline) -> list[Acl]:
    """What every worker needs, each under a user of its own: `<pipeline>.<component>`.

    Besides, `<pipeline>.producer` publishes events and outcomes, `<pipeline>.consumer` reads
    decisions and explanations, in groups of its own (`<pipeline>.consumer.…`), and on the control
    topic which pipeline's decisions count; `<pipeline>.operator` audits, watches, redrives dead
    letters, promotes and looks at the status, `<pipeline>.gateway` publishes events, claims
    requests with a key, and reads what has come of them; `<pipeline>.monitor` reads events,
    decisions and outcomes and says how good they are; and `<pipeline>.scaler` sees how far each
    consumer group of a worker is behind, and no record. Where models renew themselves,
    `<pipeline>.trainer` reads all that the pipeline has, says what it does, and promotes.
    """
    topology = Topology.of(pipeline)
    needed = [acl for name, of in workers(pipeline).items() for acl in _worker(pipeline, name, of)]
    needed += _weigher(pipeline)
    needed += _may(topology.group(PRODUCER), "write", topology.events, topology.outcomes)
    needed += _may(topology.group(CONSUMER), "read", topology.decisions, topology.control)
    if topology.explained:
        needed += _explainer(pipeline)
        needed += _may(topology.group(CONSUMER), "read", topology.explanations)
    needed += _gateway(pipeline)
    if topology.renewed:
        needed += _trainer(pipeline)
        needed += _may(topology.group(OPERATOR), "write", topology.renewals)
    needed += _monitor(pipeline)
    read = dict.fromkeys((*topology.all, topology.outcomes))
    needed += _may(topology.group(OPERATOR), "read", *read)
    challenges = [topology.shadow(spec.name) for spec in pipeline.components if spec.model]
    needed += _may(topology.group(OPERATOR), "read", *challenges)
    said = (topology.monitor, topology.outcome_letters)
    needed += _may(topology.group(OPERATOR), "read", *said)
    needed += _may(
        topology.group(OPERATOR), "write", topology.redrive, topology.control, topology.reports
    )
    # The control topic is written in transactions; a writer of one may also describe it.
    needed.append(Acl(topology.group(OPERATOR), "write", "transactional-id", topology.control))
    groups = dict.fromkeys(acl.name for acl in needed if acl.resource == "group")
    needed.append(Acl(
        topology.group(CONSUMER), "read", "group", topology.consumer_groups, "prefixed"
    ))  # fmt: skip
    for who in (OPERATOR, SCALER):
        needed += [Acl(topology.group(who), "describe", "group", name) for name in groups]
    needed += _may(topology.group(SCALER), "describe", *topology.all)
    return needed


def rollout_acls(before: Pipeline, after: Pipeline) -> list[Acl]:
    """What they need besides while *after* takes the place of *before*.

    `<after>.operator` runs the rollout: it copies both ways and does with *before* what that one's
    own operator may. Producers and consumers of either pipeline may do with the other what they may
    do with their own, and `<after>.consumer` joins the groups that consumers have now.
    """
    old, new = Topology.of(before), Topology.of(after)
    needed: list[Acl] = []
    for one, other in ((old, new), (new, old)):
        needed += _may(one.group(PRODUCER), "write", other.events, other.outcomes)
        needed += _may(one.group(CONSUMER), "read", other.decisions, other.control)
    needed.append(Acl(new.group(CONSUMER), "read", "group", old.consumer_groups, "prefixed"))
    runs = new.group(OPERATOR)
    needed += [
        acl._replace(principal=runs) for acl in acls(before) if acl.principal == old.group(OPERATOR)
    ]
    for topology in (old, new):
        needed += _may(runs, "write", topology.events, topology.outcomes)
    needed.append(Acl(runs, "read", "group", new.copier))
    needed.append(Acl(runs, "write", "transactional-id", new.copier))
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


def _trainer(pipeline: Pipeline) -> Iterator[Acl]:
    topology = Topology.of(pipeline)
    who = topology.group(TRAINER)
    challenged = [topology.shadow(spec.name) for spec in pipeline.components if spec.model]
    read = dict.fromkeys((*topology.all, topology.outcomes, topology.monitor, *challenged))
    yield from _may(who, "read", *read, topology.renewals)
    yield from _may(who, "write", topology.renewals, topology.control)
    yield Acl(who, "write", "transactional-id", topology.control)


def _explainer(pipeline: Pipeline) -> Iterator[Acl]:
    topology = Topology.of(pipeline)
    who = topology.group(EXPLAINER)
    stages = map(topology.stage, topology.components)
    events = [topology.events] if event_fields(pipeline) else []
    yield Acl(who, "read", "group", who)
    # Of a redriven event counts what its last attempt has made of it.
    read = (topology.decisions, topology.redrive, topology.control, topology.explanations)
    yield from _may(who, "read", *stages, *events, *read, topology.reports)
    yield from _may(who, "write", topology.explanations, topology.reports)


def _gateway(pipeline: Pipeline) -> Iterator[Acl]:
    """It is in no consumer group, and says nothing of itself on the topics."""
    topology = Topology.of(pipeline)
    who = topology.group(GATEWAY)
    ends = (topology.decisions, topology.dead_letters)
    # What stages said is asked for with explanations, of a redriven event what its last attempt
    # has made of it; the other two say what is down.
    stages = (*map(topology.stage, topology.components), topology.redrive)
    status = (topology.control, topology.reports)
    yield from _may(who, "read", topology.events, topology.requests, *ends, *stages, *status)
    yield from _may(who, "write", topology.events, topology.requests)


def _monitor(pipeline: Pipeline) -> Iterator[Acl]:
    """It reads what it likes from positions of its own; its group is for who the active one is."""
    topology = Topology.of(pipeline)
    who = topology.group(MONITOR)
    yield Acl(who, "read", "group", who)
    yield Acl(who, "write", "transactional-id", who)
    read = (topology.events, topology.decisions, topology.outcomes, topology.control)
    yield from _may(who, "read", *read, topology.monitor_state)
    yield from _may(who, "write", *topology.of_monitor)
    live = (pipeline.weighting.learning.mode, pipeline.weighting.quarantine.mode)
    if "active" in live:  # it puts versions of the weights into service, as an operator does
        yield Acl(who, "write", "transactional-id", topology.control)
        yield from _may(who, "write", topology.control)


def _may(principal: str, operation: Operation, *topics: str) -> list[Acl]:
    return [Acl(principal, operation, "topic", topic) for topic in topics]


def acl_commands(needed: list[Acl], broker: str) -> Iterator[str]:
    """Lines for a shell: Kafka's own command, once for each principal, operation and pattern."""
    rules: dict[tuple[str, Operation, Pattern], list[Acl]] = {}
    for acl in needed:
        rules.setdefault((acl.principal, acl.operation, acl.pattern), []).append(acl)
    for (principal, operation, pattern), of in rules.items():
        resources = " ".join(f"--{acl.resource} {acl.name}" for acl in of)
        prefixed = "" if pattern == "literal" else f"--resource-pattern-type {pattern} "
        yield (
            f"kafka-acls.sh --bootstrap-server {broker} --add --allow-principal User:{principal} "
            f"--operation {operation.capitalize()} {prefixed}{resources}"
        )
