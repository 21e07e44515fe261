"""Reaching a broker: which one, the embedded one of a running command too, and until it answers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from topics.errors import BrokerUnreachable, CertificateRefused, HostUnknown, LoginRefused, NoBroker
from topics.kafka import (
    EmbeddedBroker,
    client_options,
    close_client,
    probe_listeners,
    refusal,
    unknown_host,
    unreachable,
)
from topics.settings import BrokerSettings, HomeSettings

DEFAULT_WAIT_S = 30.0
_ADDRESS_FILE = "embedded-broker.json"
_LEFT_WITHIN_S = 10.0
"""A broker that is gone is one of its cluster for its session's time (9 s by default)."""


def broker_settings(broker: str | None, home: HomeSettings) -> BrokerSettings | None:
    """Settings for *broker*, ANABRANCH_BROKER, or the embedded broker of a running `run`."""
    running = embedded_address(home)
    named = os.environ.get("ANABRANCH_BROKER") if broker is None else broker
    address = running if named is None else named
    if address is None:
        return None
    if address == running:
        return BrokerSettings(broker=address, embedded=True)
    return BrokerSettings(broker=address)


def needed_broker(broker: str | None) -> BrokerSettings:
    """Like `broker_settings`, for commands that start none: NoBroker when there is none."""
    settings = broker_settings(broker, HomeSettings())
    if settings is None:
        raise NoBroker
    return settings


def embedded_address(home: HomeSettings) -> str | None:
    """The address of the embedded broker that `anabranch run` has started; None for none."""
    try:
        known = json.loads((home.home / _ADDRESS_FILE).read_text())
        os.kill(known["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(known["address"])


@contextmanager
def started_embedded(home: HomeSettings | None) -> Iterator[BrokerSettings]:
    """An embedded broker; with *home*, other commands find its address there.

    Without it, it is for workers that the caller starts and whose end it sees: a silent one is a
    busy machine then, nobody is to take its place, and nobody gives up.
    """
    with EmbeddedBroker() as broker:
        settings = BrokerSettings(broker=broker.address, embedded=True)
        if home is None:
            settings = BrokerSettings(
                broker=broker.address, embedded=True,
                session_timeout_s=120, give_up_s=600, stuck_after_s=600,
            )  # fmt: skip
        note = None if home is None else home.home / _ADDRESS_FILE
        if note is not None:
            _announce(note, broker.address)
        try:
            yield settings
        finally:
            if note is not None:
                note.unlink(missing_ok=True)


def _announce(note: Path, address: str) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    half = note.with_suffix(f".{os.getpid()}")
    half.write_text(json.dumps({"address": address, "pid": os.getpid()}))
    half.replace(note)


async def wait_for_broker(settings: BrokerSettings, wait_s: float = DEFAULT_WAIT_S) -> None:
    """Return when the broker answers, and can be reached where it wants clients to.

    Raises BrokerUnreachable after *wait_s*; at once what waiting does not mend: HostUnknown,
    ListenerUnreachable, CertificateRefused, LoginRefused.
    """
    began = time.monotonic()
    while True:
        probe = AIOKafkaProducer(**client_options(settings), request_timeout_ms=5000)
        try:
            await probe.start()
        except (KafkaError, OSError) as exc:
            refused = await unknown_host(settings) or await refusal(settings)
            if isinstance(refused, HostUnknown | CertificateRefused | LoginRefused):
                raise refused from exc
            cause = str(exc)
        else:
            tried = await probe_listeners(probe.client.cluster.brokers())
            patient = time.monotonic() < began + min(wait_s, _LEFT_WITHIN_S)
            if wrong := unreachable(settings, tried, patient=patient):
                raise wrong
            if all(one.resolved for one in tried) and not all(one.cause for one in tried):
                return
            refused, cause = None, "; ".join(one.cause for one in tried if one.cause)
        finally:
            await close_client(probe)
        if time.monotonic() >= began + wait_s:
            raise refused or BrokerUnreachable(settings.broker, wait_s, cause)
        await asyncio.sleep(1)
