"""A gateway on a broker with an authorizer: its own rights are enough, and allow nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from agents.broker.pipeline_topics import ensure_outcomes_topic, ensure_topics
from tests.integration.gateways import RunningGateway, gateway_process, sources
from tests.integration.harness import Trained, worker_process
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_refusals import FAILS, event
from tests.kafka.secured import PASSWORD, Secured, secured_broker
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

WHO = "own.gateway"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return own_components(tmp_path_factory.mktemp("own"), "fail")


@dataclass(frozen=True)
class Scene:
    """A gateway that logs in as itself, and the broker."""

    gateway: RunningGateway
    secured: Secured


@pytest.fixture(scope="module")
def scene(own: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with (
        secured_broker(tmp_path_factory.mktemp("secured"), [WHO]) as secured,
        pytest.MonkeyPatch.context() as patch,
    ):
        asyncio.run(ensure_topics(secured.admin, Topology.of(own.pipeline)))
        asyncio.run(ensure_outcomes_topic(secured.admin, Topology.of(own.pipeline)))
        granted = subprocess.run(
            [sys.executable, "-m", "agents", "topics", str(own.file.path), "--create", "--grant",
             "--broker", secured.admin.broker],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert granted.returncode == 0, granted.stderr
        with worker_process(own, secured.admin):
            for name, value in {
                "TLS": "true", "TLS_CA": secured.pem("ca"), "SASL_MECHANISM": "PLAIN",
                "SASL_USERNAME": WHO, "SASL_PASSWORD": PASSWORD,
            }.items():  # fmt: skip
                patch.setenv(f"ANABRANCH_{name}", value)
            address = BrokerSettings(broker=f"localhost:{secured.login}", embedded=False)
            with gateway_process(own, address, "--deadline-ms", "60000") as gateway:
                yield Scene(gateway, secured)


def test_its_rights_are_enough_for_all_that_it_answers(scene: Scene) -> None:
    gateway = scene.gateway
    answer = gateway.predict(event("plain"))
    assert answer.status_code == 200, answer.text
    (source,) = sources([answer.json()])
    assert gateway.get(f"/decisions?source={source}").json() == answer.json()
    assert gateway.get("/decisions/plain").json() == answer.json()
    explained = gateway.predict(event("why"), "?explain=true").json()
    assert explained["explanation"]["event_id"] == "why", explained
    keyed = [gateway.predict(event("keyed"), **{"idempotency-key": "k"}) for _ in range(2)]
    assert [each.status_code for each in keyed] == [200, 200], [each.text for each in keyed]
    assert keyed[0].json() == keyed[1].json()
    dead = gateway.predict(event("dead", FAILS))
    assert dead.status_code == 422
    looked = gateway.get(f"/decisions?source={dead.json()['source']}")
    assert looked.json()["dead_letter"]["stage"] == "mendable"


def login(secured: Secured) -> dict[str, str]:
    return {
        "bootstrap.servers": f"localhost:{secured.login}", "security.protocol": "SASL_SSL",
        "ssl.ca.location": secured.pem("ca"), "sasl.mechanism": "PLAIN", "sasl.username": WHO,
        "sasl.password": PASSWORD,
    }  # fmt: skip


def test_it_may_write_events_and_claims_and_nothing_else(own: Trained, scene: Scene) -> None:
    topology = Topology.of(own.pipeline)
    producer, refused = Producer(login(scene.secured)), dict[str, bool]()

    def told(error: KafkaError | None, message: Message) -> None:
        refused[str(message.topic())] = error is not None

    for topic in (*topology.all, topology.outcomes, topology.requests):
        producer.produce(topic, b"{}", b"nonsense", 0, told)
    producer.flush(20)
    assert {topic for topic, is_refused in refused.items() if not is_refused} == {
        topology.events, topology.requests,
    }  # fmt: skip


def test_it_may_join_no_group_and_see_no_outcome(own: Trained, scene: Scene) -> None:
    topology = Topology.of(own.pipeline)
    group = topology.group("weigh")
    member = Consumer({**login(scene.secured), "group.id": group, "enable.auto.commit": False})
    member.subscribe([topology.decisions])
    try:
        message = member.poll(20)
        error = None if message is None else message.error()
    except KafkaException as exc:
        error = exc.args[0]
    assert error is not None
    assert error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    about = member.list_topics(topology.outcomes, 20).topics[topology.outcomes]
    assert about.error is not None
    assert about.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    member.close()
