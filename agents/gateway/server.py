"""The gateway as a server: its socket, its connections, its end."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from agents.gateway.http_protocol import BoundedProtocol
from topics.errors import AnabranchError

_BACKLOG = 2048
_CONNECTIONS = 10_000
_KEEP_ALIVE_S = 30
END_WITHIN_S = 10
"""What is being answered when the gateway stops has so long."""


class AddressUnavailable(AnabranchError):
    """Nothing can listen there."""

    def __init__(self, host: str, port: int, cause: str, option: str = "--port") -> None:
        super().__init__(
            f"cannot listen on {host}:{port}: {cause}; give another {option}, or 0 for any"
        )


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's."""
        yield


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on *host*:*port* (0: any that is free). Raises AddressUnavailable."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as exc:
        cause = getattr(exc, "strerror", None) or str(exc)
        raise AddressUnavailable(host, port, cause) from exc


def allow_connections() -> None:
    """Have as many files open as the system lets us: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def serve(
    app: ASGIApp, listener: socket.socket, stopping: asyncio.Event, tls: ssl.SSLContext | None
) -> None:
    """Answer requests until *stopping*; those that are here then are answered."""
    allow_connections()
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="none", loop="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, backlog=_BACKLOG,
        limit_concurrency=_CONNECTIONS, timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=END_WITHIN_S,
    )  # fmt: skip
    config.load()
    if tls is not None:
        config.ssl = tls
    server = _Server(config)

    async def stop() -> None:
        await stopping.wait()
        server.should_exit = True

    stopper = asyncio.create_task(stop())
    try:
        await server.serve(sockets=[listener])
    finally:
        stopper.cancel()
