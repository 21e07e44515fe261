"""The clients of deploy/clients/ on a broker that trusts nobody: TLS, a login, and few rights."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it does not say what it exports
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from agents.broker import ensure_topics, grant
from tests.integration.gateways import events_of
from tests.integration.harness import Trained, publish_raw, records_of, renamed
from tests.kafka.secured import PASSWORD, Secured, secured_broker
from tests.kafka.test_clients import KAFKA_CLIENTS, ask, built, follow, ran
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.records import Acl

__all__ = ["built"]  # the fixture
USER = "asker"
DECISION = {
    "schema": 1, "event_id": "tx-1", "decision": "approve", "score": 0.25, "degraded": False,
    "source": {"topic": "elsewhere.events", "partition": 1, "offset": 7},
}  # fmt: skip
HEADERS = [("ce_type", b"anabranch.decision"), ("ce_id", b"elsewhere.events/1/7")]


@pytest.fixture(scope="module")
def own(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return renamed(trained, tmp_path_factory.mktemp("secured-clients"))


@pytest.fixture(scope="module")
def secured(own: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    topology = Topology.of(own.pipeline)
    with secured_broker(tmp_path_factory.mktemp("secured"), [USER]) as secured:
        asyncio.run(ensure_topics(secured.admin, topology))
        admin = AdminClient({"bootstrap.servers": secured.admin.broker})
        scram = UserScramCredentialUpsertion(
            USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        for done in admin.alter_user_scram_credentials([scram]).values():
            done.result(30)
        asyncio.run(grant(secured.admin, [
            Acl(USER, "write", "topic", topology.events),
            Acl(USER, "read", "topic", topology.decisions),
            Acl(USER, "read", "topic", topology.dead_letters),
            Acl(USER, "read", "group", topology.consumer_groups, "prefixed"),
        ]))  # fmt: skip
        record = Record(b"c", orjson.dumps(DECISION), int(time.time() * 1000), HEADERS)
        asyncio.run(publish_raw(secured.admin, topology.decisions, 2, [record]))
        yield secured


def login(secured: Secured, password: str = PASSWORD) -> Mapping[str, str]:
    """How clients connect, by their environment."""
    ours = {"KAFKA_CA": secured.pem("ca"), "KAFKA_USERNAME": USER, "KAFKA_PASSWORD": password}
    return {**os.environ, **ours}


@pytest.mark.parametrize("client", KAFKA_CLIENTS)
async def test_a_client_publishes_and_reads_with_its_login_and_the_rights_that_the_page_names(
    own: Trained, secured: Secured, built: None, tmp_path: Path, client: str
) -> None:
    name, topology = own.pipeline.name, Topology.of(own.pipeline)
    broker, environment = f"localhost:{secured.login}", login(secured)
    events = events_of(own, 1, seed=KAFKA_CLIENTS.index(client))
    code, (answer,) = await asyncio.to_thread(
        ran, ask(client, broker, name, 1), events, environment
    )
    assert code == 1
    assert answer["error"].startswith("no decision yet")  # no worker runs here
    records = await records_of(secured.admin, topology.events)
    places = {f"{each.topic}/{each.partition}/{each.offset}" for each in records}
    assert answer["source"] in places
    journal = tmp_path / "journal.jsonl"
    command = follow(client, broker, name, journal, 3)
    assert (await asyncio.to_thread(ran, command, [], environment))[0] == 0
    (entry,) = [json.loads(line) for line in journal.read_text().splitlines()]
    assert (entry["event"], entry["at"][0], entry["score"]) == ("elsewhere.events/1/7", 2, 0.25)
