"""What is around every gRPC call, with a caller and a gateway of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, NoReturn

import grpc
import pytest

from agents.gateway.access.guard import Guard, RateLimit
from agents.gateway.inference import open_inference_pb2 as messages
from agents.gateway.inference.grpc_service import _Envelope
from agents.gateway.limits import Limits


class Aborted(Exception):
    """As gRPC's own, which ends the call."""


class Caller:
    """The context of a call from 10.0.0.7."""

    code: grpc.StatusCode | None = None
    details = ""
    trailers: tuple[tuple[str, str], ...] = ()
    left_s: float | None = None

    async def abort(self, code: grpc.StatusCode, details: str, trailers: Any) -> NoReturn:
        self.code, self.details, self.trailers = code, details, trailers
        raise Aborted

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return (("x-any-bin", b"\0"), ("user-agent", "test"))

    def peer(self) -> str:
        return "ipv6:%5Bfe80::7%5D:5000"

    def time_remaining(self) -> float | None:
        return self.left_s


class Counted:
    """Metrics: route and status of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((route, status))


def gateway(guard: Guard | None = None) -> Any:
    limits = Limits(body_within_s=0.01)
    return SimpleNamespace(guard=guard or Guard(), limits=limits, metrics=Counted())


async def sent(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def nothing() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def live(_: object, __: object) -> messages.ServerLiveResponse:
    return messages.ServerLiveResponse(live=True)


async def broken(_: object, __: object) -> NoReturn:
    raise RuntimeError("secret")


async def answered(
    gateway: Any, requests: AsyncIterator[bytes], method: Any = live, caller: Caller | None = None
) -> Caller:
    caller = caller or Caller()
    envelope = _Envelope(gateway, asyncio.Semaphore(1), "/a/B", messages.ServerLiveRequest, method)
    try:
        assert (await envelope.answer(requests, caller)).live
    except Aborted:
        assert caller.code is not None
    return caller


async def test_a_call_is_answered_and_counted() -> None:
    asked = gateway()
    assert (await answered(asked, sent(b""))).code is None
    assert asked.metrics.calls == [("/a/B", 200)]


async def test_a_message_that_does_not_come_is_not_waited_for() -> None:
    asked = gateway()
    caller = await answered(asked, nothing())
    assert (caller.code, caller.details) == (
        grpc.StatusCode.DEADLINE_EXCEEDED, "the message did not come within 0.01 s",
    )  # fmt: skip
    assert asked.metrics.calls == [("/a/B", 408)]


async def test_an_error_of_its_own_is_a_number_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    asked = gateway()
    caller = await answered(asked, sent(b""), broken)
    assert caller.code == grpc.StatusCode.INTERNAL
    assert "secret" not in caller.details
    number = caller.details.rpartition(" ")[2]
    assert number in caplog.text
    assert "secret" in caplog.text
    assert asked.metrics.calls == [("/a/B", 500)]


async def test_a_rate_is_that_of_an_address_and_says_when_to_come_again() -> None:
    asked = gateway(Guard(rate=RateLimit(1)))
    assert (await answered(asked, sent(b""))).code is None
    caller = await answered(asked, nothing())  # refused before its message is waited for
    assert caller.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(caller.trailers) == {"retry-after": "1"}


@pytest.mark.parametrize(("left_s", "status"), [(0.0, 504), (5.0, 499), (None, 499)])
async def test_who_goes_away_is_counted_apart_from_who_had_no_more_time(
    left_s: float | None, status: int
) -> None:
    asked, caller = gateway(), Caller()
    caller.left_s = left_s

    async def waits(_: object, __: object) -> NoReturn:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await answered(asked, sent(b""), waits, caller)
    assert asked.metrics.calls == [("/a/B", status)]
