"""Bad events: one dead letter each, and the rows around them are decided."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import pytest
from aiokafka.producer import message_accumulator
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as BuilderInPython

from agents.broker.pipeline_topics import ensure_topics
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish_raw,
    records_of,
    settled,
    simulated,
)
from topics.kafka.batches import Headers, Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

GOOD = {
    "transaction_id": "tx-1",
    "occurred_at": "2018-04-01T00:00:31Z",
    "customer_id": "c-1",
    "terminal_id": "t-1",
    "amount": 57.16,
}


def event(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


BAD: Mapping[str, tuple[bytes | None, bytes | None, str]] = {
    "not JSON": (b"k", b"not json", "InvalidEvent"),
    "empty": (b"k", b"", "EmptyEvent"),
    "null value": (b"k", None, "EmptyEvent"),
    "wrong type": (b"k", event(amount="57.16"), "InvalidEvent"),
    "missing field": (b"k", without("amount"), "InvalidEvent"),
    "unknown field": (b"k", event(surprise=1), "InvalidEvent"),
    "NaN": (b"k", event(amount=float("nan")), "InvalidEvent"),
    "infinity": (b"k", event(amount=float("inf")), "InvalidEvent"),
    "1e400": (b"k", event(amount=1).replace(b'"amount": 1', b'"amount": 1e400'), "InvalidEvent"),
    "a vector": (b"k", event(amount=[1.0, 2.0]), "InvalidEvent"),
    "2 MB": (b"k", event(terminal_id="x" * 2_000_000), "EventTooLarge"),
    "deep nesting": (b"k", b"[" * 10_000 + b"]" * 10_000, "InvalidEvent"),
    "key that is too long": (b"\xff" * 4097, event(), "InvalidKey"),
    "event of 2126": (b"k", event(occurred_at="2126-04-01T00:00:31Z"), "FutureEventTime"),
    "value that is not UTF-8": (b"k", b'{"transaction_id": "\xff"}', "InvalidEvent"),
}


async def test_each_bad_event_becomes_one_dead_letter_and_its_neighbours_are_decided(
    trained: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(trained.pipeline)
    good = simulated(trained.pipeline, 3 * (len(BAD) + 1))
    now_ms = int(time.time() * 1000)
    records = [Record(key, value, now_ms) for key, value in good]
    headers = [("origin", b"test"), ("x-error-stage", b"forged")]
    for place, (key, value, _) in enumerate(BAD.values()):
        records.insert(4 * place + 2, Record(key, value, now_ms, headers))
    async with pipeline_running(trained, broker):
        await publish_raw(broker, topology.events, 2, records)
        audit = await settled(broker, trained.pipeline, len(records))
    assert audit.passed
    assert (audit.total.decided, audit.total.dead) == (len(good), len(BAD))

    letters = await records_of(broker, topology.dead_letters)
    assert [letter.key for letter in letters] == [key for key, _, _ in BAD.values()]
    assert [letter.value for letter in letters] == [value for _, value, _ in BAD.values()]
    for letter, (name, (_, _, error)), place in zip(letters, BAD.items(), range(99), strict=False):
        about = {key: value.decode() for key, value in letter.headers}
        assert about["origin"] == "test", name
        assert about["x-error-stage"] == "features", name
        assert about["x-error-class"] == error, name
        assert about["x-error-reason"], name
        assert about["x-error-topic"] == topology.events, name
        assert about["x-error-partition"] == "2", name
        assert about["x-error-offset"] == str(4 * place + 2), name
        assert letter.partition == 2

    ids = [record["event_id"] for record in await decisions_of(broker, trained.pipeline)]
    assert ids == [json.loads(value)["transaction_id"] for _, value in good], "in source order"


async def test_a_stream_of_nothing_but_bad_events_ends_in_dead_letters(
    trained: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(trained.pipeline)
    records = [Record(b"k", b"bad %d" % i, int(time.time() * 1000)) for i in range(500)]
    async with pipeline_running(trained, broker):
        await publish_raw(broker, topology.events, 0, records)
        audit = await settled(broker, trained.pipeline, len(records))
    assert audit.passed
    assert audit.total.dead == 500
    letters = await records_of(broker, topology.dead_letters)
    assert [letter.value for letter in letters] == [record.value for record in records]


class NoText(str):
    """A header key of bytes that are no UTF-8: no broker refuses it."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"tr\xffce"


async def test_a_header_key_that_is_no_text_stops_nobody(
    trained: Trained, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = Topology.of(trained.pipeline)
    now_ms = int(time.time() * 1000)
    headers: Headers = [(NoText("trace"), b"1")]
    good = [Record(key, value, now_ms) for key, value in simulated(trained.pipeline, 4)]
    odd = [good[1]._replace(headers=headers), Record(b"k", b"bad", now_ms, headers)]
    await ensure_topics(broker, topology)
    with monkeypatch.context() as patch:  # before any worker of this process writes
        patch.setattr(message_accumulator, "DefaultRecordBatchBuilder", BuilderInPython)
        await publish_raw(broker, topology.events, 1, [good[0], *odd, *good[2:]])
    async with pipeline_running(trained, broker):
        audit = await settled(broker, trained.pipeline, 5)
    assert audit.passed
    assert (audit.total.decided, audit.total.dead) == (4, 1)
    (letter,) = await records_of(broker, topology.dead_letters)
    assert dict(letter.headers)["tr\\xffce"] == b"1"
