"""A connection of the gateway whose caller does not read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from agents.gateway import http_protocol
from agents.gateway.http_protocol import BoundedProtocol


class Transport(asyncio.Transport):
    """One that notes whether it was cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = asyncio.Event()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        """It was asked to."""

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted.set()


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Nothing is asked here."""


def connected() -> tuple[BoundedProtocol, Transport]:
    config = uvicorn.Config(
        answer, http=BoundedProtocol, ws="none", lifespan="off", log_config=None
    )
    config.load()
    protocol = BoundedProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    transport = Transport()
    protocol.connection_made(transport)
    return protocol, transport


async def test_who_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_READ_WITHIN_S", 0.01)
    protocol, transport = connected()
    protocol.pause_writing()
    await transport.aborted.wait()
    protocol.connection_lost(None)


async def test_who_reads_again_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_READ_WITHIN_S", 0.01)
    protocol, transport = connected()
    protocol.pause_writing()
    protocol.resume_writing()
    await asyncio.sleep(0.05)
    assert not transport.aborted.is_set()
    protocol.connection_lost(None)
