"""A running audit: its metrics say what its end will say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from agents.audit.topic_audit import Audit, audit_topics
from agents.broker.pipeline_topics import ensure_topics
from agents.commands.publish import publish_events
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    pipeline_running,
    publish,
    publish_raw,
    settled,
    simulated,
)
from tests.integration.test_cli import anabranch
from topics.kafka.batches import Record
from topics.kafka.embedded import MAX_IN_FLIGHT
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.records import decision
from topics.settings import BrokerSettings


@contextmanager
def following(trained: Trained, broker: BrokerSettings) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", "audit", str(trained.file.path), "--follow", "--json",
         "--metrics-port", "0", "--broker", broker.broker],
        env={**os.environ, "ANABRANCH_EMBEDDED": "true", "COLUMNS": "200"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def served_at(process: subprocess.Popen[str]) -> str:
    """Where the process says that its metrics are."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://\S+/metrics", line):
            return found[0]
    raise AssertionError("the audit has ended")


def states(url: str) -> dict[str, float]:
    """Records of all partitions, by state."""
    found: dict[str, float] = {}
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # our own process
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                if sample.name == "anabranch_audit_records":
                    state = sample.labels["state"]
                    found[state] = found.get(state, 0) + sample.value
    return found


async def shown(url: str, **wanted: float) -> None:
    """Wait until the metrics show *wanted*."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = await asyncio.to_thread(states, url)
        if wanted.items() <= found.items():
            return
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)


def ends(topology: Topology, offsets: list[int]) -> list[Record]:
    """Decision records about source offsets of partition 0, as an audit reads them."""
    now_ms = int(time.time() * 1000)
    sources = [decision.source_id(topology.events, 0, offset) for offset in offsets]
    return [Record(b"k", b"{}", now_ms, [("ce_id", source.encode())]) for source in sources]


async def running_audits_agree(own: Trained, broker: BrokerSettings) -> None:
    """Start running audits at several moments of a stream: none may say that a record is lost."""
    topology, events = Topology.of(own.pipeline), 12_000
    stop, said = asyncio.Event(), list[Audit]()
    async with pipeline_running(own, broker):
        stream = asyncio.create_task(
            publish(broker, own.pipeline, simulated(own.pipeline, events), 2000)
        )
        running = list[asyncio.Task[Audit]]()
        while not stream.done():
            running.append(asyncio.create_task(audit_topics(broker, topology, stop, said.append)))
            plain = await audit_topics(broker, topology, None)
            assert plain.passed, plain
            await asyncio.sleep(1.1)
        await stream
        await settled(broker, own.pipeline, events)
        stop.set()
        results = await asyncio.gather(*running)
    assert len(running) > 2
    assert any(audit.total.in_flight for audit in said), "the audits were beside the stream"
    assert [audit for audit in said if not audit.passed] == []
    plain = await audit_topics(broker, topology, None)
    assert [audit for audit in results if audit != plain] == []
    assert plain.total.decided == plain.total.inputs == events


async def test_a_running_audit_shows_lost_and_duplicated_records_as_metrics(
    trained: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(trained.pipeline)
    await ensure_topics(broker, topology)
    events = [Record(b"k", b"{}", int(time.time() * 1000))] * 10
    await publish_raw(broker, topology.events, 0, events)
    with following(trained, broker) as process:
        url = served_at(process)
        await shown(url, inputs=10, decided=0, in_flight=10, lost=0, duplicated=0)
        await publish_raw(broker, topology.decisions, 0, ends(topology, [0, 1, 2]))
        await shown(url, decided=3, in_flight=7, lost=0, duplicated=0)
        await publish_raw(broker, topology.decisions, 0, ends(topology, [5, 2]))
        await shown(url, decided=4, in_flight=4, lost=2, duplicated=1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    total = json.loads(out)["total"]
    assert (total["lost"], total["duplicated"], total["in_flight"]) == (2, 1, 4)


@pytest.mark.parametrize("offset", [1, 2**61])
async def test_an_end_of_an_event_that_the_topic_does_not_have_fails_the_audit(
    trained: Trained, broker: BrokerSettings, offset: int
) -> None:
    topology = Topology.of(trained.pipeline)
    await ensure_topics(broker, topology)
    now_ms = int(time.time() * 1000)
    await publish_raw(broker, topology.events, 0, [Record(b"k", b"{}", now_ms)])
    await publish_raw(broker, topology.decisions, 0, ends(topology, [0, -1]))
    audit = await audit_topics(broker, topology, None)
    assert audit.passed, "a record that is no decision is left out"
    assert "1 records" in audit.notes[0]
    await publish_raw(broker, topology.decisions, 0, ends(topology, [offset]))
    audit = await audit_topics(broker, topology, None)
    assert not audit.passed
    assert (audit.total.inputs, audit.total.decided, audit.total.lost) == (1, 1, 0)
    (problem,) = audit.problems
    assert f"offset {offset} ended" in problem
    assert f"{topology.events}[0] ends at 1" in problem


async def test_events_that_the_embedded_broker_drops_before_they_are_read_fail_the_audit(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    """12 MB of wide rows on one partition, of which it keeps 5: then the pipeline is started."""
    topology = Topology.of(trained.pipeline)
    await ensure_topics(broker, topology)
    _, event = simulated(trained.pipeline, 1)[0]
    wide = [("note", b"x" * 3000)]
    await publish_raw(
        broker, topology.events, 0, [Record(b"k", event, int(time.time() * 1000), wide)] * 4000
    )
    async with pipeline_running(trained, broker):
        deadline = time.monotonic() + PATIENCE_S
        while (audit := await audit_topics(broker, topology, None)).total.in_flight:
            assert time.monotonic() < deadline, audit
            await asyncio.sleep(0.3)
    total = audit.total
    assert not audit.passed
    assert total.expired_unread > 1000
    assert total.expired_unread + total.decided == 4000
    assert (total.lost, total.duplicated, total.unjudged) == (0, 0, 0)
    done = await asyncio.to_thread(
        anabranch, trained, "audit", str(trained.file.path), "--broker", broker.broker
    )
    assert done.returncode == 1
    assert "never read" in done.stdout
    # And nobody waits behind them for ever.
    more = tmp_path / "more.jsonl"
    more.write_bytes(b"\n".join(value for _, value in simulated(trained.pipeline, 10)))
    done = await asyncio.to_thread(
        anabranch, trained, "publish", str(trained.file.path), str(more),
        "--broker", broker.broker, "--max-in-flight", "1000",
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{total.expired_unread:,} events have no decision and will get none" in " ".join(
        done.stderr.split()
    )


async def test_what_publish_writes_is_read_before_the_embedded_broker_drops_it(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    """30 MB of events for one partition, whose stages' rows are as wide."""
    content = yaml.safe_load(trained.file.path.read_text())
    content["event"]["fields"][trained.pipeline.event.id]["max_length"] = 5000
    path = tmp_path / "wide.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    wide = replace(trained, file=load_pipeline(path))
    topology, count = Topology.of(wide.pipeline), 8000
    ids = (f"{number:06d}{'x' * 3500}" for number in range(count))
    (_, value), *_ = simulated(trained.pipeline, 1)
    event = json.loads(value)
    events = (({**event, trained.pipeline.event.id: each}, None) for each in ids)
    async with pipeline_running(wide, broker):
        published = await publish_events(
            wide.pipeline,
            broker,
            events,
            count,
            None,
            None,
            MAX_IN_FLIGHT,
            outcomes=False,
            create_topics=False,
        )
        deadline = time.monotonic() + PATIENCE_S
        while (audit := await audit_topics(broker, topology, None)).total.in_flight:
            assert time.monotonic() < deadline, audit
            await asyncio.sleep(0.3)
    assert published == audit.written.events == audit.written.decisions == count
    assert audit.passed
    assert audit.total.expired + audit.total.unjudged > 0, "more than the broker keeps"


async def test_running_audits_that_start_beside_a_stream_say_what_an_audit_says(
    trained: Trained, broker: BrokerSettings
) -> None:
    await running_audits_agree(trained, broker)


def test_metrics_of_an_audit_that_does_not_follow_are_refused(trained: Trained) -> None:
    done = anabranch(trained, "audit", str(trained.file.path), "--metrics-port", "0")
    assert done.returncode == 2
    assert "--follow" in done.stderr
