"""Every record of a run is what JSON Schema and AsyncAPI document say of its topic."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.structs import ConsumerRecord

from agents.broker.log_follower import follower, read_until
from agents.commands import labelled_events
from agents.contract.channels import value_schema
from agents.contract.json_schemas import json_schemas
from tests.contracts import document_of, messages_of, validator
from tests.integration.gateways import events_of, gateway_process
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    explaining,
    pipeline_running,
    publish,
    publish_raw,
    renamed,
    settled,
    simulated,
    worker_process,
    written,
)
from tests.integration.test_cli import anabranch
from tests.integration.test_hot_swap import second_forest
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.records.outcome import outcome_fields, outcome_of
from topics.settings import BrokerSettings

EVENTS, BAD, OUTCOMES = 200, 9, 5
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "sale"}
NOT_SEEN = {
    "QualityFinding", "DriftFinding", "DriftSizes", "WeightsFinding", "MonitorSnapshot",
    "OutcomeDeadLetter", "Rollout", "TrainerClaim", "TrainerSign", "RenewalRequest",
    "RenewalTriggered", "RenewalStep", "RenewalVerdict",
}  # fmt: skip
"""What this run does not lead to."""


async def everything_of(broker: BrokerSettings, topic: str) -> list[ConsumerRecord]:
    """All records of a topic, heartbeats too."""
    found: list[ConsumerRecord] = []
    async with follower(broker, (topic,), 4, from_start=True) as consumer:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
        async for _, records in read_until(consumer, ends):
            found += records
    return found


async def write_all(own: Trained, broker: BrokerSettings) -> None:
    """Let the pipeline write records of as many forms as it can."""
    pipeline, topology = own.pipeline, Topology.of(own.pipeline)
    now_ms, events = int(time.time() * 1000), events_of(own, EVENTS, seed=3)
    bad = [Record(b"c", orjson.dumps({**event, "amount": str(event["amount"])}), now_ms)
           for event in events[:BAD]]  # fmt: skip
    fields = outcome_fields(pipeline)
    known = [Record(b"c", orjson.dumps(outcome_of(fields, event, label=True)), now_ms)
             for event in events[:OUTCOMES]]  # fmt: skip
    in_envelope = Record(
        b"c", orjson.dumps({**ENVELOPE, "data": events[-1]}), now_ms,
        [("content-type", b"application/cloudevents+json; charset=utf-8")],
    )  # fmt: skip

    def ended(command: str, *words: str) -> None:
        done = anabranch(own, *command.split(), *words, broker=broker.broker)
        assert done.returncode == 0, done.stdout + done.stderr

    path = str(own.file.path)
    async with pipeline_running(own, broker):
        with worker_process(own, broker, "explainer"), gateway_process(own, broker) as gateway:
            await publish(broker, pipeline, simulated(pipeline, EVENTS), 2000)
            await publish_raw(broker, topology.outcomes, 0, known)
            await publish_raw(broker, topology.events, 0, [*bad, in_envelope])
            key = {"idempotency-key": "k"}
            wait = "?deadline_ms=60000"
            answer = await asyncio.to_thread(gateway.predict, events[-2], wait, **key)
            assert answer.status_code == 200, answer.text
            await settled(broker, pipeline, EVENTS + BAD + 2)
            edit = ("--edit", ".amount |= tonumber", "--limit", "3", "--timeout", "200")
            await asyncio.to_thread(ended, "dead-letters redrive", path, *edit)
            for version in ("risk-forest@2", "weights", "policy"):
                words = (f"{path}/{version}", "--wait", "200")
                await asyncio.to_thread(ended, "models promote", *words)
            await written(broker, topology.explanations, EVENTS + 2 + 3)


async def test_every_record_of_a_run_fits_its_schema_and_a_wrong_one_does_not(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    own = explaining(renamed(trained, tmp_path), when=["approve", "review", "decline"])
    second_forest(own, labelled_events.simulated(trained.pipeline, rows=20_000, seed=5))
    await asyncio.wait_for(write_all(own, broker), PATIENCE_S)

    document = document_of(own.pipeline)
    seen = defaultdict[str, list[ConsumerRecord]](list)
    for name, channel in document["channels"].items():
        if name.startswith("shadow."):
            continue  # no challenger runs: the topic does not exist
        if {"Tensors", "Redrive"} & {*channel["messages"]}:
            continue  # snapshots and the like, without a schema
        records = await everything_of(broker, channel["address"])
        if name in ("events", "explanations", "control", "reports", "requests", "decisions"):
            whole = validator(value_schema(own.pipeline, name))
            valid = [whole.is_valid(orjson.loads(r.value)) for r in records if r.value is not None]
            assert valid.count(False) == (BAD if name == "events" else 0), name
        if name == "events":  # the bad ones are none
            records = [r for r in records if b'"amount":"' not in r.value]
        for message, record in messages_of(document, name, records):
            seen[message].append(record)

    messages = document["components"]["messages"]
    assert {*messages} - {*seen} == {*NOT_SEEN, "Tensors", "Redrive"}
    assert (len(seen["Decision"]), len(seen["DeadLetter"])) == (EVENTS + 2 + 3, BAD)
    assert len(seen["Outcome"]) == OUTCOMES
    attempts = [dict(record.headers).get("x-redrive-attempt") for record in seen["Decision"]]
    assert attempts.count(b"2") == 3
    for name, records in seen.items():
        if "payload" in messages[name]:
            check_that_wrong_ones_are_refused(own, name, orjson.loads(records[-1].value))


def check_that_wrong_ones_are_refused(own: Trained, name: str, value: dict[str, Any]) -> None:
    schemas = json_schemas(own.pipeline, [name], "#/$defs/{model}")
    check = validator({"$ref": f"#/$defs/{name}", "$defs": schemas})
    assert check.is_valid(value)
    for field in schemas[name].get("required", ()):
        without = {each: content for each, content in value.items() if each != field}
        assert not check.is_valid(without), (name, field)
    for field in value.keys() & schemas[name]["properties"].keys():
        assert not check.is_valid({**value, field: {"x": [1]}}), (name, field)
    assert not check.is_valid([value])


@pytest.mark.parametrize("topic", ["decisions", "card-fraud.decisions"])
def test_the_command_prints_the_schema_of_a_topic(trained: Trained, topic: str) -> None:
    said = anabranch(trained, "topics", "card-fraud", "--json-schema", topic)
    assert said.returncode == 0, said.stderr
    schema = orjson.loads(said.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "score" in schema["$defs"]["Decision"]["required"]


@pytest.mark.parametrize(
    ("topic", "reason"), [("features", "binary"), ("elsewhere", "no such topic; there are")]
)
def test_the_command_says_why_there_is_no_schema(trained: Trained, topic: str, reason: str) -> None:
    said = anabranch(trained, "topics", "card-fraud", "--json-schema", topic)
    assert (said.returncode, said.stdout) == (1, "")
    assert reason in said.stderr
