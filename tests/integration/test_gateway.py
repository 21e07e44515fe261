"""`anabranch gateway`: questions over HTTP, answered by the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.gateways import RunningGateway, events_of, gateway_process, sources
from tests.integration.harness import Trained, worker_process
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings


@pytest.fixture(scope="module")
def running(trained: Trained) -> Iterator[BrokerSettings]:
    """A broker with the whole pipeline on it, in another process."""
    with EmbeddedBroker() as embedded:
        settings = BrokerSettings(broker=embedded.address, embedded=True)
        with worker_process(trained, settings):
            yield settings


@pytest.fixture(scope="module")
def gateway(trained: Trained, running: BrokerSettings) -> Iterator[RunningGateway]:
    with gateway_process(trained, running, "--deadline-ms", "60000") as gateway:
        yield gateway


def test_an_event_is_answered_with_its_decision_record(
    trained: Trained, gateway: RunningGateway
) -> None:
    event = events_of(trained, 1)[0]
    answer = gateway.predict(event)
    assert answer.status_code == 200, answer.text
    record = answer.json()
    assert record["event_id"] == event["transaction_id"]
    total = sum(each["contribution"] for each in record["contributions"].values())
    assert total == pytest.approx(record["score"])
    place = sources([record])[0]
    assert gateway.get(f"/decisions?source={place}").json() == record
    assert gateway.get(f"/decisions/{event['transaction_id']}").json() == record


def test_a_list_is_answered_in_its_order(trained: Trained, gateway: RunningGateway) -> None:
    events = events_of(trained, 300, seed=8)
    with ThreadPoolExecutor(10) as pool:
        answers = [*pool.map(gateway.predict, [events[at : at + 30] for at in range(0, 300, 30)])]
    assert {answer.status_code for answer in answers} == {200}
    records = [record for answer in answers for record in answer.json()]
    assert [record["event_id"] for record in records] == [e["transaction_id"] for e in events]
    assert len(set(sources(records))) == 300


def test_explanations_are_part_of_the_answer(trained: Trained, gateway: RunningGateway) -> None:
    event = events_of(trained, 1, seed=9)[0]
    record = gateway.predict(event, "?explain=true").json()
    values = [each["value"] for each in record["explanation"]["groups"]]
    total = record["explanation"]["base"] + sum(values)
    assert total == pytest.approx(record["score"], abs=1e-6)
