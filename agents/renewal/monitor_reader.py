"""What the monitor has found of drift and quality, as far as it asks for a renewal.

A record of `<pipeline>.monitor` is a JSON object with its `kind`. Of the two kinds that are known
here only what is read is checked; all others, and what else an object has, are passed over.

drift     each record tells of one, since when it is so, in a sentence
quality   of a window of event time; one whose figures all lie where they were promised asks for
          nothing, and neither do those of a segment alone
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Self

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
    """The drift or the loss that a record tells of; None for one that tells of neither.

    >>> finding_of(b'{"kind": "drift", "since": "1970-01-02T00:00:00Z", "sentence": "amount"}')
    MonitorFinding(kind='drift', since_ms=86400000, text='amount')
    >>> finding_of(b'{"kind": "quality", "since": "1970-01-02T00:00:00Z", "subjects": []}') is None
    True
    """
    try:
        said = orjson.loads(value or b"")
    except ValueError:
        return None
    if not isinstance(said, Mapping) or (since_ms := _ms(said.get("since"))) is None:
        return None
    if said.get("kind") == "drift":
        return MonitorFinding("drift", since_ms, str(said.get("sentence", "drift"))[:500])
    if said.get("kind") == "quality" and (lost := _lost(said)):
        return MonitorFinding("quality", since_ms, "; ".join(lost)[:500])
    return None


def _lost(said: Mapping[str, Any]) -> list[str]:
    """Subjects with figures worse than was promised, in words."""
    subjects, state = said.get("subjects"), said.get("state", "")
    lost = []
    for subject in subjects if isinstance(subjects, list) else ():
        if not isinstance(subject, Mapping):
            continue
        name, outside = str(subject.get("subject", "")), subject.get("outside")
        if isinstance(outside, list) and outside and "=" not in name:
            lost.append(f"{name}: {', '.join(map(str, outside))} below what was promised ({state})")
    return lost


def _ms(value: object) -> int | None:
    """A time, in ms since 1970; None for what is none."""
    try:
        return epoch_ms(str(value))
    except ValueError:
        return None
