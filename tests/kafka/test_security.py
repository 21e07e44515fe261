"""A broker with TLS, users and an authorizer: who may, can; who may not is told why."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka.errors import GroupAuthorizationFailedError
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
    explaining,
    publish,
    publish_raw,
    renamed,
    settled,
    simulated,
    written,
)
from tests.kafka.secured import PASSWORD, Secured, secured_broker
from tests.page_consumer import loaded
from topics.kafka.batches import Record
from topics.pipeline.topology import EXPLAINER, Topology

EVENTS = 1000
WORKERS = (*EVERYTHING, EXPLAINER)


@pytest.fixture(scope="module")
def own(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    own = renamed(trained, tmp_path_factory.mktemp("secured-pipeline"))
    texts = {"en": {"groups": {"amount": "{amount:.2f} of {customer_id}"}}}
    return explaining(own, when=["decline", "review", "approve"], reasons=texts)


@pytest.fixture(scope="module")
def after(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A pipeline that is to take the place of *own*."""
    return renamed(trained, tmp_path_factory.mktemp("secured-after"))


@pytest.fixture(scope="module")
def secured(
    own: Trained, after: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    everybody = (*WORKERS, "operator", "consumer")
    users = [Topology.of(own.pipeline).group(name) for name in everybody]
    users.append(Topology.of(after.pipeline).group("operator"))
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
        for name in WORKERS:
            mechanism = "SCRAM-SHA-512" if name == "features" else "PLAIN"
            settings = login(own, secured, name, mechanism)
            worker = stack.enter_context(component(own, settings, name, tmp_path, "--verbose"))
            assert not any(PASSWORD in word for word in psutil.Process(worker.pid).cmdline())
        await publish(secured.admin, own.pipeline, events, 500)
        audit = await settled(secured.admin, own.pipeline, EVENTS)
        await written(secured.admin, Topology.of(own.pipeline).explanations, EVENTS)
    assert audit.passed
    assert audit.total.decided == EVENTS
    text = "".join((tmp_path / f"{name}.txt").read_text() for name in WORKERS)
    assert "running on localhost" in text
    assert PASSWORD not in text
    assert not any(value.decode() in text for _, value in events), "an event's content is logged"


async def test_a_consumer_counts_decisions_in_a_group_of_its_own_and_in_no_other(
    own: Trained, secured: Secured, tmp_path: Path
) -> None:
    topology = Topology.of(own.pipeline)
    written = (await audit_topics(secured.admin, topology, None)).written.decisions
    assert written >= EVENTS
    tls = ssl.create_default_context(cafile=secured.pem("ca"))
    connection = {
        "bootstrap_servers": f"localhost:{secured.login}", "security_protocol": "SASL_SSL",
        "ssl_context": tls, "sasl_mechanism": "PLAIN", "sasl_plain_password": PASSWORD,
        "sasl_plain_username": topology.group("consumer"),
    }  # fmt: skip
    consume = loaded()["consume"]
    database = sqlite3.connect(tmp_path / "decisions.db")
    task = asyncio.create_task(
        consume(own.pipeline.name, topology.group("consumer.ledger"), database, **connection)
    )
    while not task.done():
        await asyncio.sleep(0.2)
        with suppress(sqlite3.OperationalError):  # no table yet
            if database.execute("SELECT count(*) FROM decision").fetchone()[0] >= written:
                break
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert database.execute("SELECT count(*) FROM decision").fetchone() == (written,)
    with pytest.raises(GroupAuthorizationFailedError):
        await consume(own.pipeline.name, topology.group("weigh"), database, **connection)


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
        for name in WORKERS:
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
    for name in WORKERS:
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
            acl.resource_pattern_type.name.lower(),
        )
        for acl in admin.describe_acls(anything).result(30)
        if acl.principal.startswith(f"User:{own.pipeline.name}.")
        and acl.name.startswith(f"{own.pipeline.name}.")
    }
    assert found == {(f"User:{acl['principal']}", *list(acl.values())[1:]) for acl in printed}


def test_the_operator_of_a_changed_pipeline_may_run_its_rollout(
    own: Trained, after: Trained, secured: Secured
) -> None:
    admin = {"BROKER": secured.admin.broker}
    assert anabranch(after, admin, "topics", "--create", "--grant").returncode == 0
    login_of = login(after, secured, "operator")

    def rollout(settings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
        command, *options = words
        return subprocess.run(
            [sys.executable, "-m", "agents", "rollout", command, str(after.file.path), "--from",
             str(own.file.path), *options],
            env=environment(after, settings), capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    refused = rollout(login_of, "copy", "--once")
    assert refused.returncode == 1
    assert "hidden from us" in refused.stderr
    granted = rollout(admin, "acls", "--grant")
    assert granted.returncode == 0, granted.stderr
    copied = rollout(login_of, "copy", "--once", "--json")
    assert copied.returncode == 0, copied.stderr
    assert json.loads(copied.stdout)["copied"] >= EVENTS
    compared = rollout(login_of, "compare")
    assert (compared.returncode, compared.stdout.splitlines()[0]) == (
        1, f"0 events decided by {own.pipeline.name} and {after.pipeline.name}, 0 by one of them",
    )  # fmt: skip
    nobody = rollout(login_of, "switch")
    assert "is not ready to take over: features is down on 4 partitions" in nobody.stderr
    back = rollout(login_of, "back")
    assert "is in service already" in back.stderr


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
