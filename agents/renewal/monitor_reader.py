"""What the monitor has found of drift and quality, as far as it asks for a renewal.

A record of `<pipeline>.monitor` is a JSON object with its `kind`. Of the kinds that are known here
only what is read is checked; all others, and what else an object has, are passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

import aiokafka
import orjson
from aiokafka.structs import ConsumerRecord

from agents.broker import follower, topic_names
from agents.renewal.triggers import MonitorFinding
from topics.events import epoch_ms
from topics.pipeline import Topology
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_KEPT = 1000
_SINCE = ("since_ms", "since", "from_ms", "from")
_KINDS = ("drift", "quality")


class MonitorReader:
    """Reads `<pipeline>.monitor` from its start, once it is there."""

    def __init__(self, settings: BrokerSettings, topology: Topology) -> None:
        self._settings, self._topology = settings, topology
        self._open = AsyncExitStack()
        self._consumer: aiokafka.AIOKafkaConsumer | None = None
        self._findings: dict[tuple[str, int], MonitorFinding] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def findings(self) -> list[MonitorFinding]:
        """All that it has found so far, the oldest first."""
        if self._consumer is None and not await self._opened():
            return []
        while fetched := await self._following().getmany(timeout_ms=0):
            for records in fetched.values():
                for record in records:
                    self._take(record)
        return sorted(self._findings.values(), key=lambda finding: finding.since_ms)

    async def _opened(self) -> bool:
        topic = self._topology.monitor
        if topic not in await topic_names(self._settings, [topic]):
            return False
        self._consumer = await self._open.enter_async_context(
            follower(self._settings, [topic], self._topology.partitions, from_start=True)
        )
        return True

    def _following(self) -> aiokafka.AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the monitor's topic is not followed")
        return self._consumer

    def _take(self, record: ConsumerRecord) -> None:
        finding = finding_of(record.value)
        if finding is None:
            return
        self._findings[finding.kind, finding.since_ms] = finding
        while len(self._findings) > _KEPT:
            del self._findings[next(iter(self._findings))]


def finding_of(value: bytes | None) -> MonitorFinding | None:
    """The drift or the loss that a record tells of; None for one that tells of something else.

    >>> finding_of(b'{"kind": "drift", "since_ms": 5, "alarm": true, "text": "amount"}')
    MonitorFinding(kind='drift', since_ms=5, text='amount')
    >>> finding_of(b'{"kind": "drift", "since_ms": 5, "alarm": false}') is None
    True
    """
    try:
        said = orjson.loads(value or b"")
    except ValueError:
        return None
    if not isinstance(said, Mapping) or said.get("kind") not in _KINDS:
        return None
    if said.get("alarm", True) is not True:
        return None
    since_ms = next((_ms(said[name]) for name in _SINCE if name in said), None)
    if since_ms is None:
        return None
    text = said.get("text") or said.get("sentence") or said["kind"]
    return MonitorFinding(said["kind"], since_ms, str(text)[:500])


def _ms(value: object) -> int | None:
    """A time, in ms since 1970."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    try:
        return epoch_ms(str(value))
    except ValueError:
        return None
