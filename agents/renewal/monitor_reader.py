"""What the monitor has found of drift and quality, as far as it asks for a renewal.

A record of `<pipeline>.monitor` is a JSON object with its `kind`. Of the two kinds that are known
here only what is read is checked; all others, and what else an object has, are passed over.

drift     each record tells of one, since when it is so, in a sentence
quality   of a window of event time: a figure of a subject that is below what was promised in two
          windows one after the other. One window alone asks for nothing: of some dozen figures a
          day, each with an interval, one or the other is outside by chance. Segments do not either
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Self

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
        self._drifts: dict[int, MonitorFinding] = {}
        self._windows: dict[int, LostQuality] = {}
        """Start of a window → what is known of it by now."""

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
        found = [*self._drifts.values(), *lasting_losses(self._windows)]
        return sorted(found, key=lambda finding: finding.since_ms)

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
        found = finding_of(record.value)
        if isinstance(found, MonitorFinding):
            self._drifts[found.since_ms] = found
        elif found is not None:
            self._windows[found.since_ms] = found
        for known in (self._drifts, self._windows):
            while len(known) > _KEPT:
                del known[next(iter(known))]


class LostQuality(NamedTuple):
    """What a window has below what was promised."""

    since_ms: int
    until_ms: int
    figures: frozenset[tuple[str, str]]
    """Subject and figure."""
    state: str
    """Of the window: estimated or matured."""


def finding_of(value: bytes | None) -> MonitorFinding | LostQuality | None:
    """The drift that a record tells of, or a window's quality; None for neither.

    >>> finding_of(b'{"kind": "drift", "since": "1970-01-02T00:00:00Z", "sentence": "amount"}')
    MonitorFinding(kind='drift', since_ms=86400000, text='amount')
    >>> finding_of(b'{"kind": "quality", "since": "1970-01-02T00:00:00Z"}') is None
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
    if said.get("kind") == "quality" and (until_ms := _ms(said.get("until"))) is not None:
        return LostQuality(since_ms, until_ms, _lost(said), str(said.get("state", "")))
    return None


def lasting_losses(windows: Mapping[int, LostQuality]) -> Iterator[MonitorFinding]:
    """What of a window's losses the window before it has, too: since that one began."""
    before = {window.until_ms: window for window in windows.values()}
    for window in windows.values():
        previous = before.get(window.since_ms)
        if previous is None or not (lasting := window.figures & previous.figures):
            continue
        subjects: dict[str, list[str]] = {}
        for subject, figure in sorted(lasting):
            subjects.setdefault(subject, []).append(figure)
        words = "; ".join(f"{subject}: {', '.join(of)}" for subject, of in subjects.items())
        text = f"{words} below what was promised, twice ({window.state})"
        yield MonitorFinding("quality", previous.since_ms, text[:500])


def _lost(said: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Subjects that are no segments, with each figure that is worse than was promised."""
    subjects, lost = said.get("subjects"), set[tuple[str, str]]()
    for subject in subjects if isinstance(subjects, list) else ():
        if not isinstance(subject, Mapping):
            continue
        name, outside = str(subject.get("subject", "")), subject.get("outside")
        if isinstance(outside, list) and "=" not in name:
            lost |= {(name, str(figure)) for figure in outside}
    return frozenset(lost)


def _ms(value: object) -> int | None:
    """A time, in ms since 1970; None for what is none."""
    try:
        return epoch_ms(str(value))
    except ValueError:
        return None
