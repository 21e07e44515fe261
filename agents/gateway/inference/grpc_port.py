"""The gateway's gRPC port: its socket, its limits, its end. It runs on the gateway's event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import grpc

from agents.gateway.gateway import Gateway
from agents.gateway.http_protocol import HEAD_WITHIN_S, MAX_HEAD_BYTES
from agents.gateway.inference.grpc_service import grpc_handlers
from agents.gateway.limits import Limits
from agents.gateway.server import END_WITHIN_S, AddressUnavailable

_CALLS = 1000
"""Of a connection at once; a client lets others wait."""
_IDLE_S, _PING_S, _PONG_S = 300, 60, 20
"""A connection without calls is closed; one with calls is asked whether the caller is there."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files; without a *key* of its own it is in the same file."""

    chain: Path
    key: Path | None = None


class GrpcPort:
    """A port that is bound, and serves nothing yet. Raises AddressUnavailable."""

    def __init__(
        self, host: str, port: int, limits: Limits, certificate: Certificate | None
    ) -> None:
        self._server = grpc.aio.server(
            options=_options(limits), maximum_concurrent_rpcs=limits.in_flight
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if certificate is None:
                self.number: int = self._server.add_insecure_port(address)
            else:
                self.number = self._server.add_secure_port(address, _credentials(certificate))
        except RuntimeError as exc:
            cause = "the address is not free, or not of this machine"
            raise AddressUnavailable(host, port, cause, "--grpc-port") from exc

    async def serve(self, gateway: Gateway, stopping: asyncio.Event) -> None:
        """Answer calls until *stopping*; those that are here then are answered."""
        self._server.add_generic_rpc_handlers(grpc_handlers(gateway))
        await self._server.start()
        try:
            await stopping.wait()
        finally:
            await self._server.stop(END_WITHIN_S)


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # or a second gateway would take half of the connections
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", _CALLS),
        ("grpc.max_metadata_size", MAX_HEAD_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_HEAD_BYTES),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: as it is, like REST
        ("grpc.server_handshake_timeout_ms", int(HEAD_WITHIN_S * 1000)),
        ("grpc.max_connection_idle_ms", _IDLE_S * 1000),
        ("grpc.keepalive_time_ms", _PING_S * 1000),
        ("grpc.keepalive_timeout_ms", _PONG_S * 1000),
    ]


def _credentials(certificate: Certificate) -> grpc.ServerCredentials:
    chain = certificate.chain.read_bytes()
    key = chain if certificate.key is None else certificate.key.read_bytes()
    return grpc.ssl_server_credentials([(key, chain)])
