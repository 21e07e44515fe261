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

from prometheus_client.parser import text_string_to_metric_families

from agents.auditing import audit_topics
from agents.brokers import ensure_topics
from tests.integration.harness import PATIENCE_S, Trained, publish_raw
from tests.integration.test_cli import anabranch
from topics import decision
from topics.batches import Record
from topics.settings import BrokerSettings
from topics.topology import Topology


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


async def test_a_record_about_an_event_that_cannot_exist_is_skipped_not_counted(
    trained: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(trained.pipeline)
    await ensure_topics(broker, topology)
    now_ms = int(time.time() * 1000)
    await publish_raw(broker, topology.events, 0, [Record(b"k", b"{}", now_ms)])
    await publish_raw(broker, topology.decisions, 0, ends(topology, [0, 2**61, -1]))
    audit = await audit_topics(broker, topology, None)
    assert audit.passed
    assert (audit.total.inputs, audit.total.decided) == (1, 1)


def test_metrics_of_an_audit_that_does_not_follow_are_refused(trained: Trained) -> None:
    done = anabranch(trained, "audit", str(trained.file.path), "--metrics-port", "0")
    assert done.returncode == 2
    assert "--follow" in done.stderr
