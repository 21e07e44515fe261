"""Running workers: their Faust apps in one event loop, started and stopped as one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from agents.control import ControlTopic
from agents.identity import TopicWatch, headers_by_topic
from agents.process.active_pipeline import ActivePipeline
from agents.process.liveness import Positions
from agents.process.status_writer import StatusWriter
from agents.process.worker_apps import worker_apps
from agents.spans import opened_recorder
from agents.workers import Metrics, StageApp, StageMetrics, TailReader, Worker
from topics.errors import AnabranchError, BrokerUnreachable, TopicMissing
from topics.pipeline import Topology
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 4.0
_LAG_EVERY_S = 0.5


class StopTimeout(AnabranchError):
    """Components did not stop in time; their process ends without them."""

    def __init__(self, groups: Sequence[str], waited_s: float) -> None:
        super().__init__(
            f"{', '.join(sorted(groups))} did not stop within {waited_s:.0f} s and were left; "
            "rows that they had not committed are read again after a restart"
        )


@dataclass(slots=True)
class PipelineRun:
    """The workers that run in this process."""

    active: ActivePipeline
    apps: Mapping[str, StageApp]
    workers: Mapping[str, Worker[Any]]
    metrics: Metrics
    stages: Mapping[str, StageMetrics]
    topics: TopicWatch
    """What its topics were before the first record was read."""
    ready: bool = False
    """Every component has joined its consumer group."""

    def failure(self) -> tuple[str, BaseException] | None:
        """The component that failed, and why; None while all are well."""
        for name, app in self.apps.items():
            if app.failure is not None:
                return name, app.failure
        return None

    def silent_s(self) -> float:
        """For how long the broker has not answered the heartbeats of some component."""
        return max((app.batches.silent_s for app in self.apps.values()), default=0.0)

    def positions(self) -> dict[str, Positions]:
        """Where each component is, partition by partition, see `agents.process.liveness`."""
        return {name: app.batches.standing() for name, app in self.apps.items()}

    def lag(self) -> int:
        """Records that wait on topics that these components read."""
        return sum(app.batches.lag() for app in self.apps.values())

    async def observe_lag(self) -> None:
        """Note what is left for each component, and its rebalances, again and again, for ever."""
        while True:
            for name, app in self.apps.items() if self.ready else ():
                self.stages[name].observe_lag(app.batches.backlog())
                self.stages[name].observe_assignments(app.batches.assignments)
            await asyncio.sleep(_LAG_EVERY_S)

    async def failed(self) -> tuple[str, BaseException]:
        """Wait until a component fails."""
        waits = [asyncio.ensure_future(app.failed.wait()) for app in self.apps.values()]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        failure = self.failure()
        if failure is None:
            raise RuntimeError("an app says that it failed, but not why")
        return failure


@asynccontextmanager
async def run_workers(
    active: ActivePipeline, settings: BrokerSettings, metrics: Metrics,
    control: ControlTopic | None = None,
) -> AsyncIterator[PipelineRun]:  # fmt: skip
    """Start the workers, yield when each owns its partitions, stop them in the end.

    With *control* they say on the reports topic how they fare, from the start on. Raises
    InvalidSettings for an environment that asks for spans in a way that there is not.
    """
    topology = Topology.of(active.pipeline)
    spans = opened_recorder(
        active.pipeline,
        lambda reason, count: metrics.spans_dropped.labels(topology.pipeline, reason).inc(count),
    )
    pairs, stages = worker_apps(active, settings, metrics, spans)
    apps = {name: app for name, (app, _) in pairs.items()}
    workers = {name: worker for name, (_, worker) in pairs.items()}
    own_tail = TailReader(settings)
    tails = [own_tail, *(worker.tail for worker in workers.values())]
    try:
        await asyncio.gather(*(tail.start() for tail in tails))
        reported = control.reports.topics if control is not None else None
        ids = None if reported is None else reported.ids
        if active.explainer is not None:
            await _check_explanations(own_tail, topology)
        watch = await TopicWatch.begin(own_tail, topology, ids)
        if not settings.embedded:  # its topics cannot be made anew, and it keeps few bytes
            headers = headers_by_topic(topology, watch.known)
            for app in apps.values():
                app.writer.common_headers = headers
        run = PipelineRun(active, apps, workers, metrics, stages, watch)
        status = StatusWriter(run, control)
        tasks = [asyncio.create_task(task()) for task in (run.observe_lag, status.follow)]
        tasks += [asyncio.create_task(_beat(apps[name], workers[name])) for name in apps]
        try:
            await _start(apps, settings)
            run.ready = True
            yield run
        finally:
            for task in tasks:
                task.cancel()
    except BaseException:
        with suppress(StopTimeout):  # what went wrong before is what matters
            await _stop(list(apps.values()))
        raise
    else:
        await _stop(list(apps.values()))
        await status.end()
    finally:
        await asyncio.gather(*(tail.stop() for tail in tails))
        await asyncio.to_thread(spans.close)


async def _check_explanations(tail: TailReader, topology: Topology) -> None:
    """Raise TopicMissing where what explains has no topic to write: others do without it."""
    if (await tail.identities([topology.explanations]))[topology.explanations] is None:
        raise TopicMissing(topology.explanations)


async def _beat(app: StageApp, worker: Worker[Any]) -> None:
    """Give the worker's signs of life; an error in that ends it, or it would be taken for dead."""
    try:
        await worker.beat()
    except Exception as exc:  # the boundary of a task: nobody else would hear of it
        app.fail(exc)


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
