"""Dead letters that are redriven: one decision each in the end, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from agents.publish.in_flight import InFlight
from agents.redrive.dead_letter_index import Coordinates, read_dead_letters
from agents.redrive.preparation import KnownOutputs, Selection, redrive_batches
from agents.workers.metrics import Metrics
from models.registry.registry import Registry
from tests.integration.harness import (
    Trained,
    decided,
    decisions_of,
    pipeline_running,
    publish,
    publish_raw,
    records_of,
    settled,
    simulated,
    stopped,
    worker_process,
)
from tests.integration.test_cli import anabranch
from tests.integration.velocity import EVENT
from topics.kafka.batches import Record
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import WEIGH, Topology
from topics.records.decision import ATTEMPT_HEADER, Decision
from topics.redrive.record import RedriveBatch
from topics.redrive.wire import decode_redrive, encode_redrive, next_component
from topics.settings import BrokerSettings

PIPELINE = """
pipeline: own
{event}components:
  - name: features
    kind: extract_features
    from: [events]
    features: [{{name: amount, of: amount}}]
  - name: large
    import: tests.integration.velocity:Counted
    options: {{limit: 500, counter: {folder}/large}}
    from: [events]
  - name: mendable
    import: tests.integration.velocity:Mendable
    options: {{flag: {folder}/broken, counter: {folder}/mendable, halt: {folder}/halt}}
    from: [features]
weighting:
  from: [large, mendable]
  weights: {{large: 0.75, mendable: 0.25}}
  missing: fail
policy: {{thresholds: {{decline: 0.5}}}}
"""
EVENTS = 1200


@pytest.fixture
def own(tmp_path: Path) -> Trained:
    """A pipeline whose component `mendable` fails on some rows while a file is there."""
    path = tmp_path / "own.yaml"
    path.write_text(PIPELINE.format(event=EVENT, folder=tmp_path))
    (tmp_path / "broken").touch()
    return Trained(tmp_path, load_pipeline(path), Registry(tmp_path / "registry"))


def mend(own: Trained) -> None:
    (own.home / "broken").unlink()


def rows_counted(own: Trained, component: str) -> int:
    return sum(map(int, (own.home / component).read_text().split()))


def fails(value: bytes) -> bool:
    return bool(round(orjson.loads(value)["amount"] * 100) % 4 == 0)


async def run(own: Trained, broker: BrokerSettings, *words: str) -> tuple[int, Any]:
    """`anabranch dead-letters … --json`: the exit code, and what it says."""
    command, *options = words
    done = await asyncio.to_thread(
        anabranch, own, "dead-letters", command, str(own.file.path), *options, "--json",
        broker=broker.broker,
    )  # fmt: skip
    content = [json.loads(line) for line in done.stdout.splitlines()]
    assert content or command == "list", done.stderr
    return done.returncode, content if command == "list" else content[0]


async def attempts_of(broker: BrokerSettings, topic: str, header: str) -> Counter[int]:
    """How many records of a topic are of which attempt."""
    return Counter(int(dict(r.headers).get(header, b"1")) for r in await records_of(broker, topic))


async def test_a_mended_component_decides_what_it_failed_on_and_the_others_compute_nothing_anew(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    events = simulated(own.pipeline, EVENTS)
    dead = [value for _, value in events if fails(value)]
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events, 5000)
        audit = await settled(broker, own.pipeline, EVENTS)
        assert audit.total.dead == len(dead) > 100
        mend(own)
        code, output = await run(own, broker, "redrive")
        assert (code, output["redriven"], output["decided"]) == (0, len(dead), len(dead))
        assert await run(own, broker, "list") == (0, [])
        code, output = await run(own, broker, "redrive")
        assert (code, output["redriven"], output["skipped"]) == (0, 0, {"healed": len(dead)})
        async with InFlight.of(broker, topology) as in_flight:
            assert await in_flight.count() == 0
    assert rows_counted(own, "large") == rows_counted(own, "mendable") == EVENTS

    # What ends out of order must not tell the join where to go on.
    more = simulated(own.pipeline, EVENTS + 400)[EVENTS:]
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, more, 5000)
        audit = await settled(broker, own.pipeline, EVENTS + len(more))
    assert audit.passed
    assert audit.total.decided == EVENTS + len(more)
    assert (audit.total.dead, audit.total.redriven) == (0, len(dead))
    assert audit.written.decisions == EVENTS + len(more)
    attempts = await attempts_of(broker, topology.decisions, ATTEMPT_HEADER)
    assert attempts == {1: EVENTS + len(more) - len(dead), 2: len(dead)}

    amounts = {(e := orjson.loads(v))["transaction_id"]: e["amount"] for _, v in events + more}
    for decision in map(Decision.model_validate, await decisions_of(broker, own.pipeline)):
        large = min(amounts[decision.event_id] / 500, 1)
        assert decision.score == pytest.approx(0.75 * large + 0.25 * 0.5, abs=1e-6)
        assert not decision.degraded


async def test_events_end_once_when_two_redrive_them_and_a_worker_is_killed(
    own: Trained, broker: BrokerSettings
) -> None:
    events = simulated(own.pipeline, EVENTS)
    dead = sum(fails(value) for _, value in events)

    topology, halt = Topology.of(own.pipeline), own.home / "halt"
    with worker_process(own, broker) as first:
        await publish(broker, own.pipeline, events, 5000)
        await settled(broker, own.pipeline, EVENTS)
        mend(own)
        code, some = await run(own, broker, "redrive", "--limit", "5")
        assert (code, some["decided"]) == (0, 5)
        before = await events_sent(broker, topology)
        halt.touch()
        commands = asyncio.gather(*(run(own, broker, "redrive") for _ in range(2)))
        while await events_sent(broker, topology) < before + dead - 5:  # by one of the two, or both
            assert not commands.done()
            await asyncio.sleep(0.2)
        await asyncio.to_thread(stopped, first, signal.SIGKILL)
        assert (await attempts_of(broker, topology.decisions, ATTEMPT_HEADER))[2] == 5
        halt.unlink()
        with worker_process(own, broker):
            said = await commands
    assert {code for code, _ in said} == {0}
    assert max(each["redriven"] for _, each in said) == dead - 5
    audit = await settled(broker, own.pipeline, EVENTS)
    assert audit.passed
    assert (audit.total.decided, audit.total.redriven) == (EVENTS, dead)
    assert audit.written.decisions == EVENTS


async def test_a_poison_message_is_given_up_after_three_attempts(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    event = next(event for event in simulated(own.pipeline, EVENTS) if fails(event[1]))
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, [event], 100)
        await settled(broker, own.pipeline, 1)
        for attempt in (2, 3):
            code, output = await run(own, broker, "redrive", "--stage", "mendable")
            assert (code, output["redriven"], output["dead_again"]) == (1, 1, 1)
            _, (letter,) = await run(own, broker, "list")
            assert letter["attempt"] == attempt
        assert (letter["state"], letter["class"]) == ("given up", "ArithmeticError")
        code, output = await run(own, broker, "show", letter["place"])
        assert (code, output["value"]) == (0, orjson.loads(event[1]))
        assert (output["attempt"], output["reason"]) == (3, "a multiple of four")
        nowhere = await asyncio.to_thread(
            anabranch, own, "dead-letters", "show", str(own.file.path), "3@99",
            broker=broker.broker,
        )  # fmt: skip
        assert nowhere.returncode == 1
        assert "has no dead letter at 3@99" in nowhere.stderr
        listed = await asyncio.to_thread(
            anabranch, own, "dead-letters", "list", str(own.file.path), broker=broker.broker
        )
        assert letter["place"] in listed.stdout
        assert "1 dead letters: 1 given up" in listed.stdout
        code, output = await run(own, broker, "redrive")
        assert (code, output["redriven"], output["skipped"]) == (0, 0, {"given up": 1})
        attempts = await attempts_of(broker, topology.dead_letters, "x-error-attempt")
        assert attempts == {1: 1, 2: 1, 3: 1}
        audit = await settled(broker, own.pipeline, 1)
        assert audit.passed
        assert (audit.total.dead, audit.total.redriven) == (1, 1)

        mend(own)
        code, output = await run(own, broker, "redrive", "--attempts", "4")
        assert (code, output["decided"]) == (0, 1)
    assert rows_counted(own, "large") == 1
    (decision,) = await records_of(broker, topology.decisions)
    assert dict(decision.headers)[ATTEMPT_HEADER] == b"4"
    assert decision.key == event[0]
    assert (await settled(broker, own.pipeline, 1)).total.decided == 1


async def test_what_is_no_redrive_record_ends_nothing_and_one_that_nobody_deals_with_goes_on(
    own: Trained, broker: BrokerSettings
) -> None:
    topology, metrics = Topology.of(own.pipeline), Metrics()
    events = simulated(own.pipeline, EVENTS)
    async with pipeline_running(own, broker, metrics):
        await publish(broker, own.pipeline, events, 5000)
        before = await settled(broker, own.pipeline, EVENTS)
        mend(own)
        letters = await read_dead_letters(broker, own.pipeline, payloads=True)
        letter, other, *_ = [each for each in letters.newest.values() if each.partition == 2]
        selection = Selection(ready=[letter])
        (redrive,) = redrive_batches(own.pipeline, selection, KnownOutputs())
        alive = next(o for o in range(EVENTS) if Coordinates(2, o) not in letters.newest)
        forged = [
            redrive.to(WEIGH),  # without any output
            changed(redrive, attempt=3),
            changed(redrive, letter=other.offset),
            changed(redrive, letter=10**6),
            changed(redrive, offset=alive),
            replace(redrive.to(WEIGH), topic="x"),
        ]
        unaddressed = redrive.to("a-component-of-before")
        written = [
            Record(None, b"what is this", 1),
            *(encode_redrive(each, 1) for each in (*forged, unaddressed)),
        ]
        await publish_raw(broker, topology.redrive, 2, written)
        await decided(broker, own.pipeline, before.total.decided + 1)
        assert metrics.registry.get_sample_value(
            "anabranch_skipped_records_total", {"pipeline": "own", "component": "weigh"}
        ) == 1 + len(forged)
    audit = await settled(broker, own.pipeline, EVENTS)
    assert audit.passed
    assert audit.total.redriven == 1
    assert audit.total.decided == before.total.decided + 1


async def events_sent(broker: BrokerSettings, topology: Topology) -> int:
    """Events in all records of the redrive topic that are on their way."""
    records = await records_of(broker, topology.redrive)
    return sum(
        len(decode_redrive(record.key, record.value, record.headers))
        for record in records
        if next_component(record.headers) is not None
    )


def changed(redrive: RedriveBatch, **about: Any) -> RedriveBatch:
    """The batch of one event, which is changed, at the weighting agent."""
    return replace(redrive.to(WEIGH), events=[redrive.events[0]._replace(**about)])
