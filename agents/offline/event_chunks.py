"""The rows of a file or frame as the records that `anabranch publish` would write, chunk by chunk.

A row is a record with the coordinates that it would have on topics without any: the partition of
its key, and its place there. What is computed by coordinates (exploration) is what a stream says
that begins with this file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord

from agents.publish import encoded, partition_of
from models.arrays import Bools, Ints
from models.data import FrameTable, MissingLabel, event_rows
from topics.pipeline import Pipeline, Topology
from topics.records import outcome_fields, outcome_of

RowSource = str | FrameTable
"""A file, or a frame."""


class PartitionRecords(NamedTuple):
    """Records of one partition, in order, and their places (N,) among the rows of a chunk."""

    partition: int
    places: Ints
    records: Sequence[ConsumerRecord]


@dataclass(frozen=True, slots=True)
class EventChunk:
    """N rows of a file, in its order."""

    first: int
    """The number of the first row, from 1 on."""
    events: Sequence[Mapping[str, object]]
    """As a producer would send them (N)."""
    partitions: Sequence[PartitionRecords]
    """All N rows, dealt out."""
    outcomes: Mapping[int, Sequence[ConsumerRecord]]
    """Partition → the outcomes of these rows that are known, for windows of outcomes."""
    labels: Bools | None
    """The true outcomes (N,); None where the file has none, or none is asked for."""
    known: Bools | None
    """Which rows have one (N,)."""


class FileEvents:
    """Reads a source, once or several times, always alike.

    With *outcomes* labels are outcomes that features may see, as late as the pipeline file says;
    *labelled* is whether there must be some: None takes what there is.
    """

    def __init__(
        self, pipeline: Pipeline, source: RowSource, *, labelled: bool | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.source = source
        self._pipeline, self._labelled, self._clock = pipeline, labelled, clock
        self._topology = Topology.of(pipeline)
        self._outcome_fields = outcome_fields(pipeline)

    def chunks(self) -> Iterator[EventChunk]:
        """All rows. Raises DatasetError, MissingExtra."""
        partitions = self._pipeline.partitions
        next_offsets, outcome_offsets, first = [0] * partitions, [0] * partitions, 1
        for events, labels, known in self._rows():
            now_ms = int(self._clock() * 1000)
            dealt: dict[int, tuple[list[int], list[ConsumerRecord]]] = {}
            for place, event in enumerate(events):
                key, value = encoded(event, self._pipeline.event.key)
                partition = partition_of(key, partitions)
                places, records = dealt.setdefault(partition, ([], []))
                offset = next_offsets[partition]
                next_offsets[partition] = offset + 1
                places.append(place)
                records.append(
                    _record(self._topology.events, partition, offset, now_ms, key, value)
                )
            yield EventChunk(
                first, events,
                [PartitionRecords(partition, np.array(places, np.int64), records)
                 for partition, (places, records) in sorted(dealt.items())],
                self._outcomes(events, labels, known, outcome_offsets, now_ms), labels, known,
            )  # fmt: skip
            first += len(events)

    def last_rows(self) -> dict[int, int]:
        """Partition → the number of its last row; none for what comes through a pipe."""
        last: dict[int, int] = {}
        if self.source == "-":
            return last
        number = 1
        for events, _, _ in self._rows():
            for event in events:
                key = str(event.get(self._pipeline.event.key, "")).encode()
                last[partition_of(key, self._pipeline.partitions)] = number
                number += 1
        return last

    def _rows(self) -> Iterator[tuple[list[dict[str, object]], Bools | None, Bools | None]]:
        wanted = self._labelled is not False and self._pipeline.data.label is not None
        if wanted and self._labelled is None and self.source == "-":
            wanted = False  # what has been read of it is gone: it cannot be tried twice
        batches = self._batches(labelled=wanted)
        try:
            first = next(batches, None)
        except MissingLabel:
            if self._labelled:
                raise
            batches = self._batches(labelled=False)
            first = next(batches, None)
        while first is not None:
            yield [*first.events()], first.labels, first.known
            first = next(batches, None)

    def _batches(self, *, labelled: bool) -> Iterator[Any]:
        def now() -> str:
            return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")

        return event_rows(self._pipeline, self.source, now=now, labelled=labelled, unlabelled=True)

    def _outcomes(
        self, events: Sequence[Mapping[str, object]], labels: Bools | None, known: Bools | None,
        next_offsets: list[int], now_ms: int,
    ) -> dict[int, list[ConsumerRecord]]:  # fmt: skip
        """What `anabranch publish` would write of the labels; a bad event has no outcome."""
        found: dict[int, list[ConsumerRecord]] = {}
        if labels is None or known is None or not self._topology.by_outcomes:
            return found
        for place in np.flatnonzero(known).tolist():
            event = events[place]
            try:
                said = outcome_of(self._outcome_fields, event, label=bool(labels[place]))
            except KeyError:
                continue
            key = str(event.get(self._pipeline.event.key, "")).encode()
            partition = partition_of(key, self._pipeline.partitions)
            offset = next_offsets[partition]
            next_offsets[partition] = offset + 1
            found.setdefault(partition, []).append(_record(
                self._topology.outcomes, partition, offset, now_ms, key, orjson.dumps(said)
            ))  # fmt: skip
        return found


def _record(
    topic: str, partition: int, offset: int, timestamp_ms: int, key: bytes, value: bytes
) -> ConsumerRecord:
    return ConsumerRecord(
        topic, partition, offset, timestamp_ms, 0, key, value, None, len(key), len(value), ()
    )
