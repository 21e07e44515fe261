"""Source records as events: decoded, and their event times and keys held to the pipeline file.

An event cannot happen after it was published. When it was published its record says, by the
broker's clock (LogAppendTime) or by the producer's (CreateTime). The producer's may be wrong: a
record that is dated more than an hour ahead of us, or before there was Kafka, counts as published
when it was read. All others are judged by what they say alone: alike, whenever they are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from topics.events.event_decoder import DecodedEvents, EventDecoder, RawEvent
from topics.events.record_keys import murmur2_partitions
from topics.pipeline import EventSchema, duration_ms
from topics.records import Failure, Ints, rfc3339_time

FUTURE_EVENT_TIME = "FutureEventTime"
MISSING_KEY, INVALID_KEY, WRONG_PARTITION = "MissingKey", "InvalidKey", "WrongPartition"

_FIRST_KAFKA_MS = 1_293_840_000_000
"""2011: an earlier timestamp is that of a clock that was never set, or none (0, -1)."""
CLOCKS_APART_MS = 3_600_000
"""A producer's clock may be so far ahead of ours; as brokers have it (Kafka 4.0,
`message.timestamp.after.max.ms`), so a record of one that is not refused there is not here."""
_LOG_APPEND_TIME = 1
_SHOWN_KEY = 40


class SourceRecord(RawEvent, Protocol):
    """The part of a source record that its event is judged by."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, by the broker's or the producer's clock."""

    @property
    def partition(self) -> int:
        """Of the source."""


class SourceDecoder:
    """Decodes the records of a source topic that has so many *partitions*.

    *clock* says what time it is, in seconds since 1970.
    """

    def __init__(
        self, schema: EventSchema, partitions: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._schema = schema
        self._clock = clock
        self._decoder = EventDecoder(schema)
        self._partitions = partitions
        self._future_ms = duration_ms(schema.future)

    def decode(
        self, records: Sequence[SourceRecord], partition: int | None = None
    ) -> DecodedEvents:
        """Validate *records*, which are read now; of *partition*, where they do not say it."""
        decoded = self._decoder.decode(records)
        if not len(decoded.valid):
            return decoded
        decoded = self._bounded(decoded, records, int(self._clock() * 1000))
        if self._schema.keys == "refuse":
            decoded = without(decoded, self._wrong_keys(decoded, records, partition))
        return decoded

    def _bounded(
        self, decoded: DecodedEvents, records: Sequence[SourceRecord], now_ms: int
    ) -> DecodedEvents:
        """The same without event times that cannot be."""
        valid, times = decoded.valid, decoded.columns[self._schema.time]
        timestamps = np.fromiter((row.timestamp for row in records), np.int64, len(records))[valid]
        sure = np.where(timestamps > now_ms + CLOCKS_APART_MS, now_ms, timestamps)
        if not (times > sure + self._future_ms).any():
            return decoded
        published = _published_ms([records[row] for row in valid.tolist()], timestamps, now_ms)
        beyond = np.flatnonzero(times > published + self._future_ms)
        if not len(beyond):
            return decoded
        if self._schema.beyond_future == "refuse":
            return without(decoded, [
                Failure(int(valid[at]), "", FUTURE_EVENT_TIME,
                        _why_beyond(int(times[at]), int(timestamps[at]), int(published[at])))
                for at in beyond.tolist()
            ])  # fmt: skip
        bounded, clipped = times.copy(), decoded.times_ms.copy()
        bounded[beyond] = published[beyond]
        clipped[valid] = bounded
        return replace(
            decoded, columns={**decoded.columns, self._schema.time: bounded}, times_ms=clipped,
            clipped={
                int(valid[at]): _why_beyond(int(times[at]), int(timestamps[at]), int(published[at]))
                for at in beyond.tolist()
            },
        )  # fmt: skip

    def _wrong_keys(
        self, decoded: DecodedEvents, records: Sequence[SourceRecord], partition: int | None
    ) -> list[Failure]:
        """Why events are refused whose key, or whose place, is not what the file says."""
        rows = decoded.valid.tolist()
        texts = [str(value) for value in decoded.columns[self._schema.key].tolist()]
        of = murmur2_partitions([text.encode() for text in texts], self._partitions).tolist()
        failures: list[Failure] = []
        for row, text, placed in zip(rows, texts, of, strict=True):
            key = records[row].key
            stands_on = records[row].partition if partition is None else partition
            about = f"{self._schema.key} is {_shown(text.encode())}"
            if not key:
                why = MISSING_KEY, f"the record has no key, and its {about}"
            elif key != text.encode():
                why = INVALID_KEY, f"the record key is {_shown(key)}, and its {about}"
            elif placed != stands_on:
                by = f"Kafka's own partitioner (murmur2) puts on partition {placed}"
                why = WRONG_PARTITION, f"{about}, which {by}, not on {stands_on}"
            else:
                continue
            failures.append(Failure(row, "", *why))
        return failures


def without(decoded: DecodedEvents, failures: Sequence[Failure]) -> DecodedEvents:
    """The same, with *failures* of rows that were valid."""
    if not failures:
        return decoded
    failed = [failure.row for failure in failures]
    left = ~np.isin(decoded.valid, failed)
    ids, keys, times = [*decoded.ids], [*decoded.keys], decoded.times_ms.copy()
    for row in failed:
        ids[row] = keys[row] = b""
    times[failed] = 0
    return replace(
        decoded, valid=decoded.valid[left],
        columns={name: column[left] for name, column in decoded.columns.items()},
        ids=ids, keys=keys, times_ms=times,
        failures=sorted([*decoded.failures, *failures], key=lambda failure: failure.row),
        clipped={row: why for row, why in decoded.clipped.items() if row not in set(failed)},
    )  # fmt: skip


def progress_ms(event_times_ms: Ints, published_ms: Ints) -> Ints:
    """How far a source has come by each of its rows (N,): event time, or publication if earlier.

    So an event that is ahead of its time does not make those behind it wait for that.
    """
    knows = published_ms >= _FIRST_KAFKA_MS
    return np.where(knows, np.minimum(event_times_ms, published_ms), event_times_ms)


def credible_publication_ms(timestamps: Ints, now_ms: int) -> Ints:
    """When records (N,) were published at the latest: now, of one whose clock cannot be right."""
    is_wrong = (timestamps < _FIRST_KAFKA_MS) | (timestamps > now_ms + CLOCKS_APART_MS)
    return np.where(is_wrong, now_ms, timestamps)


def _published_ms(records: Sequence[SourceRecord], timestamps: Ints, now_ms: int) -> Ints:
    """When the records (N,) were published at the latest, as far as that can be known."""
    by_broker = np.array(
        [getattr(record, "timestamp_type", 0) == _LOG_APPEND_TIME for record in records]
    )
    is_wrong = (timestamps < _FIRST_KAFKA_MS) | (timestamps > now_ms + CLOCKS_APART_MS)
    return np.where(is_wrong & ~by_broker, now_ms, timestamps)


def _why_beyond(time_ms: int, record_ms: int, published_ms: int) -> str:
    """What is wrong with an event time."""
    record_time, published = rfc3339_time(record_ms), rfc3339_time(published_ms)
    bound = (
        f"its record's timestamp, {record_time}"
        if record_ms == published_ms
        else f"{published}, when it was read (its record is dated {record_time})"
    )
    after = _length(time_ms - published_ms)
    return f"the event time {rfc3339_time(time_ms)} is {after} after {bound}"


def _length(milliseconds: int) -> str:
    """A length of time, roughly, in the largest unit that fits.

    >>> _length(7_300_000), _length(5 * 60_000), _length(40 * 365 * 86_400_000)
    ('2 h', '5 min', '14600 days')
    """
    for unit_ms, name in ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min")):
        if milliseconds >= 2 * unit_ms:
            return f"{milliseconds // unit_ms} {name}"
    return f"{milliseconds // 1000} s"


def _shown(key: bytes) -> str:
    """A key for people."""
    try:
        text = repr(key.decode())
    except UnicodeDecodeError:
        text = f"0x{key.hex()}"
    return text if len(text) <= _SHOWN_KEY else f"{text[:_SHOWN_KEY]}…"
