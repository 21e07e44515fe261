"""A worker of a pipeline, put together: its Faust app, with the agent that does its work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.components import ActiveComponent
from agents.process.pipeline_runtime import Parts, Slots
from agents.stages import ComponentGroup, JoinStage, KeyedStage, Repartition, SourceStage
from agents.weigh import Weigher
from agents.workers import (
    FlowControl,
    StageApp,
    StageMetrics,
    Wiring,
    Worker,
    add_agent,
    create_app,
)
from topics.pipeline import EVENTS, WEIGH, Topology, inputs_of
from topics.settings import BrokerSettings

_EVENT_RECORDS = 4096
_BATCH_RECORDS = 16


def worker_app(
    parts: Parts, name: str, settings: BrokerSettings, stages: Mapping[str, StageMetrics],
    flow_control: FlowControl, slots: Slots,
) -> tuple[StageApp, Worker[Any]]:  # fmt: skip
    """The app of the worker called *name*."""
    topology = Topology.of(parts.pipeline)
    keyed = name in topology.repartitioned
    members = parts.workers()[name]
    inputs = inputs_of(parts.pipeline, members) if members else parts.pipeline.weighting.inputs
    reads_events = list(inputs) == [EVENTS] and not keyed
    app = create_app(
        topology.group(name), settings,
        max_records=_EVENT_RECORDS if reads_events else _BATCH_RECORDS,
    )  # fmt: skip
    wiring = Wiring(parts.pipeline, app, settings, stages[name], flow_control)
    if reads_events and parts.terms is not None:
        app.batches.turn = flow_control.turn
    for member in members:
        stages[member].observe_model(slots.components[member].champion.model)
    worker = _worker(wiring, name, stages, slots, {it: slots.components[it] for it in members})
    add_agent(app, [*worker.sources, topology.redrive], worker.handle)
    return app, worker


def _worker(
    wiring: Wiring, name: str, stages: Mapping[str, StageMetrics], slots: Slots,
    members: Mapping[str, ActiveComponent],
) -> Worker[Any]:  # fmt: skip
    if name == WEIGH:
        if slots.terms is None:
            raise ValueError("the weighting agent needs weights")
        terms = slots.terms.rule.weights
        wiring.metrics.observe_weights(terms.values, terms.version)
        return Weigher(wiring, slots.terms)
    if name in wiring.topology.repartitioned:
        return KeyedStage(wiring, name, members[name])
    group = ComponentGroup(wiring, members, stages)
    kind = SourceStage if EVENTS in inputs_of(wiring.pipeline, group.names) else JoinStage
    return kind(wiring, group)


def repartition_app(
    parts: Parts, name: str, settings: BrokerSettings, metrics: StageMetrics
) -> tuple[StageApp, Worker[Any]]:
    """What deals events and outcomes out to component *name*."""
    topology = Topology.of(parts.pipeline)
    group = topology.group(f"{name}.keyed")
    app = create_app(group, settings, max_records=_EVENT_RECORDS)
    worker = Repartition(Wiring(parts.pipeline, app, settings, metrics), name)
    add_agent(app, topology.sources_of(name), worker.handle)
    return app, worker
