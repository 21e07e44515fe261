"""Requests with an Idempotency-Key: one decision each, whoever is asked and whoever is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from agents.audit.topic_audit import audit_topics
from agents.gateway.event_reader import Event
from agents.gateway.keyed.keyed_requests import content_digest, key_digest
from agents.publish.publisher import encoded, partition_of
from tests.integration.gateways import RunningGateway, gateway_process, sources
from tests.integration.harness import Trained, publish_raw, records_of, worker_process
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_refusals import FAILS, event
from topics.kafka.batches import Record
from topics.kafka.embedded import EmbeddedBroker
from topics.pipeline.topology import Topology
from topics.records import REQUEST_HEADER, RequestRecord
from topics.settings import BrokerSettings

WAIT = "?deadline_ms=60000"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return own_components(tmp_path_factory.mktemp("own"), "fail")


@pytest.fixture(scope="module")
def broker(own: Trained) -> Iterator[BrokerSettings]:
    with EmbeddedBroker() as embedded:
        settings = BrokerSettings(broker=embedded.address, embedded=True)
        with worker_process(own, settings):
            yield settings


@pytest.fixture(scope="module")
def two(own: Trained, broker: BrokerSettings) -> Iterator[list[RunningGateway]]:
    with gateway_process(own, broker) as one, gateway_process(own, broker) as other:
        yield [one, other]


def ask(gateway: RunningGateway, content: Any, key: str) -> httpx.Response:
    return gateway.predict(content, WAIT, **{"idempotency-key": key})


async def published(broker: BrokerSettings, own: Trained, key: str) -> list[str]:
    """The numbers of the events of a request that are on the topic."""
    digest = key_digest(key).decode()
    values = [
        dict(record.headers).get(REQUEST_HEADER, b"").decode()
        for record in await records_of(broker, Topology.of(own.pipeline).events)
    ]
    return sorted(value.rpartition("/")[2] for value in values if value.startswith(digest))


async def test_many_at_once_with_one_key_get_one_decision(
    own: Trained, broker: BrokerSettings, two: list[RunningGateway]
) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = [*pool.map(
            lambda number: ask(two[number % 2], event("one"), "k-1"), range(24)
        )]  # fmt: skip
    assert {answer.status_code for answer in answers} == {200}
    assert len({tuple(sources([answer.json()])) for answer in answers}) == 1
    assert await published(broker, own, "k-1") == ["0"]


async def test_a_list_and_a_dead_letter_are_answered_again_as_they_were(
    own: Trained, broker: BrokerSettings, two: list[RunningGateway]
) -> None:
    events = [event(f"e{number}", customer_id=f"c-{number}") for number in range(20)]
    first, again = ask(two[0], events, "k-2"), ask(two[1], events, "k-2")
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert len(await published(broker, own, "k-2")) == 20
    dead, still = ask(two[0], event("d", FAILS), "k-3"), ask(two[1], event("d", FAILS), "k-3")
    assert (dead.status_code, still.status_code) == (422, 422)
    assert dead.json()["source"] == still.json()["source"]


def test_a_key_stands_for_its_events_alone(two: list[RunningGateway]) -> None:
    assert ask(two[0], event("a"), "k-4").status_code == 200
    other = ask(two[1], event("b"), "k-4")
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
    for wrong in ("", "x" * 256):
        refused = ask(two[0], event("a"), wrong)
        assert (refused.status_code, refused.json()["field"]) == (400, "Idempotency-Key")


def request_of(own: Trained, content: dict[str, Any]) -> Event:
    key, value = encoded(content, own.pipeline.event.key)
    return Event(key, value, partition_of(key, own.pipeline.partitions), "")


async def claimed(broker: BrokerSettings, own: Trained, key: str, events: list[Event]) -> None:
    """As a gateway does before it publishes, and is killed then."""
    digest = key_digest(key)
    record = RequestRecord(kind="claim", claim="dead", content=content_digest(events))
    now_ms = int(time.time() * 1000)
    partition = partition_of(digest, own.pipeline.partitions)
    value = record.model_dump_json().encode()
    topic = Topology.of(own.pipeline).requests
    await publish_raw(broker, topic, partition, [Record(digest, value, now_ms)])


async def test_a_retry_publishes_what_a_killed_gateway_has_only_claimed(
    own: Trained, broker: BrokerSettings, two: list[RunningGateway]
) -> None:
    content = event("claimed")
    await claimed(broker, own, "k-5", [request_of(own, content)])
    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(lambda gateway: ask(gateway, content, "k-5"), [*two, *two])]
    assert {answer.status_code for answer in answers} == {200}, [a.text for a in answers]
    assert len({sources([answer.json()])[0] for answer in answers}) == 1
    assert await published(broker, own, "k-5") == ["0"]


async def test_a_retry_finds_what_a_killed_gateway_has_published(
    own: Trained, broker: BrokerSettings, two: list[RunningGateway]
) -> None:
    contents = [event(f"found-{n}", customer_id=f"c-{n}") for n in range(6)]
    events = [request_of(own, content) for content in contents]
    await claimed(broker, own, "k-6", events)
    topic = Topology.of(own.pipeline).events
    for number, each in enumerate(events[:4]):  # killed in the middle of it
        header = (REQUEST_HEADER, key_digest("k-6") + b"/%d" % number)
        record = Record(each.key, each.value, int(time.time() * 1000), [header])
        await publish_raw(broker, topic, each.partition, [record])
    answer = ask(two[1], contents, "k-6")
    assert answer.status_code == 200, answer.text
    assert [record["event_id"] for record in answer.json()] == [f"found-{n}" for n in range(6)]
    assert await published(broker, own, "k-6") == ["0", "1", "2", "3", "4", "5"]


async def test_gateways_that_are_killed_in_mid_request_leave_one_decision_for_each_key(
    own: Trained, broker: BrokerSettings, two: list[RunningGateway]
) -> None:
    kills = 5
    for kill in range(kills):
        contents = [event(f"kill-{kill}-{n}", customer_id=f"c-{n}") for n in range(10)]
        with gateway_process(own, broker) as victim, ThreadPoolExecutor(10) as pool:
            asked = [
                pool.submit(ask, victim, content, f"kill-{kill}-{n}")
                for n, content in enumerate(contents)
            ]
            await asyncio.sleep(0.004 * kill)
            victim.process.kill()
            first = [each.exception() or each.result() for each in asked]
        with ThreadPoolExecutor(10) as pool:
            keys = [f"kill-{kill}-{n}" for n in range(10)]
            again = [*pool.map(ask, two * 5, contents, keys)]
        assert {answer.status_code for answer in again} == {200}, [a.text for a in again]
        for n, (before, after) in enumerate(zip(first, again, strict=True)):
            if isinstance(before, httpx.Response) and before.status_code == 200:
                assert before.json() == after.json()
            assert await published(broker, own, f"kill-{kill}-{n}") == ["0"]
    audit = await audit_topics(broker, Topology.of(own.pipeline), None)
    assert (audit.total.lost, audit.total.duplicated) == (0, 0)
