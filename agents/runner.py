"""Running components: their Faust apps in one event loop, started and stopped as one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agents.app import StageApp, add_agent, create_app
from agents.components import OpenComponent
from agents.decisions import Weights
from agents.joined_stage import JoinedStage
from agents.metrics import Metrics, StageMetrics
from agents.source_stage import SourceStage
from agents.weigh import Weigher
from agents.worker import Wiring, Worker
from topics.pipeline import EVENTS, Pipeline
from topics.settings import BrokerSettings
from topics.topology import Topology

log = logging.getLogger(__name__)

WEIGH = "weigh"
"""The weighting agent's name as a component: its consumer group, its metrics."""

STOP_TIMEOUT_S = 4.0
_EVENT_RECORDS = 4096
_BATCH_RECORDS = 16


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pipeline is run with."""

    pipeline: Pipeline
    components: Mapping[str, OpenComponent]
    """Loaded components by name; those that run here."""
    weights: Weights | None
    """For the weighting agent; None when it does not run here."""


@dataclass(slots=True)
class Running:
    """Components that run in this process."""

    apps: dict[str, StageApp]
    metrics: Metrics
    stages: dict[str, StageMetrics]

    def failure(self) -> tuple[str, BaseException] | None:
        """The component that failed, and why; None while all are well."""
        for name, app in self.apps.items():
            if app.failure is not None:
                return name, app.failure
        return None

    def lag(self) -> int:
        """Records that wait on topics that these components read."""
        return sum(app.batches.lag() for app in self.apps.values())

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
    names = [*parts.components, *([WEIGH] if parts.weights is not None else [])]
    for name in names:
        stages[name] = StageMetrics(metrics, parts.pipeline.name, name)
        started[name] = _wired(parts, name, settings, stages[name])
    apps = {name: app for name, (app, _) in started.items()}
    try:
        for _, worker in started.values():
            await worker.tail.__aenter__()
        await asyncio.gather(*(app.start() for app in apps.values()))
        yield Running(apps, metrics, stages)
    finally:
        await _stop(list(apps.values()))
        for _, worker in started.values():
            await worker.tail.__aexit__(None, None, None)


def _wired(
    parts: Parts, name: str, settings: BrokerSettings, metrics: StageMetrics
) -> tuple[StageApp, Worker[object]]:
    topology = Topology.of(parts.pipeline)
    inputs = _inputs(parts.pipeline, name)
    reads_events = list(inputs) == [EVENTS]
    app = create_app(
        topology.group(name), settings,
        max_records=_EVENT_RECORDS if reads_events else _BATCH_RECORDS,
        ticks=not reads_events,
    )  # fmt: skip
    wiring = Wiring(parts.pipeline, app, settings, metrics)
    worker: Worker[object]
    if name == WEIGH:
        if parts.weights is None:
            raise ValueError("the weighting agent needs weights")
        worker = Weigher(wiring, parts.weights)  # type: ignore[assignment]  # any state
    else:
        component, model = parts.components[name]
        metrics.observe_model(model)
        kind = SourceStage if reads_events else JoinedStage
        worker = kind(wiring, name, component, model)  # type: ignore[assignment]  # any state
    add_agent(app, [topology.stage(stage) for stage in inputs], worker.handle)
    return app, worker


def _inputs(pipeline: Pipeline, name: str) -> Sequence[str]:
    return pipeline.weighting.inputs if name == WEIGH else pipeline.component(name).inputs


async def _stop(apps: Sequence[StageApp]) -> None:
    """Stop all apps at once; one that hangs is left behind with a word about it."""
    began = time.monotonic()
    tasks = {asyncio.create_task(app.stop()): app for app in apps if app.started}
    if not tasks:
        return
    done, hanging = await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S)
    for task in done:
        if task.exception() is not None:
            log.warning("%s did not stop cleanly: %s", tasks[task].conf.id, task.exception())
    for task in hanging:
        task.cancel()
        log.warning(
            "%s did not stop within %.0f s and is left; what it had not committed is read again",
            tasks[task].conf.id, time.monotonic() - began,
        )  # fmt: skip
