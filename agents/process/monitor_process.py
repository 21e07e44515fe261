"""A monitor from start to stop: stands by, is elected, goes on where the one before has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path

from prometheus_client import CollectorRegistry

from agents.broker import (
    LogReader,
    ensure_monitor_topics,
    ensure_outcomes_topic,
    follower,
    read_to_end,
    topic_ids,
    topic_names,
    wait_for_broker,
)
from agents.control import ControlTopic
from agents.learning import weights_watcher
from agents.monitor import (
    FINDINGS_PARTITION,
    DecisionStore,
    Finding,
    MonitorContext,
    MonitorMetrics,
    MonitorReplaced,
    MonitorWorker,
    MonitorWriter,
    Watcher,
    election,
)
from agents.process.liveness import Liveness
from agents.process.tasks import first_of
from agents.quality import QualityWatcher
from models.registry import Registry
from topics.errors import TopicMissing
from topics.pipeline import MONITOR, Pipeline, PipelineFile, Topology
from topics.records import ControlState
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)


def drift_watcher(context: MonitorContext) -> Watcher | None:
    """The watcher of drift; None, and a word, where its extra is not installed."""
    if find_spec("river") is None or find_spec("scipy") is None:
        log.warning('drift is not watched: pip install "anabranch[drift]"')
        return None
    from agents.drift import DriftWatcher

    return DriftWatcher.of(context)


WATCHERS: tuple[Callable[[MonitorContext], Watcher | None], ...] = (
    QualityWatcher,
    drift_watcher,
    weights_watcher,
)
"""What makes each watcher; None where the pipeline file does not ask for it."""

_LOOK_S = 1.0

Served = Callable[[CollectorRegistry, Liveness], AbstractContextManager[None]]
"""Serves metrics and health meanwhile."""


async def run_monitor(
    file: PipelineFile, registry: Registry, settings: BrokerSettings, folder: Path,
    stopping: asyncio.Event, *, up: Callable[[bool], None], served: Served | None = None,
) -> None:  # fmt: skip
    """Watch *file*'s pipeline until *stopping*; what waits for outcomes is kept in *folder*.

    *up* is told whenever this process begins to stand by (False), or to be the active one (True).
    Raises BrokerError, MonitorStopped, RegistryError, KafkaError.
    """
    topology = Topology.of(file.pipeline)
    metrics, liveness = MonitorMetrics(file.pipeline.name), Liveness(settings.stuck_after_s)
    working: list[MonitorWorker] = []

    async def watch() -> None:
        await _ensure_topics(settings, topology)
        async with election(settings, topology) as taking_part:
            liveness.ready = True
            while True:
                metrics.observe_active(is_active=False)
                up(False)
                await taking_part.won()
                turn = taking_part.turn
                metrics.observe_active(is_active=True)
                up(True)
                try:
                    await first_of(
                        taking_part.lost,
                        lambda: _count(file, registry, settings, folder, metrics, working),
                    )
                except MonitorReplaced as exc:
                    log.warning("%s", exc)
                    # Another one has taken over, and may have given way to us again before we
                    # knew of either; or the broker has ended a transaction that took too long, and
                    # it is still our turn. In a session time-out the group says which it is.
                    with suppress(TimeoutError):
                        async with asyncio.timeout(settings.session_timeout_s):
                            await taking_part.turn_after(turn)

    async def look() -> None:
        while True:
            liveness.look({MONITOR: working[0].standing()} if working else {})
            await asyncio.sleep(_LOOK_S)

    with nullcontext() if served is None else served(metrics.registry, liveness):
        await first_of(watch, look, stopping.wait)


async def look_once(
    file: PipelineFile, registry: Registry, settings: BrokerSettings, folder: Path
) -> list[Finding]:
    """What watchers have to say of all that is on the topics now; nothing is written.

    Raises BrokerError, RegistryError, KafkaError.
    """
    topology, metrics = Topology.of(file.pipeline), MonitorMetrics(file.pipeline.name)
    await wait_for_broker(settings)
    await ensure_outcomes_topic(settings, topology)
    async with ControlTopic(settings, topology) as control, LogReader.of(settings) as reader:
        with DecisionStore.in_folder(folder, file.pipeline) as store:
            watchers = _watchers(file, registry, settings, metrics, store, lambda: control.state)
            worker = MonitorWorker(file.pipeline, reader, store, watchers, metrics)
            await worker.resume()
            await worker.run(until_caught_up=True)
            return list(worker.findings.values())


async def published_findings(pipeline: Pipeline, settings: BrokerSettings) -> list[Finding]:
    """The newest finding of each key that monitors have published.

    Raises TopicMissing, BrokerError, KafkaError.
    """
    topic = Topology.of(pipeline).monitor
    await wait_for_broker(settings)
    if topic not in await topic_names(settings, [topic]):
        raise TopicMissing(topic)
    newest: dict[str, Finding] = {}
    async with follower(settings, [topic], FINDINGS_PARTITION + 1, from_start=True) as consumer:
        async for _, records in read_to_end(consumer):
            for record in records:
                key = (record.key or b"").decode(errors="replace")
                kind = key.partition("/")[0]
                newest[key] = Finding(kind, key, record.value or b"{}")
    return list(newest.values())


async def _ensure_topics(settings: BrokerSettings, topology: Topology) -> None:
    await wait_for_broker(settings)
    await ensure_outcomes_topic(settings, topology)
    await ensure_monitor_topics(settings, topology)


async def _count(
    file: PipelineFile, registry: Registry, settings: BrokerSettings, folder: Path,
    metrics: MonitorMetrics, working: list[MonitorWorker],
) -> None:  # fmt: skip
    """Be the active monitor, for ever; it is in *working* meanwhile."""
    topology = Topology.of(file.pipeline)
    async with (
        MonitorWriter.opened(settings, topology) as writer,
        ControlTopic(settings, topology) as control,
        LogReader.of(settings) as reader,
    ):
        with DecisionStore.in_folder(folder, file.pipeline) as store:
            watchers = _watchers(file, registry, settings, metrics, store, lambda: control.state)
            ids = await topic_ids(
                settings, (topology.events, topology.decisions, topology.outcomes)
            )
            worker = MonitorWorker(file.pipeline, reader, store, watchers, metrics, writer, ids)

            async def follow() -> None:
                while True:
                    await control.more()

            async def work() -> None:
                await worker.resume()
                await worker.run()

            working.append(worker)
            try:
                await first_of(work, follow)
            finally:
                working.clear()


def _watchers(
    file: PipelineFile, registry: Registry, settings: BrokerSettings, metrics: MonitorMetrics,
    store: DecisionStore, control: Callable[[], ControlState],
) -> Sequence[Watcher]:  # fmt: skip
    context = MonitorContext(file, registry, settings, metrics.registry, control, store)
    return [watcher for make in WATCHERS if (watcher := make(context)) is not None]
