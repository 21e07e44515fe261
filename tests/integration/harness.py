"""Publishing to a pipeline and following every event to its end, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml
from aiokafka.structs import ConsumerRecord

from agents.audit.topic_audit import Audit, audit_topics
from agents.broker.log_follower import follower, read_until
from agents.broker.pipeline_topics import ensure_topics
from agents.broker.reach import wait_for_broker
from agents.commands import labelled_events
from agents.components.catalogue import open_component
from agents.control.control_topic import ControlTopic
from agents.process.runner import PipelineRun, run_workers
from agents.publish import publisher as publishing
from agents.publish.in_flight import InFlight
from agents.publish.schedule import ConstantRate
from agents.service.hot_swap import HotSwap
from agents.service.open_pipeline import open_pipeline
from agents.workers.metrics import Metrics
from models.registry.registry import Registry
from models.simulators import SIMULATORS
from models.training.train import train
from topics.kafka.batches import Record, write_batches
from topics.pipeline.file import PipelineFile, find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.records.heartbeat import HEARTBEAT_HEADER as HEARTBEAT
from topics.records.wire import decode
from topics.settings import BrokerSettings

PATIENCE_S = 300.0
"""For what has to come sooner or later; a busy machine takes its time."""

CONTINUOUS = ("when", "share_of_others")
"""What of `explain:` asks for an explainer, which most tests do without."""

EVERYTHING = ["features", "terminals", "risk-linear", "risk-forest", "decision", "weigh"]
"""What the card-fraud pipeline runs, by component."""

RESTART_EVENTS = 8000

_TRICKLE, _AHEAD = 100.0, 50


@dataclass(frozen=True)
class Trained:
    """A pipeline file in a home directory with its registry."""

    home: Path
    file: PipelineFile
    registry: Registry

    @property
    def pipeline(self) -> Pipeline:
        return self.file.pipeline


def trained_small(
    name: str, home: Path, *, rows: int, trees: int, edit: Callable[[Any], None] = lambda _: None
) -> Trained:
    """Pipeline *name* with forests of *trees* at most, trained on simulated events in *home*.

    `edit` may change the content of its file. No explainer is asked for: see `explaining`.
    """
    content = yaml.safe_load(find_pipeline(name).read_text())
    for component in content["components"]:
        parameters = component.get("model", {}).get("parameters", {})
        if "n_estimators" in parameters:
            parameters["n_estimators"] = min(trees, parameters["n_estimators"])
    content["explain"] = {
        name: value for name, value in content.get("explain", {}).items() if name not in CONTINUOUS
    }
    edit(content)
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    file, registry = load_pipeline(path), Registry(home / "registry")
    data = labelled_events.simulated(file.pipeline, rows=rows, seed=0)
    train(file.pipeline, home, data, registry, open_component=open_component)
    return Trained(home, file, registry)


def explaining(trained: Trained, **explain: object) -> Trained:
    """The same pipeline and file, with these fields of `explain:` in it."""
    content = yaml.safe_load(trained.file.path.read_text())
    content["explain"] = {**content.get("explain", {}), **explain}
    trained.file.path.write_text(yaml.safe_dump(content, sort_keys=False))
    return replace(trained, file=load_pipeline(trained.file.path))


def exploring(trained: Trained, **explore: object) -> Trained:
    """The same pipeline and file, with these fields of `policy: explore:` in it."""
    content = yaml.safe_load(trained.file.path.read_text())
    content["policy"]["explore"] = explore
    trained.file.path.write_text(yaml.safe_dump(content, sort_keys=False))
    return replace(trained, file=load_pipeline(trained.file.path))


def with_section(trained: Trained, name: str, content: object) -> Trained:
    """The same pipeline and file, with a section of that name in it."""
    whole = yaml.safe_load(trained.file.path.read_text())
    whole[name] = content
    trained.file.path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return replace(trained, file=load_pipeline(trained.file.path))


_numbers = count(1)


def renamed(trained: Trained, home: Path, partitions: int = 4) -> Trained:
    """The pipeline with its models by a name that no other test has, in *home*."""
    content = yaml.safe_load(trained.file.path.read_text())
    name = f"{trained.pipeline.name}-{next(_numbers)}"
    path = home / "pipeline.yaml"
    content |= {"pipeline": name, "partitions": partitions}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    root = home / "registry"
    shutil.copytree(trained.home / "registry" / trained.pipeline.name, root / name)
    return Trained(home, load_pipeline(path), Registry(root))


@asynccontextmanager
async def pipeline_running(
    trained: Trained, broker: BrokerSettings, metrics: Metrics | None = None
) -> AsyncIterator[PipelineRun]:
    """All components of the pipeline, in this process; they follow the control topic."""
    topology = Topology.of(trained.pipeline)
    await ensure_topics(broker, topology)
    async with ControlTopic(broker, topology) as control:
        active = open_pipeline(trained.file, trained.registry, state=await control.state_at_start())
        async with run_workers(active, broker, metrics or Metrics(), control) as workers:
            swapper = HotSwap(control, trained.file, trained.registry, workers)
            following = asyncio.create_task(swapper.follow())
            yield workers
            following.cancel()
            assert workers.failure() is None


@contextmanager
def worker_process(
    trained: Trained, broker: BrokerSettings, *components: str, words: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """`anabranch run` as a process of its own; killed in the end if it still runs.

    Fails when it has ended by itself. What it said is shown with any failure of the test.
    """
    named = [word for name in components for word in ("--component", name)]
    with TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", "run", str(trained.file.path), *named, *words],
            env={
                **os.environ,
                "ANABRANCH_HOME": str(trained.home),
                "ANABRANCH_BROKER": broker.broker,
                "ANABRANCH_EMBEDDED": str(broker.embedded).lower(),
                "ANABRANCH_CREATE_TOPICS": "true",
                "ANABRANCH_SESSION_TIMEOUT_S": "6",
                "ANABRANCH_COMMIT_INTERVAL_S": "0.2",
            },
            stderr=said,
        )
        try:
            yield process
            if process.returncode is None:  # nobody has waited for its end
                assert process.poll() in (None, 0, -signal.SIGKILL), "a worker has ended by itself"
        finally:
            process.kill()
            process.wait()
            said.seek(0)
            print(f"worker {process.pid} ended with {process.returncode}:", said.read().decode())


def stopped(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Send *number* and wait; the exit code."""
    process.send_signal(number)
    return process.wait(timeout=PATIENCE_S)


def simulated(pipeline: Pipeline, count: int, seed: int = 7) -> list[tuple[bytes, bytes]]:
    """Simulated events as (key, value)."""
    events = (labelled.event for labelled in islice(SIMULATORS["card-fraud"](seed), count))
    return [publishing.encoded(event, pipeline.event.key) for event in events]


async def publish(
    broker: BrokerSettings, pipeline: Pipeline, events: Sequence[tuple[bytes, bytes]], rate: float
) -> None:
    """Publish *events* in chunks, at about *rate* a second."""
    topology = Topology.of(pipeline)
    await wait_for_broker(broker)
    await ensure_topics(broker, topology)
    async with publishing.producer(broker) as kafka:
        async for chunk in publishing.due_chunks(events, schedule=ConstantRate(rate), room=None):
            await publishing.publish_chunk(kafka, topology.events, topology.partitions, chunk)


class Flow:
    """Events that go on and on, and how many there were."""

    def __init__(self) -> None:
        self.published = 0
        self.ending = asyncio.Event()

    async def goes_on(self, events: int = 20) -> None:
        """Wait until so many more are published: some flow before, and some after."""
        wanted = self.published + events
        async with asyncio.timeout(PATIENCE_S):
            while self.published < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@asynccontextmanager
async def flowing(broker: BrokerSettings, pipeline: Pipeline, seed: int) -> AsyncIterator[Flow]:
    """A trickle of events until the body ends, few ahead of their decisions, however slow it is."""
    topology, flow = Topology.of(pipeline), Flow()
    endless = (labelled.event for labelled in SIMULATORS["card-fraud"](seed))
    events = (publishing.encoded(event, pipeline.event.key) for event in endless)

    async def flows() -> None:
        async with publishing.producer(broker) as kafka, InFlight.of(broker, topology) as ahead:
            async for chunk in publishing.due_chunks(
                events, schedule=ConstantRate(_TRICKLE), room=ahead.room(_AHEAD), most=_AHEAD,
                stopping=flow.ending,
            ):  # fmt: skip
                await publishing.publish_chunk(kafka, topology.events, topology.partitions, chunk)
                flow.published += len(chunk)

    task = asyncio.create_task(flows())
    try:
        yield flow
    finally:
        flow.ending.set()
        await task


async def publish_raw(
    broker: BrokerSettings, topic: str, partition: int, records: Sequence[Record]
) -> None:
    """Write records as they are."""
    async with publishing.producer(broker) as kafka:
        await write_batches(kafka, topic, partition, records)


async def settled(broker: BrokerSettings, pipeline: Pipeline, events: int) -> Audit:
    """The audit once *events* events have ended; fails when that takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        audit = await audit_topics(broker, Topology.of(pipeline), None)
        done = audit.total.decided + audit.total.dead
        if audit.total.inputs == events and done >= events and not audit.total.in_flight:
            return audit
        assert time.monotonic() < deadline, f"not settled: {audit.total}"
        await asyncio.sleep(0.3)


async def records_of(
    broker: BrokerSettings, topic: str, partitions: int = 4
) -> list[ConsumerRecord]:
    """All records of a topic but heartbeats, read by an ordinary consumer."""
    found: list[ConsumerRecord] = []
    async with follower(broker, (topic,), partitions, from_start=True) as consumer:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
        async for _, records in read_until(consumer, ends):
            found += [record for record in records if HEARTBEAT not in dict(record.headers)]
    return found


async def decisions_of(broker: BrokerSettings, pipeline: Pipeline) -> list[dict[str, object]]:
    """All decision records, parsed."""
    topic = Topology.of(pipeline).decisions
    return [json.loads(record.value) for record in await records_of(broker, topic)]


async def outputs_of(
    broker: BrokerSettings, own: Trained, names: Sequence[str]
) -> dict[tuple[int, int], list[float]]:
    """The outputs of some components side by side, by source coordinates.

    A repartitioned one may write a row again after a crash: joins take the first, and so does this.
    """
    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    for name in names:
        seen = set[tuple[int, int]]()
        for record in await records_of(broker, Topology.of(own.pipeline).stage(name)):
            batch = decode(record.value, dict(record.headers))
            for offset, row in zip(batch.rows.offsets.tolist(), batch.output, strict=True):
                if (batch.partition, offset) not in seen:
                    seen.add((batch.partition, offset))
                    found[batch.partition, offset] += row.tolist()
    return found


async def decided(broker: BrokerSettings, pipeline: Pipeline, count: int) -> None:
    """Wait until *count* decisions are written."""
    await written(broker, Topology.of(pipeline).decisions, count)


async def written(broker: BrokerSettings, topic: str, count: int) -> None:
    """Wait until *count* records have been written on *topic*."""
    deadline = time.monotonic() + PATIENCE_S
    async with follower(broker, (topic,), 4, from_start=False) as consumer:
        while True:
            ends = await consumer.end_offsets(sorted(consumer.assignment()))
            if sum(ends.values()) >= count:
                return
            assert time.monotonic() < deadline, f"{sum(ends.values())} of {count} on {topic}"
            await asyncio.sleep(0.02)


async def restarted_in_mid_stream(
    trained: Trained, broker: BrokerSettings, components: Sequence[str], number: signal.Signals
) -> int:
    """End the workers of *components* with *number* while events flow, and start them again.

    Checks that every event ends once and in order; the result is the ended worker's exit code.
    """
    events = simulated(trained.pipeline, RESTART_EVENTS)
    others = [name for name in EVERYTHING if name not in components]
    await ensure_topics(broker, Topology.of(trained.pipeline))
    published = asyncio.create_task(publish(broker, trained.pipeline, events, 2500))
    with worker_process(trained, broker, *others) if others else nullcontext():
        with worker_process(trained, broker, *components) as first:
            await decided(broker, trained.pipeline, len(events) // 3)
            code = await asyncio.to_thread(stopped, first, number)
        with worker_process(trained, broker, *components):
            await published
            audit = await settled(broker, trained.pipeline, len(events))
    assert (audit.total.lost, audit.total.duplicated) == (0, 0)
    assert audit.total.decided == len(events)
    decisions = await decisions_of(broker, trained.pipeline)
    sources = [(d["source"]["partition"], d["source"]["offset"]) for d in decisions]  # type: ignore[index]
    assert len(set(sources)) == len(sources) == len(events)
    by_partition = [[o for p, o in sources if p == partition] for partition in range(4)]
    assert by_partition == [sorted(offsets) for offsets in by_partition], "order per partition"
    return code
