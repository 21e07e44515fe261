"""Topics made with Kafka's own defaults, and events as large as these take."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agents.redrive.dead_letter_index import read_dead_letter, read_dead_letters
from tests.integration.harness import Trained, pipeline_running, publish_raw, settled, simulated
from tests.integration.test_dead_letters import run
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

LARGE = 1_048_400
EVENTS = 40


@pytest.fixture
async def plain_topics(own: Trained, broker: BrokerSettings) -> Topology:
    """The pipeline's topics, as somebody makes them who sets nothing."""
    topology = Topology.of(own.pipeline)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.broker)
    await admin.start()
    topics = [NewTopic(name, topology.partitions, 1) for name in topology.all]
    await admin.create_topics(topics)
    await admin.close()
    await asyncio.sleep(1)
    return topology


def padded(event: bytes, size: int) -> bytes:
    """The event with spaces behind it: valid JSON, of *size* bytes."""
    return event + b" " * (size - len(event))


async def test_an_event_as_large_as_its_topic_takes_stops_nothing_and_is_cut(
    own: Trained, broker: BrokerSettings, plain_topics: Topology
) -> None:
    now_ms = int(time.time() * 1000)
    events = [event for _, event in simulated(own.pipeline, EVENTS)]
    records = [Record(b"k", event, now_ms) for event in events]
    large = padded(events[0], LARGE)
    records[7] = Record(b"k", large, now_ms, [("origin", b"test")])
    records[9] = Record(b"k", b"what is this", now_ms, [("origin", bytes(900_000))])
    records[11] = Record(bytes(900_000), b"what is this, too", now_ms)
    records[13] = Record(b"k", b"what is this, too", now_ms)
    async with pipeline_running(own, broker):
        await publish_raw(broker, plain_topics.events, 1, records)
        audit = await settled(broker, own.pipeline, EVENTS)
        assert (audit.total.decided, audit.total.dead) == (EVENTS - 4, 4)
        assert audit.passed
        letters = await read_dead_letters(broker, own.pipeline, payloads=True)
        by_source = {letter.source.offset: letter for letter in letters.newest.values()}
        assert {at for at, letter in by_source.items() if letter.digest} == {7}
        cut_letter = next(letter for letter in by_source.values() if letter.digest)
        assert len(cut_letter.value or b"") > LARGE - 3000

        code, lines = await run(own, broker, "list")
        cut = next(line for line in lines if line["cut"])
        assert (code, cut["state"], cut["cut"]) == (0, "dead", LARGE + 1 + len("origintest"))
        code, shown = await run(own, broker, "show", cut["place"])
        parts = [b"k", large, b"origin", b"test"]
        whole = sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts))
        assert shown["sha256"] == whole.hexdigest()
        assert "the original was cut" in shown["reason"]

        # Mended to an ordinary size it goes through; the original is fetched from its topic.
        code, output = await run(own, broker, "redrive", "--reason", "EventTooLarge", "--edit", ".")
        assert (code, output["redriven"], output["decided"]) == (0, 1, 1), output
    audit = await settled(broker, own.pipeline, EVENTS)
    assert audit.passed
    assert (audit.total.decided, audit.total.redriven) == (EVENTS - 3, 1)


async def test_a_mended_event_that_is_still_too_large_to_travel_is_left_and_says_so(
    own: Trained, broker: BrokerSettings, plain_topics: Topology
) -> None:
    now_ms = int(time.time() * 1000)
    event = simulated(own.pipeline, 1)[0][1]
    spoilt = orjson.dumps(orjson.loads(event) | {"amount": "1.5"})
    headers = [("origin", bytes(1_048_350 - len(spoilt)))]
    async with pipeline_running(own, broker):
        await publish_raw(broker, plain_topics.events, 1, [Record(b"k", spoilt, now_ms, headers)])
        await settled(broker, own.pipeline, 1)
        code, output = await run(own, broker, "redrive", "--edit", ".amount |= tonumber")
        assert (code, output["redriven"], output["decided"]) == (1, 0, 0), output
        assert "raise the topic's max.message.bytes" in output["left"][0]["why"]

        # It just fits at first, and grows too large on its way: it dies again, and says why.
        headers = [("origin", bytes(1_046_700 - len(spoilt)))]
        await publish_raw(broker, plain_topics.events, 2, [Record(b"k", spoilt, now_ms, headers)])
        await settled(broker, own.pipeline, 2)
        code, output = await run(own, broker, "redrive", "--edit", ".amount |= tonumber")
        assert (code, output["redriven"], output["dead_again"]) == (1, 1, 1), output
    letters = await read_dead_letters(broker, own.pipeline, payloads=False)
    again = next(letter for letter in letters.newest.values() if letter.attempt == 2)
    assert again.error == "RecordTooLarge"
    letter = await read_dead_letter(
        broker, plain_topics, own.pipeline.event.id, again.partition, again.offset
    )
    assert letter.value == spoilt
    assert (await settled(broker, own.pipeline, 2)).passed
