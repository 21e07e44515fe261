"""When a component counts as stuck, and what the health port says of it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry, Gauge

from agents.process.http_port import MAX_CONNECTIONS, PortUnavailable, http_server
from agents.process.liveness import Liveness

EVENTS = TP("p.events", 0)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> Liveness:
    return Liveness(10.0, clock)


def look(liveness: Liveness, clock: Clock, places: list[tuple[int, int] | None]) -> None:
    """One look a second; None is a second without anything to do."""
    for place in places:
        clock.now += 1
        liveness.look({"risk": {} if place is None else {EVENTS: place}})


def test_what_moves_is_alive(liveness: Liveness, clock: Clock) -> None:
    look(liveness, clock, [(done, 100) for done in range(60)])
    assert not liveness.stuck()


def test_what_reads_on_is_alive_though_nothing_is_done_yet(
    liveness: Liveness, clock: Clock
) -> None:
    look(liveness, clock, [(0, given) for given in range(60)])
    assert not liveness.stuck()


def test_what_has_nothing_to_do_is_alive(liveness: Liveness, clock: Clock) -> None:
    look(liveness, clock, [None] * 60)
    assert not liveness.stuck()


def test_what_does_not_move_is_stuck_and_is_named(liveness: Liveness, clock: Clock) -> None:
    look(liveness, clock, [(7, 9)] * 11)
    assert not liveness.stuck()
    look(liveness, clock, [(7, 9)])
    assert liveness.stuck() == [
        "risk has had records to deal with on p.events[0]@7 for 11 s and came no further"
    ]
    look(liveness, clock, [(8, 9)])
    assert not liveness.stuck()


def test_a_pause_between_two_pieces_of_work_does_not_count(
    liveness: Liveness, clock: Clock
) -> None:
    look(liveness, clock, [(7, 9)] * 9 + [None] + [(7, 9)] * 9)
    assert not liveness.stuck()


def test_an_event_loop_that_does_not_run_is_stuck(liveness: Liveness, clock: Clock) -> None:
    clock.now += 1000
    assert not liveness.stuck(), "it has not begun"
    look(liveness, clock, [None])
    clock.now += 11
    assert liveness.stuck() == ["the event loop has not run for 11 s"]


def get(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except HTTPError as exc:
        return exc.code, exc.read()


def test_the_port_tells_metrics_health_and_readiness(liveness: Liveness, clock: Clock) -> None:
    registry = CollectorRegistry()
    Gauge("answer", "All of it", registry=registry).set(42)
    with http_server("127.0.0.1", 0, registry, liveness) as port:
        assert b"answer 42.0" in get(port, "/metrics")[1]
        assert get(port, "/healthz") == (200, b'{"live":true,"stuck":[],"refused":null}')
        assert get(port, "/readyz") == (503, b'{"ready":false}')
        liveness.ready = True
        assert get(port, "/readyz") == (200, b'{"ready":true}')
        look(liveness, clock, [(7, 9)] * 20)
        status, body = get(port, "/healthz")
        assert status == 503
        assert "p.events[0]@7" in json.loads(body)["stuck"][0]
        look(liveness, clock, [])
        liveness.refused = "topic p.events has 6 partitions"
        status, body = get(port, "/healthz")
        assert (status, json.loads(body)["refused"]) == (503, "topic p.events has 6 partitions")
        assert get(port, "/else")[0] == 404


def test_a_port_that_is_taken_is_said(liveness: Liveness) -> None:
    with (
        http_server("127.0.0.1", 0, CollectorRegistry(), liveness) as port,
        pytest.raises(PortUnavailable, match=f"127.0.0.1:{port}"),
        http_server("127.0.0.1", port, CollectorRegistry(), liveness),
    ):
        pass


@contextmanager
def connected(port: int, sent: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        yield connection


def answer_on(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def test_connections_that_say_nothing_hold_up_no_probe(liveness: Liveness) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(http_server("127.0.0.1", 0, CollectorRegistry(), liveness))
        before = threading.active_count()
        slow = [
            stack.enter_context(connected(port, b"GET /healthz HTTP/1.1\r\nX: "))
            for _ in range(MAX_CONNECTIONS + 20)
        ]
        assert get(port, "/healthz")[0] == 200
        assert [answer_on(each) for each in slow[:20]] == [b""] * 20, "the oldest are cut off"
        while threading.active_count() - before > MAX_CONNECTIONS:
            time.sleep(0.01)  # a thread whose connection was cut off has yet to notice


def test_a_request_that_comes_byte_by_byte_is_cut_off_in_the_end(
    liveness: Liveness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.process.http_port.ANSWERED_WITHIN_S", 0.5)

    def trickle(connection: socket.socket) -> None:
        for _ in range(200):  # each well within the socket's own time-out
            connection.sendall(b"x")
            time.sleep(0.05)

    with (
        http_server("127.0.0.1", 0, CollectorRegistry(), liveness) as port,
        connected(port, b"GET /healthz HTTP/1.1\r\nX: ") as slow,
        pytest.raises(OSError, match=r"Broken pipe|reset"),
    ):
        trickle(slow)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
    ],
    ids=["path", "header", "headers"],
)
def test_a_head_that_is_too_large_is_refused(liveness: Liveness, head: bytes) -> None:
    with http_server("127.0.0.1", 0, CollectorRegistry(), liveness) as port:
        with connected(port) as connection:
            with suppress(OSError):
                connection.sendall(head)
            assert answer_on(connection)[:12] in (b"HTTP/1.0 431", b"")
        assert get(port, "/healthz")[0] == 200
