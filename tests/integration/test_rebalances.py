"""Workers that come and go while events flow, and services that die below an app."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.protocol.produce import ProduceRequest

from agents.broker.pipeline_topics import ensure_topics
from agents.workers.app import StageApp, add_agent, create_app
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    pipeline_running,
    publish,
    records_of,
    settled,
    simulated,
    stopped,
    worker_process,
)
from topics.errors import LeaseLost
from topics.kafka import Record
from topics.pipeline import Pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings
from topics.transport.faust_fixes import client_of
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


@asynccontextmanager
async def worker_of_events(broker: BrokerSettings, pipeline: Pipeline) -> AsyncIterator[StageApp]:
    """A worker that has begun to read the topic of events."""
    begun = asyncio.Event()

    async def begin(_: Fetch) -> None:
        begun.set()

    await ensure_topics(broker, Topology.of(pipeline))
    app = create_app(pipeline.name, broker, max_records=1)
    add_agent(app, [Topology.of(pipeline).events], begin)
    await app.start()
    try:
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        yield app
    finally:
        await app.stop()


async def test_a_rebalance_waits_for_the_heartbeat_that_is_being_written(
    trained: Trained, broker: BrokerSettings
) -> None:
    heartbeat = Record(None, b"beside the fetch", 1_700_000_000_000)
    async with worker_of_events(broker, trained.pipeline) as first:
        network, sending = asyncio.Event(), asyncio.Event()
        client = client_of(first.writer).client
        send = client.send

        async def send_when_there_is_a_network(node: int, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest):
                sending.set()
                await network.wait()
            return await send(node, request, **options)

        client.send = send_when_there_is_a_network
        writing = asyncio.create_task(first.writer.write("heartbeats", 0, [heartbeat]))
        async with asyncio.timeout(PATIENCE_S):
            await sending.wait()
        joining = asyncio.create_task(joined(broker, trained.pipeline))
        async with asyncio.timeout(PATIENCE_S):
            while first.batches.flow_active:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(2)  # of the five that it has to finish what is in hand
        assert not joining.done(), "it gave its partitions back in the middle of a write"
        network.set()
        await writing
        await joining
        assert not first.writer.severed
        assert first.failure is None
    assert [found.value for found in await records_of(broker, "heartbeats")] == [heartbeat.value]


async def joined(broker: BrokerSettings, pipeline: Pipeline) -> None:
    """A second worker comes, has its share, and goes."""
    async with worker_of_events(broker, pipeline):
        pass


async def test_nothing_is_begun_to_be_written_during_a_rebalance(
    trained: Trained, broker: BrokerSettings
) -> None:
    heartbeat = Record(None, b"of nobody", 1_700_000_000_000)
    async with worker_of_events(broker, trained.pipeline) as worker:
        await worker.writer.write("between", 0, [heartbeat])
        await worker.batches.on_partitions_revoked(worker.batches.assignment())
        with pytest.raises(LeaseLost):
            await worker.writer.write("between", 0, [heartbeat])
        assert not worker.writer.severed  # it goes on with what it is assigned next
