"""The clients of deploy/clients/: each publishes events, and reads their decisions exactly once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.structs import ConsumerRecord

from agents.broker.pipeline_topics import ensure_topics
from tests.integration.gateways import events_of, gateway_process
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    publish_raw,
    records_of,
    renamed,
    worker_process,
)
from tests.kafka.test_security import environment
from tests.node_packages import CACHE, installed
from tests.one_at_a_time import one_at_a_time
from topics.events.record_keys import murmur2_partitions
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

CLIENTS = Path(__file__).parents[2] / "deploy" / "clients"
KAFKA_CLIENTS = ("aiokafka", "confluent", "java", "node")
EVENTS, BAD = 40, 4
"""Of each client, and how many of them are dead letters until they are mended."""
KEY, ID = "customer_id", "transaction_id"

Command = Sequence[str | Path]


def ask(client: str, broker: str, pipeline: str, deadline_s: float) -> Command:
    """How a client publishes the events of stdin and prints how they ended."""
    if client == "java":
        return (*java(), broker, pipeline, "ask", KEY, str(deadline_s))
    options = ("--broker", broker, "--pipeline", pipeline, "ask", "--key", KEY)
    return (*program(client), *options, "--deadline-s", str(deadline_s))


def follow(client: str, broker: str, pipeline: str, journal: Path, idle_s: float) -> Command:
    """How a client writes decisions into a journal, until nothing has come for so long."""
    if client == "java":
        return (*java(), broker, pipeline, "follow", journal, str(idle_s))
    options = ("--broker", broker, "--pipeline", pipeline, "follow", "--journal", journal)
    return (*program(client), *options, "--idle-s", str(idle_s))


def java() -> Command:
    target = CLIENTS / "java" / "target"
    return ("java", "-cp", f"{target}/client.jar:{target}/libs/*", "Client")


def program(client: str) -> Command:
    if client == "node":
        return ("node", installed(CLIENTS / "node") / "client.js")
    return (sys.executable, CLIENTS / "python" / f"{client}_client.py")


def ran(
    command: Command, events: Sequence[Mapping[str, Any]] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[int, list[Any]]:  # fmt: skip
    """Exit code and lines of a client that is given these events."""
    done = subprocess.run(
        command, input="".join(f"{json.dumps(event)}\n" for event in events),
        capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@dataclass(frozen=True)
class Scene:
    """A pipeline that has decided what each client has asked."""

    own: Trained
    broker: BrokerSettings
    gateway: str
    events: Mapping[str, list[Any]]
    answers: Mapping[str, tuple[int, list[Any]]]


@pytest.fixture(scope="session")
def built() -> None:
    """The clients that have to be built first."""
    folder, jar = CLIENTS / "java", CLIENTS / "java" / "target" / "client.jar"
    with one_at_a_time(CACHE / "java.lock"):
        sources = [pom := folder / "pom.xml", *(folder / "src").rglob("*.java")]
        newest = max(source.stat().st_mtime for source in sources)
        if not jar.exists() or jar.stat().st_mtime < newest:
            subprocess.run(["mvn", "--quiet", "--batch-mode", "--file", pom, "package"], check=True)
    installed(CLIENTS / "node")


@pytest.fixture(scope="module")
def scene(
    kafka: BrokerSettings, trained: Trained, built: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    own = renamed(trained, tmp_path_factory.mktemp("clients"))
    events: dict[str, list[Any]] = {}
    for number, client in enumerate((*KAFKA_CLIENTS, "curl")):
        events[client] = events_of(own, EVENTS, seed=number)
        for event in events[client]:
            event[ID] = f"{client}-{event[ID]}"
        for event in events[client][5 : 5 + (BAD if client != "curl" else 0)]:
            event["amount"] = str(event["amount"])
    with worker_process(own, kafka), gateway_process(own, kafka) as gateway:

        def asked(client: str) -> tuple[int, list[Any]]:
            command: Command = (CLIENTS / "curl" / "client.sh", gateway.url, "ask", ID, "120")
            if client != "curl":
                command = ask(client, kafka.broker, own.pipeline.name, 120)
            return ran(command, events[client])

        with ThreadPoolExecutor(len(events)) as pool:
            answers = dict(zip(events, pool.map(asked, events), strict=True))
        yield Scene(own, kafka, gateway.url, events, answers)


def by_source(records: Sequence[ConsumerRecord]) -> dict[str, list[ConsumerRecord]]:
    """Decision records by the coordinates of their events."""
    ends: dict[str, list[ConsumerRecord]] = {}
    for record in records:
        headers = dict(record.headers)
        if record.value is not None and headers.get("ce_type") == b"anabranch.decision":
            ends.setdefault(headers["ce_id"].decode(), []).append(record)
    return ends


@pytest.mark.parametrize("client", [*KAFKA_CLIENTS, "curl"])
async def test_each_event_is_answered_in_order_with_what_a_plain_consumer_reads(
    scene: Scene, client: str
) -> None:
    topology = Topology.of(scene.own.pipeline)
    decisions = by_source(await records_of(scene.broker, topology.decisions))
    events = await records_of(scene.broker, topology.events)
    published = {f"{r.topic}/{r.partition}/{r.offset}": r for r in events}
    code, answers = scene.answers[client]
    assert code == (0 if client == "curl" else 1)
    assert len(answers) == len(scene.events[client]) == EVENTS
    dead = 0
    for event, answer in zip(scene.events[client], answers, strict=True):
        record = published[answer["source"]]
        assert orjson.loads(record.value) == event
        assert record.key == event[KEY].encode()
        assert record.partition == murmur2_partitions([record.key], topology.partitions)[0]
        if isinstance(event["amount"], str):
            letter = answer["dead_letter"]
            assert letter["stage"] == "features"
            assert "amount" in letter["reason"]
            dead += 1
        else:
            (decision,) = decisions[answer["source"]]
            assert answer["decision"] == orjson.loads(decision.value)
            assert answer["decision"]["event_id"] == event[ID]
    assert dead == (0 if client == "curl" else BAD)


@pytest.fixture(scope="module")
def journals(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """What each client has written: killed once, then through a redrive, and through nonsense."""
    own, broker, folder = scene.own, scene.broker, tmp_path_factory.mktemp("journals")
    name, topology = own.pipeline.name, Topology.of(own.pipeline)
    paths = {client: folder / f"{client}.jsonl" for client in KAFKA_CLIENTS}
    for client, path in paths.items():
        process = subprocess.Popen(follow(client, broker.broker, name, path, 3600))
        deadline = time.monotonic() + PATIENCE_S
        while not path.exists() or path.read_bytes().count(b"\n") < EVENTS:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.wait()
        with path.open("ab") as journal:
            journal.write(b'{"event": "half a li')
    redrive = ("dead-letters", "redrive", own.file.path, "--edit", ".amount |= tonumber")
    subprocess.run(
        [sys.executable, "-m", "agents", *redrive],
        env=environment(own, {"BROKER": broker.broker}), check=True,
    )  # fmt: skip
    again = next(
        record
        for ends in by_source(asyncio.run(records_of(broker, topology.decisions))).values()
        for record in ends
        if dict(record.headers).get("x-redrive-attempt") == b"2"
    )
    nonsense = [
        Record(again.key, again.value, again.timestamp, [*again.headers]),  # as after a crash
        Record(b"key", None, again.timestamp),
        Record(b"key", b"{}", again.timestamp, [("ce_type", b"another")]),
    ]  # fmt: skip
    asyncio.run(publish_raw(broker, topology.decisions, again.partition, nonsense))
    with ThreadPoolExecutor(len(paths)) as pool:
        commands = [follow(each, broker.broker, name, path, 8) for each, path in paths.items()]
        assert [code for code, _ in pool.map(ran, commands)] == [0] * len(paths)
    return paths


@pytest.mark.parametrize("client", KAFKA_CLIENTS)
async def test_a_journal_has_each_decision_once_after_a_kill_and_of_redriven_events_too(
    scene: Scene, journals: Mapping[str, Path], client: str
) -> None:
    topology = Topology.of(scene.own.pipeline)
    decisions = by_source(await records_of(scene.broker, topology.decisions))
    assert sum(map(len, decisions.values())) == len(decisions) + 1
    assert len(decisions) == 5 * EVENTS
    entries = [json.loads(line) for line in journals[client].read_text().splitlines()]
    by_event = {entry["event"]: entry for entry in entries}
    assert len(entries) == len(by_event)
    assert by_event.keys() == decisions.keys()
    for source, (first, *_) in decisions.items():
        record, entry = orjson.loads(first.value), by_event[source]
        told = {name: entry[name] for name in ("event_id", "decision", "score", "degraded")}
        assert told == {name: record[name] for name in told}
        assert entry["at"] == [first.partition, first.offset]
        assert entry["attempt"] == int(dict(first.headers).get("x-redrive-attempt", b"1"))
    assert sum(entry["attempt"] == 2 for entry in entries) == BAD * len(KAFKA_CLIENTS)


def test_curl_gets_the_decision_about_a_redriven_event_by_its_coordinates(
    scene: Scene, journals: Mapping[str, Path]
) -> None:
    script = CLIENTS / "curl" / "client.sh"
    for answer in scene.answers["java"][1]:
        code, (later,) = ran((script, scene.gateway, "later", answer["source"]))
        assert (code, later["source"]) == (0, answer["source"])
        assert later["decision"] == answer.get("decision", later["decision"])
    code, (gone,) = ran((script, scene.gateway, "later", "elsewhere/0/1"))
    assert code == 1
    assert gone["error"]


@pytest.mark.parametrize("client", KAFKA_CLIENTS)
async def test_what_is_not_decided_in_time_is_said_with_its_coordinates(
    own: Trained, broker: BrokerSettings, built: None, client: str
) -> None:
    await ensure_topics(broker, Topology.of(own.pipeline))
    events = events_of(own, 2)
    command = ask(client, broker.broker, own.pipeline.name, 1)
    code, answers = await asyncio.to_thread(ran, command, events)
    assert code == 1
    assert [answer["error"].split(":")[0] for answer in answers] == ["no decision yet"] * 2
    records = await records_of(broker, Topology.of(own.pipeline).events)
    places = {f"{each.topic}/{each.partition}/{each.offset}" for each in records}
    assert {answer["source"] for answer in answers} == places
