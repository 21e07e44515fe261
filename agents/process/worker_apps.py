"""The workers of a process, put together: each a Faust app, with the agent that does its work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from agents.explainer import ExplainerWorker
from agents.process.active_pipeline import ActivePipeline
from agents.spans import SpanRecorder
from agents.stages import ComponentGroup, JoinStage, KeyedStage, Repartition, SourceStage
from agents.weigh import Weigher
from agents.workers import (
    FlowControl,
    Metrics,
    StageApp,
    StageMetrics,
    Wiring,
    Worker,
    add_agent,
    create_app,
)
from topics.pipeline import EVENTS, EXPLAINER, KEYED, WEIGH, Topology, inputs_of
from topics.settings import BrokerSettings

_EVENT_RECORDS = 4096
_BATCH_RECORDS = 16
_DECISION_RECORDS = 1024


class WorkerApp(NamedTuple):
    """A worker, and the app that feeds it."""

    app: StageApp
    worker: Worker[Any]


def worker_apps(
    active: ActivePipeline, settings: BrokerSettings, metrics: Metrics, spans: SpanRecorder
) -> tuple[dict[str, WorkerApp], dict[str, StageMetrics]]:
    """The apps of all workers that run here by name, and the metrics of workers and components."""
    pipeline, flow_control = active.pipeline, FlowControl()
    apps: dict[str, WorkerApp] = {}
    stages: dict[str, StageMetrics] = {}
    for name, members in active.workers().items():
        for own in dict.fromkeys((name, *members)):
            stages[own] = StageMetrics(metrics, pipeline.name, own)
        if name == EXPLAINER:
            apps[name] = _explainer_app(active, settings, stages[name])
            continue
        apps[name] = _worker_app(active, name, settings, stages, flow_control, spans)
        if name in Topology.of(pipeline).repartitioned:
            keyed = f"{name}{KEYED}"
            stages[keyed] = StageMetrics(metrics, pipeline.name, keyed)
            apps[keyed] = _repartition_app(active, name, settings, stages[keyed], spans)
    return apps, stages


def _worker_app(
    active: ActivePipeline, name: str, settings: BrokerSettings,
    stages: Mapping[str, StageMetrics], flow_control: FlowControl, spans: SpanRecorder,
) -> WorkerApp:  # fmt: skip
    """The app of the worker called *name*."""
    pipeline, topology = active.pipeline, Topology.of(active.pipeline)
    members = active.workers()[name]
    inputs = inputs_of(pipeline, members) if members else pipeline.weighting.inputs
    reads_events = list(inputs) == [EVENTS] and name not in topology.repartitioned
    app = create_app(
        topology.group(name), settings,
        max_records=_EVENT_RECORDS if reads_events else _BATCH_RECORDS,
    )  # fmt: skip
    wiring = Wiring(pipeline, app, settings, stages[name], flow_control, spans)
    if reads_events and active.decision_rule is not None:
        app.batches.turn = flow_control.turn
    for member in members:
        stages[member].observe_model(active.components[member].champion.model)
    worker = _worker(wiring, name, members, active, stages)
    add_agent(app, [*worker.sources, topology.redrive], worker.handle)
    return WorkerApp(app, worker)


def _worker(
    wiring: Wiring, name: str, members: tuple[str, ...], active: ActivePipeline,
    stages: Mapping[str, StageMetrics],
) -> Worker[Any]:  # fmt: skip
    if name == WEIGH:
        if active.decision_rule is None:
            raise ValueError("the weighting agent needs weights")
        rule = active.decision_rule.rule
        wiring.metrics.observe_rule(rule.weights.values, *rule.versions)
        return Weigher(wiring, active.decision_rule)
    components = {member: active.components[member] for member in members}
    if name in wiring.topology.repartitioned:
        return KeyedStage(wiring, name, components[name])
    group = ComponentGroup(wiring, components, stages)
    kind = SourceStage if EVENTS in inputs_of(wiring.pipeline, group.names) else JoinStage
    return kind(wiring, group)


def _explainer_app(
    active: ActivePipeline, settings: BrokerSettings, metrics: StageMetrics
) -> WorkerApp:
    """What explains decisions: it reads no redrive topic, and no stage waits for it."""
    if active.explainer is None:
        raise ValueError("there is no explainer")
    group = Topology.of(active.pipeline).group(EXPLAINER)
    app = create_app(group, settings, max_records=_DECISION_RECORDS)
    worker = ExplainerWorker(Wiring(active.pipeline, app, settings, metrics), active.explainer)
    add_agent(app, worker.sources, worker.handle)
    return WorkerApp(app, worker)


def _repartition_app(
    active: ActivePipeline, name: str, settings: BrokerSettings, metrics: StageMetrics,
    spans: SpanRecorder,
) -> WorkerApp:  # fmt: skip
    """What deals events and outcomes out to component *name*."""
    topology = Topology.of(active.pipeline)
    app = create_app(topology.group(f"{name}{KEYED}"), settings, max_records=_EVENT_RECORDS)
    wiring = Wiring(active.pipeline, app, settings, metrics, spans=spans)
    worker = Repartition(wiring, name)
    add_agent(app, topology.sources_of(name), worker.handle)
    return WorkerApp(app, worker)
