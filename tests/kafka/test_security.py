"""A broker with TLS, users and an authorizer: who may, can; who may not is told why."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it does not say what it exports
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from agents.audit.topic_audit import audit_topics
from agents.broker.pipeline_topics import ensure_topics
from tests.integration.harness import (
    EVERYTHING,
    Trained,
    publish,
    publish_raw,
    renamed,
    settled,
    simulated,
)
from tests.kafka.secured import PASSWORD, Secured, secured_broker
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology

EVENTS = 1000


@pytest.fixture(scope="module")
def own(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return renamed(trained, tmp_path_factory.mktemp("secured-pipeline"))


@pytest.fixture(scope="module")
def secured(own: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    users = [Topology.of(own.pipeline).group(name) for name in (*EVERYTHING, "operator")]
    with secured_broker(tmp_path_factory.mktemp("secured"), users) as secured:
        asyncio.run(ensure_topics(secured.admin, Topology.of(own.pipeline)))
        admin = AdminClient({"bootstrap.servers": secured.admin.broker})
        scram = UserScramCredentialUpsertion(
            users[0], ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        for done in admin.alter_user_scram_credentials([scram]).values():
            done.result(30)
        granted = anabranch(own, {"BROKER": secured.admin.broker}, "topics", "--create", "--grant")
        assert granted.returncode == 0, granted.stderr
        yield secured


def environment(own: Trained, settings: dict[str, str]) -> dict[str, str]:
    ours = {"HOME": str(own.home), "REGISTRY": str(own.home / "registry"),
            "SESSION_TIMEOUT_S": "6", **settings}  # fmt: skip
    return {**os.environ, **{f"ANABRANCH_{name}": value for name, value in ours.items()}}


def anabranch(
    own: Trained, settings: dict[str, str], command: str, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must come within 30 s."""
    return subprocess.run(
        [sys.executable, "-m", "agents", command, str(own.file.path), *words],
        env=environment(own, settings), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@contextmanager
def component(
    own: Trained, settings: dict[str, str], name: str, said: Path, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    with (said / f"{name}.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", *options, "run", str(own.file.path),
             "--component", name],
            env=environment(own, settings), stderr=output,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        print(name, (said / f"{name}.txt").read_text()[-1500:])


def login(own: Trained, secured: Secured, name: str, mechanism: str = "PLAIN") -> dict[str, str]:
    """How component *name* connects."""
    return {
        "BROKER": f"localhost:{secured.login}", "TLS": "true", "TLS_CA": secured.pem("ca"),
        "SASL_MECHANISM": mechanism, "SASL_PASSWORD": PASSWORD,
        "SASL_USERNAME": Topology.of(own.pipeline).group(name),
    }  # fmt: skip


async def test_a_pipeline_runs_with_the_acls_that_are_written_out_and_tells_nobody_its_password(
    own: Trained, secured: Secured, tmp_path: Path
) -> None:
    events = simulated(own.pipeline, EVENTS)
    with ExitStack() as stack:
        for name in EVERYTHING:
            mechanism = "SCRAM-SHA-512" if name == "features" else "PLAIN"
            settings = login(own, secured, name, mechanism)
            worker = stack.enter_context(component(own, settings, name, tmp_path, "--verbose"))
            assert not any(PASSWORD in word for word in psutil.Process(worker.pid).cmdline())
        await publish(secured.admin, own.pipeline, events, 500)
        audit = await settled(secured.admin, own.pipeline, EVENTS)
    assert audit.passed
    assert audit.total.decided == EVENTS
    text = "".join((tmp_path / f"{name}.txt").read_text() for name in EVERYTHING)
    assert "running on localhost" in text
    assert PASSWORD not in text
    assert not any(value.decode() in text for _, value in events), "an event's content is logged"


async def status_when(
    own: Trained, secured: Secured, holds: Callable[[dict[str, set[str]]], bool]
) -> dict[str, Any]:
    """What `status --json` says to an operator once that holds of each worker's states."""
    while True:
        operator = login(own, secured, "operator")
        done = await asyncio.to_thread(anabranch, own, operator, "status", "--json")
        assert done.stdout, done.stderr
        workers: dict[str, Any] = json.loads(done.stdout)["workers"]
        if holds(
            {name: {each["state"] for each in of["partitions"]} for name, of in workers.items()}
        ):
            return workers


async def test_workers_may_not_say_what_is_in_service_and_an_operator_sees_how_they_fare(
    own: Trained, secured: Secured, tmp_path: Path
) -> None:
    topology, settings = Topology.of(own.pipeline), login(own, secured, "decision")
    with component(own, settings, "decision", tmp_path):
        workers = await status_when(
            own, secured, lambda each: each["decision"] == {"up"} and each["features"] == {"down"}
        )
    assert all(each["lag"] is not None for each in workers["features"]["partitions"])
    (version,) = workers["decision"]["in_service"]
    assert version["version"] == "decision@1"
    client = Producer({
        "bootstrap.servers": settings["BROKER"], "security.protocol": "SASL_SSL",
        "ssl.ca.location": secured.pem("ca"), "sasl.mechanism": "PLAIN",
        "sasl.username": settings["SASL_USERNAME"], "sasl.password": PASSWORD,
    })  # fmt: skip
    refused: dict[str, bool] = {}

    def told(error: KafkaError | None, message: Message) -> None:
        refused[str(message.topic())] = error is not None

    for topic in (topology.control, topology.reports):
        client.produce(topic, b"{}", b"nonsense", 0, told)
    client.flush(20)
    assert refused == {topology.control: True, topology.reports: False}


async def test_without_a_reports_topic_workers_run_on_say_so_once_and_report_when_it_is_there(
    own: Trained, secured: Secured, tmp_path: Path
) -> None:
    topology = Topology.of(own.pipeline)
    admin = AdminClient({"bootstrap.servers": secured.admin.broker})
    admin.delete_topics([topology.reports])[topology.reports].result(30)
    before = (await audit_topics(secured.admin, topology, None)).total
    now_ms = int(time.time() * 1000)
    events = [Record(key, value, now_ms) for key, value in simulated(own.pipeline, 200, seed=3)]
    with ExitStack() as stack:
        for name in EVERYTHING:
            stack.enter_context(component(own, login(own, secured, name), name, tmp_path))
        await publish_raw(secured.admin, topology.events, 0, events)
        audit = await settled(secured.admin, own.pipeline, before.inputs + len(events))
        assert audit.total.decided == before.decided + len(events)
        done = anabranch(own, login(own, secured, "operator"), "status")
        assert done.returncode == 1
        assert f"topic {topology.reports} is missing" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        await ensure_topics(secured.admin, topology)
        await status_when(own, secured, lambda each: set.union(*each.values()) == {"up"})
    for name in EVERYTHING:
        text = (tmp_path / f"{name}.txt").read_text()
        assert text.count(topology.reports) == 1, text


async def test_a_component_that_reads_another_topic_is_refused_and_says_what_is_missing(
    own: Trained, secured: Secured, tmp_path: Path
) -> None:
    # It logs in as somebody who may read features, but no events.
    settings = login(own, secured, "risk-linear")
    with component(own, settings, "features", tmp_path) as worker:
        assert await asyncio.to_thread(worker.wait, 30) == 1
    text = (tmp_path / "features.txt").read_text()
    assert "the broker does not allow it" in text
    assert "--acls" in text
    assert "Traceback" not in text


def test_a_certificate_of_ours_is_enough_where_the_broker_asks_for_one(
    own: Trained, secured: Secured
) -> None:
    settings = {"BROKER": f"localhost:{secured.mutual}", "TLS": "true", "TLS_CA": secured.pem("ca")}
    done = anabranch(own, {**settings, "TLS_CERTIFICATE": secured.pem("client")}, "topics")
    assert done.returncode == 0, done.stderr


def test_the_rights_that_are_granted_are_those_that_are_written_out(
    own: Trained, secured: Secured
) -> None:
    printed = json.loads(anabranch(own, {}, "topics", "--acls", "--json").stdout)
    admin = AdminClient({"bootstrap.servers": secured.admin.broker})
    anything = AclBindingFilter(  # None is any, which its stubs do not know
        ResourceType.ANY, None, ResourcePatternType.ANY,  # type: ignore[arg-type]
        None, None, AclOperation.ANY, AclPermissionType.ANY,  # type: ignore[arg-type]
    )  # fmt: skip
    found = {
        (
            acl.principal,
            acl.operation.name.lower(),
            acl.restype.name.lower().replace("_", "-"),
            acl.name,
        )
        for acl in admin.describe_acls(anything).result(30)
    }
    assert found == {(f"User:{acl['principal']}", *list(acl.values())[1:]) for acl in printed}


def test_who_may_not_grant_is_told_so(own: Trained, secured: Secured) -> None:
    done = anabranch(own, login(own, secured, "features"), "topics", "--grant")
    assert done.returncode == 1
    assert "only a super user, or one who may alter the cluster, may grant" in done.stderr


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"TLS_CA": "{other_ca}"}, "is not trusted: unable to get local issuer certificate"),
        ({"BROKER": "127.0.0.1:{login}"}, "is not trusted: IP address mismatch"),
        ({"BROKER": "localhost:{expired}"}, "is not trusted: certificate has expired"),
        ({"SASL_PASSWORD": "wrong-" + PASSWORD}, "refuses the login by PLAIN"),
        ({"SASL_MECHANISM": "SCRAM-SHA-256"}, "refuses the login by SCRAM-SHA-256"),
        ({"TLS": "false", "TLS_CA": "", "SASL_WITHOUT_TLS": "true"}, "it may expect TLS"),
        ({"TLS": "false", "TLS_CA": ""}, "would be sent without TLS"),
        ({"BROKER": "{plain}"}, "where we speak none, or the reverse"),
    ],
)
def test_what_is_wrong_with_a_connection_is_named_within_30_s(
    own: Trained, secured: Secured, changed: dict[str, str], cause: str
) -> None:
    settings = login(own, secured, "features")
    for name, value in changed.items():
        settings[name] = value.format(
            **asdict(secured), plain=secured.admin.broker, other_ca=secured.pem("other-ca")
        )
    done = anabranch(own, {k: v for k, v in settings.items() if v}, "run", "--component",
                     "features", "--wait", "10")  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert cause in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert PASSWORD not in done.stdout + done.stderr
