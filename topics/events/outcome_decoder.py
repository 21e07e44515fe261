"""Outcomes as columns: decoded, held to the pipeline file, and ranked by its precedence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from topics.events.event_decoder import DecodedEvents
from topics.events.source_decoder import (
    SourceDecoder,
    SourceRecord,
    credible_publication_ms,
    without,
)
from topics.pipeline import OUTCOME, OUTCOME_KNOWN_AT, OUTCOME_SOURCE, Pipeline, duration_ms
from topics.records import (
    Bools,
    Failure,
    Ints,
    OutcomeRank,
    outcome_schema,
    outcome_strengths,
    rfc3339_time,
)

FUTURE_KNOWN_TIME = "FutureKnownTime"


class OutcomeRecord(SourceRecord, Protocol):
    """The part of a record of outcomes that is needed here."""

    @property
    def offset(self) -> int:
        """Its place on the partition."""


@dataclass(frozen=True, slots=True)
class DecodedOutcomes:
    """N records of a partition of outcomes, of which M are valid."""

    valid: Ints
    """Indices of the valid ones (M,)."""
    ids: Sequence[str]
    """Of their events (M)."""
    keys: Sequence[str]
    """The values of their events' key field (M)."""
    event_ms: Ints
    """When their events happened (M,)."""
    positive: Bools
    """(M,)"""
    sources: Sequence[str]
    """Who says so (M); empty for nobody."""
    strengths: Ints
    """Of these sources (M,)."""
    known_ms: Ints
    """Since when it is known (M,)."""
    published_ms: Ints
    """The records' own times (M,)."""
    partition: int
    offsets: Ints
    """(M,)"""
    failures: Sequence[Failure]
    """Why the others are none; they name no component."""

    def __len__(self) -> int:
        return len(self.ids)

    def ranks(self) -> Iterator[OutcomeRank]:
        """What decides between outcomes of one event, for each of the valid ones."""
        rows = (self.strengths.tolist(), self.known_ms.tolist(), self.offsets.tolist())
        return (
            OutcomeRank(strength, known_ms, self.partition, offset)
            for strength, known_ms, offset in zip(*rows, strict=True)
        )


class OutcomeDecoder:
    """Decodes records of `<pipeline>.outcomes`; *clock* says the time, in seconds since 1970.

    An outcome cannot become known after it was published: one that says so, by more than the
    file's `event: future`, is refused, or it would outlast all that come later.
    """

    def __init__(self, pipeline: Pipeline, clock: Callable[[], float] = time.time) -> None:
        schema = outcome_schema(pipeline)
        self._decoder = SourceDecoder(schema, pipeline.partitions, clock)
        self._event, self._clock = pipeline.event, clock
        self._strengths = outcome_strengths(pipeline)
        self._future_ms = duration_ms(schema.future)

    def decode(self, records: Sequence[OutcomeRecord], partition: int) -> DecodedOutcomes:
        """Validate *records* of that partition, which are read now."""
        now_ms = int(self._clock() * 1000)
        published = np.fromiter((row.timestamp for row in records), np.int64, len(records))
        latest = credible_publication_ms(published, now_ms) + self._future_ms
        decoded = self._decoder.decode(records, partition)
        decoded = without(decoded, self._known_too_late(decoded, latest))
        columns, valid = decoded.columns, decoded.valid
        known = columns[OUTCOME_KNOWN_AT].astype(np.float64)
        is_said = np.isfinite(known)
        sources = [str(source) for source in columns[OUTCOME_SOURCE].tolist()]
        return DecodedOutcomes(
            valid=valid,
            ids=[str(name) for name in columns[self._event.id].tolist()],
            keys=[str(name) for name in columns[self._event.key].tolist()],
            event_ms=columns[self._event.time], positive=columns[OUTCOME],
            sources=sources,
            strengths=np.array([self._strengths.get(name, 0) for name in sources], np.int64),
            known_ms=np.where(is_said, np.where(is_said, known, 0), published[valid]).astype(
                np.int64
            ),
            published_ms=published[valid], partition=partition,
            offsets=np.array([records[row].offset for row in valid.tolist()], np.int64),
            failures=decoded.failures,
        )  # fmt: skip

    def _known_too_late(self, decoded: DecodedEvents, latest: Ints) -> list[Failure]:
        """Failures of outcomes that say to be known after *latest* (N,), by record."""
        known = decoded.columns[OUTCOME_KNOWN_AT].astype(np.float64)
        beyond = np.flatnonzero(np.nan_to_num(known, nan=-np.inf) > latest[decoded.valid])
        return [
            Failure(
                int(decoded.valid[at]), "", FUTURE_KNOWN_TIME,
                f"{OUTCOME_KNOWN_AT} {rfc3339_time(int(known[at]))} is after the outcome was "
                "published: say when it became known",
            )
            for at in beyond.tolist()
        ]  # fmt: skip
