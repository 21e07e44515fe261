"""What a gateway refuses, and what it says where there is no decision."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import PATIENCE_S, Trained, worker_process
from tests.integration.test_explain import own_components
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings

FAILS = 12.0
"""An amount that `Mendable` fails on while it is broken: a multiple of four cents."""
GOOD = 12.01


def event(name: str, amount: Any = GOOD, **fields: Any) -> dict[str, Any]:
    return {
        "transaction_id": name, "occurred_at": "2026-01-31T12:00:00Z", "customer_id": "c-1",
        "terminal_id": "t-1", "amount": amount, **fields,
    }  # fmt: skip


NAN = orjson.dumps(event("x", 0.5)).replace(b"0.5", b"NaN")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A pipeline that needs no models and says what fails: see `own_components`."""
    return own_components(tmp_path_factory.mktemp("own"), "fail")


@pytest.fixture(scope="module")
def broker(own: Trained) -> Iterator[BrokerSettings]:
    with EmbeddedBroker() as embedded:
        settings = BrokerSettings(broker=embedded.address, embedded=True)
        with (
            worker_process(own, settings, "features", "large", "weigh"),
            worker_process(own, settings, "mendable"),
        ):
            yield settings


@pytest.fixture(scope="module")
def gateway(own: Trained, broker: BrokerSettings) -> Iterator[RunningGateway]:
    words = ("--deadline-ms", "60000", "--max-events", "100", "--max-body", "65536")
    with gateway_process(own, broker, *words) as gateway:
        yield gateway
        assert gateway.predict(event("last")).status_code == 200, "it has died of nothing"


def test_a_dead_letter_is_answered_with_its_reason_and_its_coordinates(
    gateway: RunningGateway,
) -> None:
    answer = gateway.predict(event("dead", FAILS))
    said = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (said["stage"], said["event_id"]) == ("mendable", "dead")
    assert "a multiple of four" in said["reason"]
    later = gateway.get(f"/decisions?source={said['source']}")
    assert (later.status_code, later.json()["dead_letter"]["stage"]) == (404, "mendable")


def test_coordinates_of_another_topic_are_answered_at_once(gateway: RunningGateway) -> None:
    answer = gateway.get("/decisions?source=elsewhere/182540/7")
    assert answer.status_code == 404
    assert "events are on own.events" in answer.json()["detail"]


def test_a_list_says_of_each_event_what_it_came_to(gateway: RunningGateway) -> None:
    answer = gateway.predict([event("a"), event("b", FAILS), event("c")])
    assert answer.status_code == 422
    first, dead, last = answer.json()["results"]
    assert (first["event_id"], last["event_id"]) == ("a", "c")
    assert first["score"] == pytest.approx(0.75 * GOOD / 500 + 0.25 * 0.5)
    assert (dead["status"], dead["event_id"]) == (422, "b")
    assert answer.json()["detail"].startswith("1 of 3 events have no decision: ")


def test_a_deadline_names_the_stage_that_is_waited_for_and_the_coordinates(
    own: Trained, gateway: RunningGateway
) -> None:
    halt = own.home / "halt"
    halt.touch()
    try:
        answer = gateway.predict(event("late"), "?deadline_ms=3000")
    finally:
        halt.unlink()
    said = answer.json()
    assert answer.status_code == 504, said
    assert said["waits_for"].startswith("mendable")
    assert said["source"].startswith("own.events/")
    source = said["source"]
    deadline = time.monotonic() + PATIENCE_S
    while (later := gateway.get(f"/decisions?source={source}")).status_code != 200:
        assert time.monotonic() < deadline, later.text
        time.sleep(0.1)
    assert later.json()["event_id"] == "late"


@pytest.mark.parametrize(
    ("content", "field", "reason"),
    [
        (event("x", "a lot"), "amount", "valid number"),
        (event("x", surplus=1), "surplus", "no such field"),
        (NAN, "amount", "finite"), (b"[" + NAN + b"]", "amount", "finite"),
        ({k: v for k, v in event("x").items() if k != "amount"}, "amount", "required"),
        (event("x", occurred_at="yesterday"), "occurred_at", ""),
        (event("x", occurred_at="2999-01-01T00:00:00Z"), "occurred_at", "FutureEventTime"),
        ([event("x"), event("y", None)], "amount", "null is for optional fields"),
        (b"{", "", "JSON"), (b"[1,", "", "JSON"), (b"", "", "JSON"), (b"[]", "", "no event"),
        (b"null", "", ""), (b"[null]", "", ""), (b"\xff\xfe", "", ""), (b"[" * 100_00, "", ""),
        (b'{"a":' * 9000, "", ""), ([[event("x")]], "", ""),
    ],
)  # fmt: skip
def test_a_bad_event_is_refused_and_its_field_is_named(
    gateway: RunningGateway, content: object, field: str, reason: str
) -> None:
    answer = gateway.predict(content)
    said = answer.json()
    assert (answer.status_code, said["field"]) == (400, field), said
    assert reason in said["detail"]


def test_of_a_list_with_a_bad_event_none_is_published(gateway: RunningGateway) -> None:
    answer = gateway.predict([event("only-if-all"), event("x", True), event("y", "z", more=1)])
    assert answer.status_code == 400
    assert [(e["event"], e["field"]) for e in answer.json()["errors"]] == [
        (1, "amount"), (2, "amount"), (2, "more")
    ]  # fmt: skip
    assert gateway.get("/decisions/only-if-all").status_code == 404


@pytest.mark.parametrize("since", ["0", "1700000000", "yesterday", ""])
def test_a_number_is_no_time_since_which_to_look(gateway: RunningGateway, since: str) -> None:
    answer = gateway.get(f"/decisions/any?since={since}")
    assert (answer.status_code, answer.json()["field"]) == (400, "since")


@pytest.mark.parametrize("query", ["?deadline_ms=0", "?deadline_ms=x", "?explain=maybe", "?x=1"])
def test_a_wrong_parameter_is_named(gateway: RunningGateway, query: str) -> None:
    answer = gateway.predict(event("x"), query)
    assert (answer.status_code, answer.json()["field"]) == (400, query[1:].partition("=")[0])


def test_too_much_and_the_wrong_kind_are_refused(gateway: RunningGateway) -> None:
    many = gateway.predict([event("x")] * 101)
    assert (many.status_code, "101 events" in many.text) == (413, True)
    rows = gateway.predict([event("x")] * 10_000)
    assert (rows.status_code, "65,536 bytes" in rows.text) == (413, True)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert gateway.predict(event("x"), **{"content-type": kind}).status_code == 415
    packed = gateway.predict(event("x"), **{"content-encoding": "gzip"})
    assert packed.status_code == 415
    assert gateway.get("/predict").status_code == 405
    nowhere = gateway.get("/nowhere")
    assert (nowhere.status_code, nowhere.json()["status"]) == (404, 404)


def test_answers_keep_browsers_out_and_name_no_server(gateway: RunningGateway) -> None:
    answer = gateway.predict(event("x"))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    elsewhere = {"origin": "https://elsewhere.example"}
    assert gateway.predict(event("x"), **elsewhere).status_code == 403
    assert gateway.predict(event("x"), **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert gateway.predict(event("x"), origin=gateway.url).status_code == 200
    asked = {**elsewhere, "access-control-request-method": "POST"}
    preflight = httpx.options(f"{gateway.url}/predict", headers=asked)
    assert preflight.status_code == 403
    assert "access-control-allow-origin" not in preflight.headers


def test_monitoring_and_the_contract_are_there(gateway: RunningGateway) -> None:
    assert gateway.predict(event("counted")).status_code == 200
    assert gateway.get("/healthz").json() == {"live": True}
    assert gateway.get("/readyz").json() == {"ready": True}
    lines = gateway.get("/metrics").text.splitlines()
    decided = [line for line in lines if line.startswith("anabranch_gateway_events_total{") and
               'outcome="decided"' in line]  # fmt: skip
    assert float(decided[0].split()[-1]) >= 1
    assert "anabranch_gateway_in_flight_events" in "\n".join(lines)
    spec = gateway.get("/openapi.json").json()
    assert {"/predict", "/decisions", "/decisions/{event_id}", "/healthz"} <= {*spec["paths"]}
    answers = spec["paths"]["/predict"]["post"]["responses"]
    assert {"200", "400", "413", "415", "422", "429", "503", "504"} <= {*answers}
    assert spec["components"]["schemas"]["Event"]["required"] == [*event("x")]


def sent(gateway: RunningGateway, *parts: bytes, wait_s: float = 0.0, end: bool = False) -> bytes:
    """What comes back for raw bytes."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE_S) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(wait_s)
        if end:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while b"\r\n\r\n" not in said and (more := connection.recv(65536)):
                said += more
        except ConnectionResetError:
            pass
        return said


def request_of(content: dict[str, Any], *headers: str) -> bytes:
    body = orjson.dumps(content)
    lines = ["POST /predict HTTP/1.1", "host: x", "content-type: application/json",
             f"content-length: {len(body)}", *headers]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_header_bombs_are_refused(gateway: RunningGateway) -> None:
    many = [f"x-{number}: {'y' * 100}" for number in range(2000)]
    assert sent(gateway, request_of(event("x"), *many)).startswith(b"HTTP/1.1 431")
    assert sent(gateway, request_of(event("x"), "x: " + "y" * 100_000)).startswith(b"HTTP/1.1 431")
    longest = b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    assert sent(gateway, longest).startswith(b"HTTP/1.1 431")
    assert sent(gateway, b"\x16\x03\x01 no HTTP at all\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_who_has_said_all_still_gets_the_answer(gateway: RunningGateway) -> None:
    assert sent(gateway, request_of(event("half-closed")), end=True).startswith(b"HTTP/1.1 200")


def test_who_goes_away_takes_no_room_for_longer_than_the_deadline(
    own: Trained, gateway: RunningGateway
) -> None:
    halt = own.home / "halt"
    halt.touch()
    try:
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            body = request_of(event("gone")).replace(b"/predict", b"/predict?deadline_ms=1500")
            connection.sendall(body)
            in_flight(gateway, 1)
        in_flight(gateway, 0)
    finally:
        halt.unlink()


def in_flight(gateway: RunningGateway, count: int) -> None:
    """Wait until so many events' callers wait."""
    wanted = f'anabranch_gateway_in_flight_events{{pipeline="own"}} {count}.0'
    deadline = time.monotonic() + PATIENCE_S / 10
    while wanted not in gateway.get("/metrics").text:
        assert time.monotonic() < deadline, f"not {count}"
        time.sleep(0.05)


def test_slow_heads_hold_up_nobody(gateway: RunningGateway) -> None:
    slow = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(300)]
    for connection in slow:
        connection.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\nx-slow: ")
    assert gateway.predict(event("quick")).status_code == 200
    slow[0].settimeout(PATIENCE_S)
    assert slow[0].recv(1000).startswith(b"HTTP/1.1 408")
    for connection in slow:
        connection.close()


def test_thousands_of_connections_are_all_answered(gateway: RunningGateway) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with ExitStack() as stack:
            many = [
                stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
                for _ in range(min(2000, hard // 2))
            ]
            for connection in many:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                connection.settimeout(PATIENCE_S)
            assert {connection.recv(12) for connection in many} == {b"HTTP/1.1 200"}
            assert gateway.predict(event("among many")).status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_overload_is_refused_with_a_time_to_come_again(
    own: Trained, broker: BrokerSettings
) -> None:
    halt, ten = own.home / "halt", [event(f"{number}") for number in range(10)]
    with (
        gateway_process(own, broker, "--max-in-flight", "10") as small,
        ThreadPoolExecutor(1) as pool,
    ):
        halt.touch()
        try:
            waiting = pool.submit(small.predict, ten, "?deadline_ms=60000")
            in_flight(small, 10)
            refused = small.predict(event("one more"))
        finally:
            halt.unlink()
        assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (429, True)
        assert waiting.result().status_code == 200
        assert small.predict(event("again"), "?deadline_ms=60000").status_code == 200


def test_a_pipeline_that_nobody_runs_is_unavailable(own: Trained) -> None:
    with EmbeddedBroker() as embedded:
        settings = BrokerSettings(broker=embedded.address, embedded=True)
        with gateway_process(own, settings, ready=False) as alone:
            answer = alone.predict(event("x"))
            assert (answer.status_code, answer.json()["down"]) == (503, ["weigh"])
            assert int(answer.headers["retry-after"]) >= 1
            assert alone.get("/readyz").status_code == 503
            assert alone.get("/healthz").status_code == 200


def test_a_broker_that_is_gone_makes_it_unavailable_within_seconds(own: Trained) -> None:
    embedded = EmbeddedBroker()
    settings = BrokerSettings(broker=embedded.address, embedded=True)
    with gateway_process(own, settings, ready=False) as alone:
        embedded.close()
        deadline = time.monotonic() + PATIENCE_S
        while "no Kafka broker answers" not in (answer := alone.get("/readyz")).text:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.2)
        assert alone.predict(event("x")).status_code == 503


def test_a_missing_broker_or_address_is_one_line(own: Trained, tmp_path: Path) -> None:
    from tests.integration.test_cli import anabranch

    done = anabranch(own, "gateway", str(own.file.path))
    assert (done.returncode, "no broker" in done.stderr) == (1, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = anabranch(own, "gateway", str(own.file.path), "--port", port, broker="127.0.0.1:1")
    assert (done.returncode, f"cannot listen on 127.0.0.1:{port}" in done.stderr) == (1, True)
    assert json.dumps(done.stdout) == '""'
