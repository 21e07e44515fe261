"""Others' contracts: CloudEvents over HTTP, and SageMaker's container."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from tests.contracts import validator
from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import PATIENCE_S, Trained, worker_process
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_refusals import FAILS, GOOD, event
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings

ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "sale"}
BINARY = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
SCORE = 0.75 * GOOD / 500 + 0.25 * 0.5


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    own: Trained = own_components(tmp_path_factory.mktemp("own"), "fail")
    with EmbeddedBroker() as embedded:
        broker = BrokerSettings(broker=embedded.address, embedded=True)
        words = ("--deadline-ms", "60000")
        with worker_process(own, broker), gateway_process(own, broker, *words) as gateway:
            yield gateway


def post(
    gateway: RunningGateway, path: str, content: object, kind: str, **headers: str
) -> httpx.Response:
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    given = {"content-type": kind, **headers}
    return httpx.post(f"{gateway.url}{path}", content=body, headers=given, timeout=PATIENCE_S)


def structured(name: str) -> dict[str, Any]:
    return {**ATTRIBUTES, "data": event(name)}


@pytest.mark.parametrize(
    ("content", "kind", "headers", "count"),
    [
        (event("binary"), "application/json", BINARY, 1),
        (structured("structured"), "application/cloudevents+json; charset=utf-8", {}, 1),
        ([structured("b-1"), structured("b-2")], "application/cloudevents-batch+json", {}, 2),
    ],
)
def test_cloud_events_are_published_and_decided_later(
    gateway: RunningGateway, content: object, kind: str, headers: dict[str, str], count: int
) -> None:
    answer = post(gateway, "/events", content, kind, **headers)
    assert answer.status_code == 202, answer.text
    sources = answer.json()["sources"]
    assert len(sources) == count
    deadline = time.monotonic() + PATIENCE_S
    while (later := gateway.get(f"/decisions?source={sources[-1]}")).status_code != 200:
        assert time.monotonic() < deadline, later.text
        time.sleep(0.1)
    assert later.json()["score"] == pytest.approx(SCORE)


@pytest.mark.parametrize(
    ("content", "kind", "headers", "status", "field"),
    [
        (event("x"), "application/json", {}, 400, "ce-specversion"),
        (event("x"), "application/json", {**BINARY, "ce-specversion": "0.3"}, 400,
         "ce-specversion"),
        (ATTRIBUTES, "application/cloudevents+json", {}, 400, "data"),
        ({**ATTRIBUTES, "data": event("x", "a")}, "application/cloudevents+json", {}, 400,
         "amount"),
        ([structured("x"), 7], "application/cloudevents-batch+json", {}, 400, ""),
        ({}, "application/cloudevents-batch+json", {}, 400, ""),
        (b"{", "application/cloudevents+json", {}, 400, ""),
        (event("x"), "text/plain", {}, 415, None),
    ],
)  # fmt: skip
def test_what_is_no_cloud_event_is_refused(
    gateway: RunningGateway, content: object, kind: str, headers: dict[str, str], status: int,
    field: str | None,
) -> None:  # fmt: skip
    answer = post(gateway, "/events", content, kind, **headers)
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text


def test_sagemaker_gets_decisions_in_the_form_that_it_asks_in(gateway: RunningGateway) -> None:
    assert gateway.get("/ping").status_code == 200
    assert gateway.get("/execution-parameters").json() == {
        "MaxConcurrentTransforms": 32, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 4,
    }  # fmt: skip
    one = post(gateway, "/invocations", event("j"), "application/json")
    assert one.json()["score"] == pytest.approx(SCORE)
    lines = b"\n".join(orjson.dumps(event(f"l-{n}")) for n in range(3)) + b"\n"
    answer = post(gateway, "/invocations", lines, "application/jsonlines")
    records = [orjson.loads(line) for line in answer.content.splitlines()]
    assert [record["event_id"] for record in records] == ["l-0", "l-1", "l-2"]
    rows = f"c-1,2026-01-31T12:00:00Z,c,t,{GOOD}\nc-2,2026-01-31T12:00:00Z,c,t,500.01\n"
    names = "transaction_id,occurred_at,customer_id,terminal_id,amount\n"
    for table in (rows, names + rows):
        answer = post(gateway, "/invocations", table.encode(), "text/csv")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/csv")
        decided = [line.split(",") for line in answer.text.splitlines()]
        assert [decision for decision, _ in decided] == ["approve", "decline"]
        assert float(decided[0][1]) == pytest.approx(SCORE)


def test_a_bad_invocation_names_its_row_and_field(gateway: RunningGateway) -> None:
    bad = b"c-1,2026-01-31T12:00:00Z,c,t,1.5\nc-2,2026-01-31T12:00:00Z,c,t,much\n"
    answer = post(gateway, "/invocations", bad, "text/csv")
    said = answer.json()
    assert (answer.status_code, said["event"], said["field"]) == (400, 1, "amount")
    assert post(gateway, "/invocations", b"a,b\n", "text/csv").status_code == 400
    assert post(gateway, "/invocations", b"\xff", "text/csv").status_code == 400
    assert post(gateway, "/invocations", b"", "text/csv").status_code == 400
    assert post(gateway, "/invocations", b"{}\n{", "application/jsonlines").status_code == 400
    assert post(gateway, "/invocations", b"x", "image/png").status_code == 415
    dead = post(gateway, "/invocations", event("d", FAILS), "application/json")
    assert (dead.status_code, dead.json()["stage"]) == (422, "mendable")


def test_the_openapi_document_has_the_schemas_of_the_topics_and_says_who_needs_a_key(
    gateway: RunningGateway,
) -> None:
    document = gateway.get("/openapi.json").json()
    decision = gateway.predict(event("one")).json()
    assert validator({"$ref": "#/components/schemas/Decision"}, document).is_valid(decision)
    event_schema = validator({"$ref": "#/components/schemas/Event"}, document)
    assert event_schema.is_valid(event("x"))
    assert not event_schema.is_valid({**event("x"), "surplus": 1})
    wants_key = {path for path, methods in document["paths"].items()
                 for operation in methods.values() if "security" in operation}  # fmt: skip
    assert {} in document["paths"]["/predict"]["post"]["security"], "this gateway has no keys"
    assert wants_key >= {"/predict", "/events", "/invocations", "/metrics", "/v2"}
    assert not wants_key & {"/healthz", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready"}
