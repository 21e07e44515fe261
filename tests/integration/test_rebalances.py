"""Workers that come and go while events flow, and services that die below an app."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from agents.broker.pipeline_topics import ensure_topics
from agents.workers.app import add_agent, create_app
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    pipeline_running,
    publish,
    settled,
    simulated,
    stopped,
    worker_process,
)
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings
from topics.transport.fetch import Fetch

EVENTS = 6000


async def test_workers_that_join_and_leave_lose_and_repeat_nothing(
    trained: Trained, broker: BrokerSettings
) -> None:
    publishing = asyncio.create_task(
        publish(broker, trained.pipeline, simulated(trained.pipeline, EVENTS), 300)
    )
    with worker_process(trained, broker):
        while not publishing.done():
            with worker_process(trained, broker) as second:
                await asyncio.sleep(6)
                await asyncio.to_thread(stopped, second, signal.SIGTERM)
        await publishing
        audit = await settled(broker, trained.pipeline, EVENTS)
    assert (audit.total.lost, audit.total.duplicated) == (0, 0)
    assert audit.total.decided == EVENTS


async def test_a_service_that_dies_below_an_app_is_the_apps_failure(
    trained: Trained, broker: BrokerSettings
) -> None:
    async def broken(*_: object) -> object:
        raise RuntimeError("the fetch broke")

    try:
        async with pipeline_running(trained, broker) as workers:
            workers.apps["features"].batches.reader._getmany = broken  # type: ignore[method-assign, assignment]
            async with asyncio.timeout(PATIENCE_S):
                name, cause = await workers.failed()
            assert name == "features"
            assert "the fetch broke" in str(cause)
            workers.apps["features"].failure = None  # said and expected
    except RuntimeError as exc:
        assert "the fetch broke" in str(exc)


async def test_workers_that_join_together_need_to_do_so_once(
    trained: Trained, broker: BrokerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async def nothing(_: Fetch) -> None:
        pass

    topology = Topology.of(trained.pipeline)
    await ensure_topics(broker, topology)
    apps = [create_app("together", broker, max_records=1) for _ in range(3)]
    for app in apps:
        add_agent(app, [topology.events], nothing)
    await asyncio.gather(*(app.start() for app in apps))
    deadline = time.monotonic() + PATIENCE_S
    while (owned := sorted(len(app.batches.assignment()) for app in apps)) != [1, 1, 2]:
        assert time.monotonic() < deadline, f"partitions by worker: {owned}"
        await asyncio.sleep(0.1)
    await asyncio.gather(*(app.stop() for app in apps))
    assert "joining the group again" not in caplog.text
