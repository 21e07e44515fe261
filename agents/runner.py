"""Running components: their Faust apps in one event loop, started and stopped as one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from agents.app import StageApp, add_agent, create_app
from agents.chain import Chain
from agents.components import OpenComponent
from agents.in_step import InStep
from agents.joined_stage import JoinedStage
from agents.keyed_stage import KeyedStage
from agents.liveness import Standing
from agents.metrics import Metrics
from agents.repartition import Repartition
from agents.slot import Challenge, Slot
from agents.source_stage import SourceStage
from agents.stage_metrics import StageMetrics
from agents.terms import Terms, TermsSlot
from agents.weigh import Weigher
from agents.worker import Wiring, Worker
from topics.errors import AnabranchError, BrokerUnreachable
from topics.feature import EVENTS
from topics.pipeline import Pipeline
from topics.settings import BrokerSettings
from topics.topology import WEIGH, Topology
from topics.workers import inputs_of, workers

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 4.0
_LAG_EVERY_S = 0.5
_EVENT_RECORDS = 4096
_BATCH_RECORDS = 16


class StopTimeout(AnabranchError):
    """Components did not stop in time; their process ends without them."""

    def __init__(self, groups: Sequence[str], waited_s: float) -> None:
        super().__init__(
            f"{', '.join(sorted(groups))} did not stop within {waited_s:.0f} s and were left; "
            "rows that they had not committed are read again after a restart"
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pipeline is run with."""

    pipeline: Pipeline
    components: Mapping[str, OpenComponent]
    """Loaded components by name; those that run here."""
    terms: Terms | None
    """For the weighting agent; None when it does not run here."""
    challenges: Mapping[str, Challenge] = field(default_factory=dict)
    """By component, where one is under way: its share of keys is the same after a restart."""

    def workers(self) -> dict[str, tuple[str, ...]]:
        """Name → components of each worker that runs here; the weighting agent's has none."""
        found = {
            name: members
            for name, members in workers(self.pipeline).items()
            if self.components.keys() >= {*members}
        }
        return found if self.terms is None else {**found, WEIGH: ()}


@dataclass(frozen=True, slots=True)
class Slots:
    """What the components of this process run now."""

    components: Mapping[str, Slot]
    terms: TermsSlot | None
    """The weighting agent's; None when it does not run here."""

    @classmethod
    def of(cls, parts: Parts) -> Slots:
        """Slots that hold *parts*."""
        components = {
            name: Slot(opened, parts.challenges.get(name))
            for name, opened in parts.components.items()
        }
        return cls(components, None if parts.terms is None else TermsSlot(parts.terms))


@dataclass(slots=True)
class Running:
    """Components that run in this process."""

    apps: dict[str, StageApp]
    metrics: Metrics
    stages: dict[str, StageMetrics]
    slots: Slots

    def failure(self) -> tuple[str, BaseException] | None:
        """The component that failed, and why; None while all are well."""
        for name, app in self.apps.items():
            if app.failure is not None:
                return name, app.failure
        return None

    def silent_s(self) -> float:
        """For how long the broker has not answered the heartbeats of some component."""
        return max((app.batches.silent_s for app in self.apps.values()), default=0.0)

    def standing(self) -> dict[str, Standing]:
        """Where each component is, partition by partition, see `agents.liveness`."""
        return {name: app.batches.standing() for name, app in self.apps.items()}

    def lag(self) -> int:
        """Records that wait on topics that these components read."""
        return sum(app.batches.lag() for app in self.apps.values())

    async def observe_lag(self) -> None:
        """Note each component's lag again and again, for ever."""
        while True:
            for name, app in self.apps.items():
                self.stages[name].observe_lag(app.batches.lag())
            await asyncio.sleep(_LAG_EVERY_S)

    async def failed(self) -> tuple[str, BaseException]:
        """Wait until a component fails."""
        await asyncio.wait(
            [asyncio.ensure_future(app.failed.wait()) for app in self.apps.values()],
            return_when=asyncio.FIRST_COMPLETED,
        )
        found = self.failure()
        if found is None:
            raise RuntimeError("an app says that it failed, but not why")
        return found


@asynccontextmanager
async def running(
    parts: Parts, settings: BrokerSettings, metrics: Metrics
) -> AsyncIterator[Running]:
    """Start the components, yield when each owns its partitions, stop them in the end."""
    started: dict[str, tuple[StageApp, Worker[object]]] = {}
    stages: dict[str, StageMetrics] = {}
    slots = Slots.of(parts)
    in_step = InStep()
    for name, members in parts.workers().items():
        for it in dict.fromkeys((name, *members)):
            stages[it] = StageMetrics(metrics, parts.pipeline.name, it)
        started[name] = _wired(parts, name, settings, stages, in_step, slots)
        if name in Topology.of(parts.pipeline).repartitioned:
            before = f"{name}.keyed"
            stages[before] = StageMetrics(metrics, parts.pipeline.name, before)
            started[before] = _repartition(parts, name, settings, stages[before])
    apps = {name: app for name, (app, _) in started.items()}
    tails = [worker.tail for _, worker in started.values()]
    try:
        await asyncio.gather(*(tail.start() for tail in tails))
        await _start(apps, settings)
        workers = Running(apps, metrics, stages, slots)
        observing = asyncio.create_task(workers.observe_lag())
        try:
            yield workers
        finally:
            observing.cancel()
    except BaseException:
        with suppress(StopTimeout):  # what went wrong before is what matters
            await _stop(list(apps.values()))
        raise
    else:
        await _stop(list(apps.values()))
    finally:
        await asyncio.gather(*(tail.stop() for tail in tails))


def _wired(
    parts: Parts, name: str, settings: BrokerSettings, stages: Mapping[str, StageMetrics],
    in_step: InStep, slots: Slots,
) -> tuple[StageApp, Worker[object]]:  # fmt: skip
    topology = Topology.of(parts.pipeline)
    keyed = name in topology.repartitioned
    members = parts.workers()[name]
    inputs = inputs_of(parts.pipeline, members) if members else parts.pipeline.weighting.inputs
    reads_events = list(inputs) == [EVENTS] and not keyed
    app = create_app(
        topology.group(name), settings,
        max_records=_EVENT_RECORDS if reads_events else _BATCH_RECORDS,
    )  # fmt: skip
    wiring = Wiring(parts.pipeline, app, settings, stages[name], in_step)
    if reads_events and parts.terms is not None:
        app.batches.turn = in_step.turn
    for member in members:
        stages[member].observe_model(slots.components[member].champion.model)
    worker = _worker(wiring, name, stages, slots, {it: slots.components[it] for it in members})
    topics = [topology.keyed(name)] if keyed else [topology.stage(stage) for stage in inputs]
    add_agent(app, [*topics, topology.redrive], worker.handle)
    return app, worker


def _worker(
    wiring: Wiring, name: str, stages: Mapping[str, StageMetrics], slots: Slots,
    members: Mapping[str, Slot],
) -> Worker[Any]:  # fmt: skip
    if name == WEIGH:
        if slots.terms is None:
            raise ValueError("the weighting agent needs weights")
        terms = slots.terms.terms.weights
        wiring.metrics.observe_terms(terms.values, terms.version)
        return Weigher(wiring, slots.terms)
    if name in wiring.topology.repartitioned:
        return KeyedStage(wiring, name, members[name])
    chain = Chain(wiring, members, stages)
    kind = SourceStage if EVENTS in inputs_of(wiring.pipeline, chain.names) else JoinedStage
    return kind(wiring, chain)


def _repartition(
    parts: Parts, name: str, settings: BrokerSettings, metrics: StageMetrics
) -> tuple[StageApp, Worker[object]]:
    """What deals events and outcomes out to component *name*."""
    topology = Topology.of(parts.pipeline)
    group = topology.group(f"{name}.keyed")
    app = create_app(group, settings, max_records=_EVENT_RECORDS)
    worker = Repartition(Wiring(parts.pipeline, app, settings, metrics), name)
    add_agent(app, topology.sources_of(name), worker.handle)
    return app, worker  # type: ignore[return-value]  # any state


async def _start(apps: Mapping[str, StageApp], settings: BrokerSettings) -> None:
    """Start all apps; BrokerUnreachable when they do not get their partitions."""
    try:
        async with asyncio.timeout(settings.give_up_s):
            await asyncio.gather(*(app.start() for app in apps.values()))
    except TimeoutError as exc:
        cause = "the components did not join their consumer groups"
        raise BrokerUnreachable(settings.broker, settings.give_up_s, cause) from exc


async def _stop(apps: Sequence[StageApp]) -> None:
    """Stop all apps at once; StopTimeout when one hangs, which is left behind then."""
    tasks = {asyncio.create_task(app.stop()): app for app in apps if app.started}
    if not tasks:
        return
    done, hanging = await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S)
    for task in done:
        if task.exception() is not None:
            log.warning("%s did not stop cleanly: %s", tasks[task].conf.id, task.exception())
    for task in hanging:
        task.cancel()
    if hanging:
        raise StopTimeout([str(tasks[task].conf.id) for task in hanging], STOP_TIMEOUT_S)
