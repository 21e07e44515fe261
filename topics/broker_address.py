"""How a broker's address is written: host:port, `[IPv6]:port`."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import NamedTuple

from topics.errors import InvalidAddress

USUAL_PORT = 9092
_HIGHEST_PORT = 65535
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_SECURE = ("ssl", "sasl_ssl", "sasl_plaintext")


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int


def checked_addresses(text: str) -> list[str]:
    """The addresses of a list with commas, as they stand. Raises InvalidAddress.

    >>> checked_addresses("kafka-1:9092, [::1]:9092")
    ['kafka-1:9092', '[::1]:9092']
    """
    if not text.strip():
        raise InvalidAddress(text, "is empty")
    addresses = [part.strip() for part in text.split(",")]
    for address in addresses:
        try:
            parsed(address)
        except ValueError as exc:
            raise InvalidAddress(address, str(exc)) from exc
    return addresses


def parsed(address: str) -> Address:
    """One address in its parts. Raises ValueError with what is wrong, to follow the address.

    >>> parsed("[::1]:9092")
    Address(host='::1', port=9092)
    """
    if not address:
        raise ValueError("is empty")
    scheme, separator, rest = address.partition("://")
    if separator:
        secure = ": TLS and logins are set by ANABRANCH_TLS and ANABRANCH_SASL_…"
        raise ValueError(
            f"has a scheme; write {rest.rpartition('@')[2].rstrip('/') or 'HOST:PORT'}"
            f"{secure if scheme.lower() in _SECURE else ''}"
        )
    if address.startswith("["):
        host, bracket, port = address[1:].partition("]")
        if not bracket:
            raise ValueError("has no ] behind its IPv6 address")
        port = port.removeprefix(":")
        _check_ipv6(host)
    elif address.count(":") > 1:
        raise ValueError(f"has several colons; an IPv6 address is written [::1]:{USUAL_PORT}")
    else:
        host, _, port = address.partition(":")
        if not _HOST.fullmatch(host):
            raise ValueError("names no host" if not host else f"has no host name in {host!r}")
    if not port:
        shown = address.rstrip(":")
        raise ValueError(
            f"names no port; write {shown}:{USUAL_PORT} if your broker listens on Kafka's usual one"
        )
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT):
        raise ValueError(f"has the port {port}, which is not a number from 1 to {_HIGHEST_PORT}")
    return Address(host, int(port))


def _check_ipv6(host: str) -> None:
    try:
        IPv6Address(host)
    except ValueError as exc:
        raise ValueError(f"has no IPv6 address in its brackets: {exc}") from exc
