"""Events as a component reads them: validated, their rows, and what is odd about them.

What is odd about their times and keys is counted, and told. Who sent an event is known as far as
its record says: key, partition, offset and some headers. Of each kind of oddness the log has a line
a minute and partition, with how many there were.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from agents.workers import Wiring
from models.features import Ints
from topics.events import (
    FUTURE_EVENT_TIME,
    DecodedEvents,
    KeyPlacement,
    SourceDecoder,
    SourceRecord,
    is_own,
)
from topics.records import MAX_SOURCE_ID, ORIGIN_HEADER, Bools, BytesColumn, Rows
from topics.redrive import RedrivenEvent

log = logging.getLogger(__name__)

_AT_ONCE = 256
_AT_A_STRETCH_S = 0.02
"""Then others have their turn. An invalid event takes ten times as long as a valid one: a fetch of
thousands of them would hold up every heartbeat of the process."""
_TOLD_EVERY_S = 60.0
_SENDERS = ("ce_source", "source", "client-id", "producer")
"""Headers by which producers may say who they are."""
_SHOWN = 60
_LOOK_EVERY_S, _LOOKED_AT = 0.25, 16
"""The placement of so many keys of a partition is looked at, so often: hashing all costs more."""


async def decode_events(decoder: SourceDecoder, records: Sequence[SourceRecord]) -> DecodedEvents:
    """What `decoder.decode` makes of *records*; other tasks go on in between where it is long."""
    if len(records) <= _AT_ONCE:
        return decoder.decode(records)
    parts: list[DecodedEvents] = []
    began = time.perf_counter()
    for start in range(0, len(records), _AT_ONCE):
        if time.perf_counter() - began > _AT_A_STRETCH_S:
            await asyncio.sleep(0)
            began = time.perf_counter()
        parts.append(decoder.decode(records[start : start + _AT_ONCE]))
    return DecodedEvents.concat(parts)


def source_rows(
    records: Sequence[ConsumerRecord | RedrivenEvent], decoded: DecodedEvents,
    fields: Sequence[str] = (),
) -> Rows:  # fmt: skip
    """The identity of source records, and the values of some event *fields*, which are numbers."""
    n = len(records)
    headers = [dict(record.headers) for record in records]
    # A traceparent has 55 bytes (W3C Trace Context); whatever else is in that header is dropped.
    traces = [(each.get("traceparent") or b"")[:55] for each in headers]
    origins = [(each.get(ORIGIN_HEADER) or b"")[:MAX_SOURCE_ID] for each in headers]
    return Rows(
        offsets=offsets_of(records),
        published_ms=np.fromiter((record.timestamp for record in records), np.int64, n),
        event_time_ms=decoded.times_ms,
        backlog=np.zeros(n, np.bool_),
        ids=BytesColumn.of(decoded.ids),
        keys=BytesColumn.of(decoded.keys),
        traces=BytesColumn.of(traces) if any(traces) else None,
        clipped=np.isin(np.arange(n), [*decoded.clipped]) if decoded.clipped else None,
        origins=BytesColumn.of(origins) if any(origins) else None,
        fields={name: _of_all(decoded.columns[name], decoded.valid, n) for name in fields},
    )


def _of_all(column: NDArray[Any], valid: Ints, n: int) -> NDArray[np.float64]:
    """A field of N records, of which some are *valid* (M,) events; NaN where it is not known."""
    values = np.full(n, np.nan)
    values[valid] = column
    return values


def offsets_of(records: Sequence[ConsumerRecord | RedrivenEvent]) -> Ints:
    """The source offset of each record (N,)."""
    return np.fromiter((record.offset for record in records), np.int64, len(records))


def is_backlog(published_ms: Ints, deadline_ms: int) -> Bools:
    """Which rows are already older than the deadline as the pipeline reads them."""
    return np.asarray(published_ms < time.time() * 1000 - deadline_ms)


class LogLimit:
    """Lets a line of each kind through once a minute, and knows how many there were since.

    >>> limit = LogLimit()
    >>> limit.due("a", 3, now=0.0), limit.due("a", 2, now=1.0), limit.due("a", 1, now=61.0)
    (3, 0, 3)
    """

    def __init__(self) -> None:
        self._untold: dict[object, int] = {}
        self._told_at: dict[object, float] = {}

    def due(self, kind: object, count: int, *, now: float) -> int:
        """How many are to be told of now that there are *count* more; 0 when it is too soon."""
        self._untold[kind] = self._untold.get(kind, 0) + count
        if now - self._told_at.get(kind, float("-inf")) < _TOLD_EVERY_S:
            return 0
        self._told_at[kind] = now
        return self._untold.pop(kind)


class SourceEvents:
    """Observes what a component reads of the events topic. *windows*: it has windows by the key."""

    def __init__(self, wiring: Wiring, *, windows: bool) -> None:
        event, partitions = wiring.pipeline.event, wiring.pipeline.partitions
        self._metrics = wiring.metrics
        self._key = event.key
        self._beyond = event.beyond_future
        self._counts_keys = event.keys == "accept"
        self._windows = windows
        self._placement = KeyPlacement(partitions)
        self._look_at: dict[int, float] = {}
        self._limit = LogLimit()
        # A series that is there can be alerted on.
        self._metrics.observe_future("refused" if self._beyond == "refuse" else "clipped", 0)
        if self._counts_keys:
            self._metrics.observe_odd_keys("missing", 0)
            self._metrics.observe_odd_keys("other", 0)
            self._metrics.observe_placement(0, 0)

    def observe(self, records: Sequence[ConsumerRecord], decoded: DecodedEvents) -> None:
        """Count and tell what is odd about *records*, all of one partition, which are *decoded*."""
        future = {**decoded.clipped, **{
            failure.row: failure.reason
            for failure in decoded.failures if failure.error == FUTURE_EVENT_TIME
        }}  # fmt: skip
        if future:
            self._tell_future(records, future)
        if self._counts_keys and len(decoded.valid):
            self._count_keys(records, decoded)

    def _tell_future(self, records: Sequence[ConsumerRecord], future: Mapping[int, str]) -> None:
        done: Literal["clipped", "refused"] = "clipped" if self._beyond == "clip" else "refused"
        self._metrics.observe_future(done, len(future))
        row, why = next(iter(future.items()))
        self._tell(records[row], len(future), f"events from the future were {done}", why)

    def _count_keys(self, records: Sequence[ConsumerRecord], decoded: DecodedEvents) -> None:
        column, rows = decoded.columns[self._key], decoded.valid.tolist()
        texts = (
            column.tolist() if column.dtype == object else [str(value) for value in column.tolist()]
        )
        keys = [records[row].key for row in rows]
        # All at once: a look at each costs more than decoding it should.
        if None in keys or b"\0".join(keys) != "\0".join(texts).encode():
            missing = [at for at, key in enumerate(keys) if not key]
            others = [at for at, key in enumerate(keys) if key and not is_own(key, texts[at])]
            for kind, places in (("missing", missing), ("other", others)):
                if places:
                    self._metrics.observe_odd_keys(kind, len(places))
                    what = "no record key" if kind == "missing" else "another record key"
                    self._tell(
                        records[rows[places[0]]], len(places), f"events have {what}",
                        f"the field {self._key} says whose they are",
                    )  # fmt: skip
        self._look_at_placement(records[rows[0]].partition, texts, [records[row] for row in rows])

    def _look_at_placement(
        self, partition: int, texts: Sequence[str], records: Sequence[ConsumerRecord]
    ) -> None:
        now = time.monotonic()
        if now < self._look_at.get(partition, 0.0):
            return
        self._look_at[partition] = now + _LOOK_EVERY_S
        step = max(1, len(texts) // _LOOKED_AT)
        places = range(0, len(texts), step)[:_LOOKED_AT]
        elsewhere = self._placement.elsewhere([texts[at] for at in places], partition)
        strays = int(elsewhere.sum())
        self._metrics.observe_placement(len(places) - strays, strays)
        if strays:
            record = records[places[int(elsewhere.argmax())]]
            why = "producers use two partitioners"
            if self._windows:
                why += ": windows see one partition each, and keys: rekey puts them together"
            what = "events, of some looked at, are on another partition than others of their key"
            self._tell(record, strays, what, why)

    def _tell(self, record: ConsumerRecord, count: int, what: str, why: str) -> None:
        if due := self._limit.due((what, record.partition), count, now=time.monotonic()):
            log.warning(
                "%s[%d]@%d%s: %d %s: %s", record.topic, record.partition, record.offset,
                _sender(record), due, what, why,
            )  # fmt: skip


def _sender(record: ConsumerRecord) -> str:
    """Who sent a record, as far as it says, as text that can be written anywhere."""
    known = {"key": record.key} | {
        name: value for name, value in record.headers if name in _SENDERS
    }
    shown = (
        f"{name} {(value or b'')[:_SHOWN].decode(errors='replace')!r}"
        for name, value in known.items()
        if value is not None
    )
    return "".join(f", {each}" for each in shown)
