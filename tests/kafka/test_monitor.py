"""Monitors on Apache Kafka, killed and frozen: all is said once, and each outcome counted once.

Judged by a plain consumer that reads what is committed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from agents.monitor.errors import MonitorReplaced
from agents.monitor.monitor_writer import MonitorWriter, PartitionRecords
from tests.integration.harness import PATIENCE_S
from tests.integration.test_monitor import decision, made, outcome, pipeline, publish
from topics.kafka.batches import Record
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings


@contextmanager
def monitor_process(
    of: Pipeline, broker: BrokerSettings, folder: Path, *words: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A `tests.kafka.counting_monitor`; killed in the end if it still runs."""
    folder.mkdir(exist_ok=True)
    with (folder / "said.txt").open("wb") as said, (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kafka.counting_monitor", of.name, str(folder), *words],
            env={
                **os.environ,
                "ANABRANCH_BROKER": broker.broker,
                "ANABRANCH_CREATE_TOPICS": "true",
                "ANABRANCH_SESSION_TIMEOUT_S": "6",
            },
            stdout=said, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        print((folder / "log.txt").read_text())


async def records_of(broker: BrokerSettings, topic: str, level: str) -> list[Any]:
    """All records of a topic, by a consumer that knows nothing of us, at that isolation level."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.broker, enable_auto_commit=False, isolation_level=level
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for number in range(4)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        records: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                fetched = await consumer.getmany(timeout_ms=100)
                records += [record for of_tp in fetched.values() for record in of_tp]
        return records
    finally:
        await consumer.stop()


async def findings_of(
    broker: BrokerSettings, of: Pipeline, level: str = "read_committed"
) -> list[dict[str, int]]:
    records = await records_of(broker, Topology.of(of).monitor, level)
    return [orjson.loads(record.value) for record in records]


async def said(broker: BrokerSettings, of: Pipeline, decisions: int, known: int) -> None:
    """Wait until a finding has come that knows of so many."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(  # noqa: ASYNC110
            (each["decisions"], each["known"]) == (decisions, known)
            for each in await findings_of(broker, of)
        ):
            await asyncio.sleep(0.2)


async def becomes(word: str, folder: Path) -> None:
    """Wait until the monitor of that folder says so last."""
    async with asyncio.timeout(PATIENCE_S):
        while (folder / "said.txt").read_text().split()[-1:] != [word]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def check(findings: list[dict[str, int]]) -> None:
    """Counts grow from finding to finding: none is said twice, and nothing is counted back."""
    for before, after in pairwise(findings):
        assert all(before[name] <= after[name] for name in ("decisions", "known", "news"))
    assert len({(each["decisions"], each["news"]) for each in findings}) == len(findings)


async def test_a_monitor_killed_between_findings_and_their_snapshot_says_and_counts_nothing_twice(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    of = pipeline("monitor-killed")
    topology = await made(broker, of)

    async def more(numbers: range) -> None:
        await publish(broker, topology.decisions, [(n, decision(of, n)) for n in numbers])
        known = [(n, outcome(n, n % 5 == 0)) for n in numbers]
        reversed_ones = [(n, outcome(n, True, "analyst")) for n in numbers if n % 10 == 1]
        await publish(broker, topology.outcomes, [*known, *reversed_ones, (numbers[0], b"{}")])

    await more(range(100))
    with monitor_process(of, broker, tmp_path):
        await said(broker, of, 100, 100)
    await more(range(100, 200))
    with monitor_process(of, broker, tmp_path, "--dies-after-findings") as process:
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == -signal.SIGKILL
    await more(range(200, 300))
    with monitor_process(of, broker, tmp_path):
        await said(broker, of, 300, 300)
    findings = await findings_of(broker, of)
    check(findings)
    assert findings[-1]["positive"] == 60 + 30
    everything = await findings_of(broker, of, "read_uncommitted")
    assert {each["by"] for each in everything} - {each["by"] for each in findings} == {process.pid}
    letters = await records_of(broker, topology.outcome_letters, "read_committed")
    assert [letter.value for letter in letters] == [b"{}"] * 3


async def test_a_frozen_monitor_that_wakes_up_after_another_took_over_writes_nothing_more(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    of = pipeline("monitor-frozen")
    topology = await made(broker, of)

    async def more(numbers: range) -> None:
        await publish(broker, topology.decisions, [(n, decision(of, n)) for n in numbers])
        await publish(broker, topology.outcomes, [(n, outcome(n, n % 5 == 0)) for n in numbers])

    await more(range(100))
    with monitor_process(of, broker, tmp_path / "first") as first:
        await said(broker, of, 100, 100)
        with monitor_process(of, broker, tmp_path / "second") as second:
            await becomes("by", tmp_path / "second")
            before = await findings_of(broker, of)
            first.send_signal(signal.SIGSTOP)
            await more(range(100, 200))
            await said(broker, of, 200, 200)
            await more(range(200, 300))
            first.send_signal(signal.SIGCONT)
            await said(broker, of, 300, 300)
            # It is the eldest: it counts again, from where the other one has come to.
            await becomes("by", tmp_path / "second")
            await more(range(300, 400))
            await said(broker, of, 400, 400)
    findings = await findings_of(broker, of)
    check(findings)
    assert {each["by"] for each in before} == {first.pid}
    assert [pid for pid, _ in groupby(each["by"] for each in findings)] == [
        first.pid, second.pid, first.pid,
    ]  # fmt: skip
    assert (findings[-1]["positive"], findings[-1]["news"]) == (80, 400)


async def test_what_is_written_by_a_writer_that_another_has_replaced_is_never_read(
    broker: BrokerSettings,
) -> None:
    of = pipeline("monitor-fenced")
    topology = await made(broker, of)

    def part(text: bytes) -> PartitionRecords:
        return PartitionRecords(topology.monitor, 0, [Record(b"count/all", text, 1)])

    async def replaced() -> None:
        async with MonitorWriter.opened(broker, topology) as first:
            await first.write([part(b"1")])
            async with MonitorWriter.opened(broker, topology) as second:
                await second.write([part(b"2")])
                await first.write([part(b"never"), part(b"never")])

    with pytest.raises(MonitorReplaced):
        await replaced()
    read = await records_of(broker, topology.monitor, "read_committed")
    assert [record.value for record in read] == [b"1", b"2"]
