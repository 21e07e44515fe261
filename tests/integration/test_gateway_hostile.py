"""What is done to a gateway as it ships by those who mean ill, or whose client is broken.

Each is answered as HTTP says or cut off; after each the gateway answers a good request before its
deadline, waits for nobody, and is not much larger than before.
"""

from __future__ import annotations

import gzip
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import orjson
import psutil
import pytest

from agents.gateway.http_protocol import MAX_BEHIND
from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import PATIENCE_S, Trained, worker_process
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_refusals import NAN, event, in_flight, request_of, sent
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings

CONNECTIONS = 5000
MORE_MB = 400
"""So much may bodies (128 MiB of them, `Limits.room`), connections and what the allocator keeps of
both take. Bodies without a bound would be 380 MiB, and twice that with the pieces they come in."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return own_components(tmp_path_factory.mktemp("own"), "fail")


@pytest.fixture(scope="module")
def running(own: Trained) -> Iterator[RunningGateway]:
    with EmbeddedBroker() as embedded:
        settings = BrokerSettings(broker=embedded.address, embedded=True)
        with (
            worker_process(own, settings, "features", "large", "weigh"),
            worker_process(own, settings, "mendable"),
            gateway_process(own, settings) as gateway,
        ):
            assert gateway.predict(event("first"), "?deadline_ms=60000").status_code == 200
            yield gateway


@pytest.fixture(scope="module")
def before_mb(running: RunningGateway) -> float:
    return rss_mb(running)


def rss_mb(gateway: RunningGateway) -> float:
    return float(psutil.Process(gateway.process.pid).memory_info().rss / 1e6)


@pytest.fixture
def gateway(running: RunningGateway, before_mb: float) -> Iterator[RunningGateway]:
    yield running
    in_flight(running, 0)
    answer = running.predict(event("good"))
    assert answer.status_code == 200, answer.text
    assert rss_mb(running) < before_mb + MORE_MB


def post(body: bytes, *headers: str, path: str = "/predict") -> bytes:
    """A request whose length is what *headers* say."""
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def sized(body: bytes, *headers: str) -> bytes:
    return post(body, f"content-length: {len(body)}", *headers)


GOOD = orjson.dumps(event("x"))
WRONG: dict[str, tuple[bytes, int]] = {
    "malformed JSON": (sized(b'{"transaction_id": '), 400),
    "no JSON": (sized(b"\x00\xff\xfe"), 400),
    "text that is no UTF-8": (sized(GOOD.replace(b'"x"', b'"\xff"')), 400),
    "half of a surrogate pair": (sized(GOOD.replace(b'"x"', b'"\\ud800"')), 400),
    "a number of a million digits": (sized(GOOD.replace(b"12.01", b"9" * 10**6)), 400),
    "a list in lists": (sized(b"[" * 100_000), 400),
    "NaN": (sized(NAN), 400),
    "nothing": (sized(b""), 400),
    "ten thousand rows": (sized(b"[" + b",".join([GOOD] * 10_000) + b"]"), 413),
    "more bytes than any request may have": (sized(b" " * (5 * 2**20)), 413),
    "another content-type": (
        sized(GOOD).replace(b"application/json", b"application/xml"), 415,
    ),
    "a bomb of gzip": (sized(gzip.compress(b" " * 10**8), "content-encoding: gzip"), 415),
    "a length that is none": (post(GOOD, "content-length: ten"), 400),
    "a negative length": (post(GOOD, "content-length: -5"), 400),
    "two lengths": (post(GOOD, f"content-length: {len(GOOD)}", "content-length: 3"), 400),
    "a length and chunks": (
        post(b"0\r\n\r\n", "content-length: 3", "transfer-encoding: chunked"), 400,
    ),
    "a chunk without a size": (post(b"zz\r\n", "transfer-encoding: chunked"), 400),
    "a negative chunk": (post(b"-1\r\n", "transfer-encoding: chunked"), 400),
    "a chunk beyond all numbers": (post(b"f" * 40 + b"\r\n", "transfer-encoding: chunked"), 400),
    "a chunk longer than it says": (
        post(b"2\r\nabcdef\r\n0\r\n\r\n", "transfer-encoding: chunked"), 400,
    ),
    "another transfer encoding": (post(GOOD, "transfer-encoding: gzip"), 400),
    "a header that is none": (sized(GOOD, "no colon"), 400),
    "a header of two lines": (sized(GOOD, "x: a\r\n b\r\n: c"), 400),
    "a version that is none": (sized(GOOD).replace(b"HTTP/1.1", b"HTTP/9.9"), 400),
    "a method that is none": (sized(GOOD).replace(b"POST", b"P\x00ST"), 400),
    "a method that is not ours": (sized(GOOD).replace(b"POST", b"PUT"), 405),
    "a path that is none": (sized(GOOD).replace(b"/predict", b"/../../etc/passwd"), 404),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_answered_with_its_status(gateway: RunningGateway, what: str) -> None:
    request, status = WRONG[what]
    said = sent(gateway, request)
    assert said.startswith(b"HTTP/1.1 %d " % status), said[:300]
    assert b"Traceback" not in said


def opened(gateway: RunningGateway, stack: ExitStack) -> socket.socket:
    address = ("127.0.0.1", gateway.port)
    return stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S))


def answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """The next *count* answers on *connection*: status and body."""
    found, stream = list[tuple[int, bytes]](), connection.makefile("rb")
    for _ in range(count):
        status = int(stream.readline().split()[1])
        head = dict(iter(lambda: stream.readline().lower().partition(b":")[::2], (b"\r\n", b"")))
        found.append((status, stream.read(int(head.get(b"content-length", b"0")))))
    return found


def test_two_hundred_slow_heads_and_bodies_are_cut_off_and_hold_up_nobody(
    gateway: RunningGateway,
) -> None:
    whole = sized(GOOD)
    with ExitStack() as stack:
        slow = [opened(gateway, stack) for _ in range(200)]
        for number, connection in enumerate(slow):
            connection.sendall(whole[:40] if number % 2 else whole[:-5])
        for _ in range(5):
            time.sleep(0.2)
            assert gateway.predict(event("meanwhile")).status_code == 200
            for connection in slow[1::2]:
                connection.sendall(b"x: y\r\n"[:1])
        assert {connection.recv(12) for connection in slow} == {b"HTTP/1.1 408"}


def test_a_body_that_never_comes_whole_is_no_event(gateway: RunningGateway) -> None:
    assert sent(gateway, sized(GOOD)[:-5], end=True) == b""
    assert gateway.get("/decisions/x").status_code == 404


def test_a_body_longer_than_its_length_is_another_request(gateway: RunningGateway) -> None:
    with ExitStack() as stack:
        connection = opened(gateway, stack)
        body = orjson.dumps(event("short"))
        connection.sendall(post(body + b"GET smuggled", f"content-length: {len(body)}"))
        connection.sendall(b"\r\n\r\n")
        (first, second) = answers(connection, 2)
        assert (first[0], orjson.loads(first[1])["event_id"]) == (200, "short")
        assert second[0] == 400


def test_requests_one_behind_the_other_are_answered_in_their_order(
    gateway: RunningGateway,
) -> None:
    count = 100
    with ExitStack() as stack:
        connection = opened(gateway, stack)
        connection.sendall(b"".join(request_of(event(f"p-{n}")) for n in range(count)))
        found = answers(connection, count)
    assert {status for status, _ in found} == {200}
    assert [orjson.loads(body)["event_id"] for _, body in found] == [f"p-{n}" for n in range(count)]


def test_who_asks_whether_to_go_on_is_told_to(gateway: RunningGateway) -> None:
    with ExitStack() as stack:
        connection = opened(gateway, stack)
        body = orjson.dumps(event("continued"))
        connection.sendall(post(b"", f"content-length: {len(body)}", "expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        ((status, _),) = answers(connection, 1)
    assert status == 200


def test_many_who_go_away_in_mid_wait_are_waited_for_no_longer(
    own: Trained, gateway: RunningGateway
) -> None:
    halt = own.home / "halt"
    halt.touch()
    try:
        with ExitStack() as stack:
            waiting = [opened(gateway, stack) for _ in range(200)]
            for number, connection in enumerate(waiting):
                connection.sendall(request_of(event(f"gone-{number}")))
            in_flight(gateway, 200)
            for connection in waiting:
                # Reset, not closed: what is closed may still be read from.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + b"\0" * 4)
        in_flight(gateway, 0)
    finally:
        halt.unlink()


def test_five_thousand_connections_are_all_answered(gateway: RunningGateway) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 100:
        pytest.skip(f"no more than {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with ExitStack() as stack:
            many = [opened(gateway, stack) for _ in range(CONNECTIONS)]
            assert gateway.predict(event("among many")).status_code == 200
            for connection in many:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert {connection.recv(12) for connection in many} == {b"HTTP/1.1 200"}
            assert gateway.predict(event("still")).status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_requests_behind_each_other_than_are_remembered_end_the_connection(
    gateway: RunningGateway,
) -> None:
    with ExitStack() as stack:
        connection = opened(gateway, stack)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 5000)
        statuses = re.findall(rb"HTTP/1.1 (\d+)", connection.makefile("rb").read())
    assert (set(statuses[:-1]), statuses[-1]) == ({b"200"}, b"400")
    assert MAX_BEHIND <= len(statuses) < 5000


def test_who_has_said_all_gets_every_answer(gateway: RunningGateway) -> None:
    with ExitStack() as stack:
        connection = opened(gateway, stack)
        connection.sendall(request_of(event("h-0")) + request_of(event("h-1")))
        connection.shutdown(socket.SHUT_WR)
        assert [status for status, _ in answers(connection, 2)] == [200, 200]


def test_a_wrong_chunk_behind_a_request_leaves_that_its_answer(gateway: RunningGateway) -> None:
    with ExitStack() as stack:
        connection = opened(gateway, stack)
        connection.sendall(request_of(event("c-0")) + WRONG["a chunk without a size"][0])
        assert [status for status, _ in answers(connection, 2)] == [200, 400]


def test_answers_that_nobody_reads_and_bodies_that_never_end_are_bounded(
    gateway: RunningGateway,
) -> None:
    endless = post(b" " * (4 * 2**20 - 1), f"content-length: {4 * 2**20}")
    with ExitStack() as stack:
        for number in range(100):
            connection = opened(gateway, stack)
            connection.setblocking(False)
            asked = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 25_000
            with suppress(BlockingIOError):
                connection.send(asked if number < 5 else endless)
        for _ in range(10):
            time.sleep(0.1)
            assert gateway.predict(event("meanwhile")).status_code == 200
