"""The gateway's own certificate, and which addresses need a guard."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from pathlib import Path

from topics.errors import AnabranchError


class CertificateUnusable(AnabranchError):
    """The gateway cannot prove who it is by these files."""

    def __init__(self, certificate: Path, key: Path | None, cause: str) -> None:
        files = f"{certificate}" if key is None else f"{certificate} and {key}"
        super().__init__(
            f"{files}: no certificate with its key: {cause}; give PEM files, the key not encrypted"
        )


class Unguarded(AnabranchError):
    """Others could reach a gateway that knows no users."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} is reached from other machines, and without keys whoever reaches it may "
            "publish and read: give --keys FILE (--new-key NAME makes one) or --jwks, or "
            "--without-keys where something in front of it guards it"
        )


def server_tls(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later with that certificate. Raises CertificateUnusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Always a password: OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, "")
    except (ssl.SSLError, OSError) as exc:
        cause = exc.strerror or str(exc)
        raise CertificateUnusable(certificate, key, cause) from exc
    return context


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback
