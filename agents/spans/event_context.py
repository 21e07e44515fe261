"""Which events are recorded, and how their traces and spans are called.

A trace's id is that of the W3C `traceparent` header of the source record, else a hash of its
coordinates; a span's id is a hash of the coordinates and of what the span is of. So every worker
comes to the same ids by itself, and a batch of N events costs a few operations on arrays.

W3C Trace Context, level 1, section 3.2; sampling by ratio as OpenTelemetry's TraceIdRatioBased.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topics.errors import InvalidSettings
from topics.records import Rows

SAMPLED = 1
USUAL_RATIO = 0.001
_LOW = 2**64 - 1
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ODD = frozenset(b"13579bdf")
"""What ends a header whose flags have that of a sampled trace."""
_FEW = 16
"""So many rows are gone through one by one: numpy takes as long to be called."""
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_Words = NDArray[np.uint64]


class EventContext(NamedTuple):
    """The trace of one event that is recorded."""

    row: int
    """Its place in the batch."""
    offset: int
    trace_id: int
    parent: int | None
    """The span of its producer, where the source record names one."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which events are recorded, as `OTEL_TRACES_SAMPLER` and its argument say."""

    ratio: float = USUAL_RATIO
    """The share of traces, by their ids."""
    by_parent: bool = True
    """An event whose record names a trace is recorded if its producer has recorded that."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Sampling:
        """By the environment: a thousandth without anything there. Raises InvalidSettings."""
        name = environment.get("OTEL_TRACES_SAMPLER") or "parentbased_traceidratio"
        kind = name.removeprefix("parentbased_")
        ratios = {"always_on": 1.0, "always_off": 0.0, "traceidratio": _ratio(environment)}
        if kind not in ratios:
            known = [each for kind in ratios for each in (kind, f"parentbased_{kind}")]
            raise InvalidSettings([("OTEL_TRACES_SAMPLER", f"say one of {', '.join(known)}")])
        return cls(ratios[kind], by_parent=kind != name)

    def contexts(self, topic: str, partition: int, rows: Rows) -> list[EventContext]:
        """Those of *rows*, of a source partition, that are recorded."""
        chosen = self._chosen(_low_words(topic, partition, rows.offsets))
        headers = [] if rows.traces is None else rows.traces.items()
        # A header is looked into where it may count: there may be one on every row.
        candidates = {*chosen, *(row for row, header in enumerate(headers) if self._may(header))}
        contexts = []
        for row in sorted(candidates):
            offset = int(rows.offsets[row])
            parent = TraceParent.of(headers[row]) if headers else None
            if parent is None:
                if row in chosen:
                    own = trace_id(topic, partition, offset)
                    contexts.append(EventContext(row, offset, own, None))
            elif self._records(parent):
                contexts.append(EventContext(row, offset, parent.trace_id, parent.span_id))
        return contexts

    @property
    def _bound(self) -> int:
        return round(self.ratio * 2**64)

    def _chosen(self, low: _Words | list[int]) -> set[int]:
        if isinstance(low, list):
            return {row for row, word in enumerate(low) if word < self._bound}
        if self.ratio >= 1:
            return set(range(len(low)))
        return set(np.flatnonzero(low < np.uint64(self._bound)).tolist())

    def _may(self, header: bytes) -> bool:
        """Whether a header may be of a trace that is recorded; False only where it cannot."""
        if not header:
            return False
        return header[-1] in _ODD if self.by_parent else self.ratio > 0

    def _records(self, parent: TraceParent) -> bool:
        if self.by_parent:
            return bool(parent.flags & SAMPLED)
        return (parent.trace_id & _LOW) < self._bound


class TraceParent(NamedTuple):
    """What a `traceparent` header names."""

    trace_id: int
    span_id: int
    flags: int

    @classmethod
    def of(cls, header: bytes) -> TraceParent | None:
        """None for what is none.

        >>> TraceParent.of(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").flags
        1
        >>> TraceParent.of(b"00-00000000000000000000000000000000-b7ad6b7169203331-01") is None
        True
        """
        match = _TRACEPARENT.fullmatch(header)
        return None if match is None else cls(*(int(part, 16) for part in match.groups()))

    def __bytes__(self) -> bytes:
        return b"00-%032x-%016x-%02x" % self


def trace_id(topic: str, partition: int, offset: int) -> int:
    """The id of the trace of the event at these coordinates."""
    high, low = (_mixed(offset + seed & _LOW) for seed in _seeds(topic, partition))
    return (high | 1) << 64 | low


def span_id(topic: str, partition: int, offset: int, what: str) -> int:
    """The id of the span of *what*, of the event at these coordinates."""
    return _hash(f"{topic}/{partition}/{offset}/{what}", 8) or 1


def batch_ids(topic: str, partition: int, first: int, what: str) -> tuple[int, int]:
    """Trace and span of what is done with a batch of events of which *first* is the first."""
    both = _hash(f"{topic}/{partition}/{first}/batch of {what}", 24)
    return both >> 64 or 1, both & _LOW or 1


def _ratio(environment: Mapping[str, str]) -> float:
    text = environment.get("OTEL_TRACES_SAMPLER_ARG")
    if not text:
        return 1.0 if environment.get("OTEL_TRACES_SAMPLER") else USUAL_RATIO
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not (isfinite(ratio) and 0 <= ratio <= 1):
        raise InvalidSettings([("OTEL_TRACES_SAMPLER_ARG", "say a share, from 0 to 1")])
    return ratio


def _low_words(topic: str, partition: int, offsets: NDArray[np.int64]) -> _Words | list[int]:
    """The lower half (N,) of what the trace of each offset is called."""
    _, seed = _seeds(topic, partition)
    if len(offsets) <= _FEW:
        return [_mixed(offset + seed & _LOW) for offset in offsets.tolist()]
    words = offsets.astype(np.uint64) + np.uint64(seed) + np.uint64(_STEP)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(_FIRST)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(_SECOND)
    return np.asarray(words ^ (words >> np.uint64(31)))


@lru_cache(maxsize=1024)
def _seeds(topic: str, partition: int) -> tuple[int, int]:
    both = _hash(f"{topic}/{partition}", 16)
    return both >> 64, both & _LOW


def _mixed(word: int) -> int:
    """A word whose bits all depend on all bits: splitmix64 (G. Steele, D. Lea, C. Flood, 2014)."""
    word = word + _STEP & _LOW
    word = (word ^ word >> 30) * _FIRST & _LOW
    word = (word ^ word >> 27) * _SECOND & _LOW
    return word ^ word >> 31


def _hash(text: str, size: int) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest(), "big")
