"""Whether brokers can be reached where they are said to be: by us, and by themselves.

aiokafka tries an address that it cannot resolve, or that a broker advertises in vain, again and
again without a word.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aiokafka.structs import BrokerMetadata

from topics.broker_address import parsed
from topics.errors import HostUnknown, ListenerUnreachable
from topics.settings import BrokerSettings

CONNECT_S = 5.0
"""A name server, or a host that drops what it is sent, may take longer to answer than one waits."""


class Listener(NamedTuple):
    """What a broker advertises, and how it went to connect there."""

    node: int | str
    address: str
    cause: str
    """Why that cannot be reached; empty when it can."""
    resolved: bool


async def unknown_host(settings: BrokerSettings) -> HostUnknown | None:
    """What to say when none of the brokers' hosts can be resolved; None when one can."""
    unknown: HostUnknown | None = None
    for address in settings.addresses:
        host, port = parsed(address)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:  # a time-out is one
            unknown = unknown or HostUnknown(address, _why(exc))
        else:
            return None
    return unknown


async def probe_listeners(brokers: Iterable[BrokerMetadata]) -> list[Listener]:
    """Connect to each broker where it wants clients to."""
    return await asyncio.gather(*map(_probe, brokers))


def unreachable(
    settings: BrokerSettings, listeners: Sequence[Listener], *, patient: bool
) -> ListenerUnreachable | None:
    """What to say of listeners that clients cannot use; None when they may go on.

    A broker that is away is nothing to end for, as long as another is there. One whose name is
    unknown may just have left, with its name: a *patient* caller waits for the others to notice.
    """
    failed = [listener for listener in listeners if listener.cause]
    alone = len(failed) == len(listeners)
    for listener in failed:
        is_ours = listener.address in settings.addresses  # that answered a moment ago
        if (alone and not is_ours) or not (listener.resolved or patient):
            return ListenerUnreachable(
                settings.broker, listener.node, listener.address, listener.cause
            )
    return None


async def _probe(broker: BrokerMetadata) -> Listener:
    host = f"[{broker.host}]" if ":" in broker.host else broker.host
    address, cause, resolved = f"{host}:{broker.port}", "", True
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(broker.host, broker.port)
        writer.close()
    except OSError as exc:
        cause, resolved = _why(exc), not isinstance(exc, socket.gaierror)
    return Listener(broker.nodeId, address, cause, resolved)


def _why(exc: OSError) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {CONNECT_S:.0f} s"
    return exc.strerror or str(exc)
