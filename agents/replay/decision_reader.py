"""What the topics hold of a range of decisions: the decisions, outcomes, and fields of events."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

from agents.broker import LogReader, topic_names
from agents.replay.decision_columns import ColumnsBuilder, DecisionColumns, decision_fields
from agents.replay.errors import NothingDecided
from agents.replay.log_cursor import OffsetOf, source_offset
from agents.replay.recorded_range import SourceRange, first_about
from agents.replay.topic_records import PartitionRecords, Progress, topic_records
from agents.replay.what_if_figures import Outcomes
from agents.workers import TailReader
from models.arrays import Bools, Ints
from topics.events import EventDecoder, OutcomeDecoder
from topics.pipeline import Pipeline, Topology
from topics.records import OutcomeRank, attempt_of, buried_offset, decided_offset
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordedDecisions:
    """The decisions of a range, one of each event."""

    decisions: DecisionColumns
    foreign: int
    """Records among them that are no decisions of the pipeline."""
    repeated: int = 0
    """Further decisions about an event: the first counts."""


@dataclass(frozen=True, slots=True)
class FieldValues:
    """The values of an event field, of N events."""

    values: NDArray[Any]
    """(N,); what stands where none is known means nothing."""
    known: Bools
    """Of which events the field is known (N,)."""

    @classmethod
    def of(
        cls, recorded: DecisionColumns, values: Mapping[int, Sequence[tuple[Ints, NDArray[Any]]]]
    ) -> FieldValues:
        """Those of *recorded* events, by *values* and their source offsets of each partition."""
        known, column = np.zeros(len(recorded), np.bool_), None
        for partition, parts in values.items():
            if not parts:
                continue
            offsets = np.concatenate([at for at, _ in parts])
            there = np.concatenate([value for _, value in parts])
            rows = np.flatnonzero(recorded.partitions == partition)
            place = np.minimum(offsets.searchsorted(recorded.offsets[rows]), len(offsets) - 1)
            hit = offsets[place] == recorded.offsets[rows]
            if column is None:
                column = np.zeros((len(recorded), *there.shape[1:]), there.dtype)
            column[rows[hit]], known[rows[hit]] = there[place[hit]], True
        return cls(np.zeros(len(recorded)) if column is None else column, known)


class DecisionReader:
    """Reads decisions about *ranges*, and what belongs to them: nothing of the stage topics.

    *progress*, by topic, is told how far it is.
    """

    def __init__(
        self, settings: BrokerSettings, reader: LogReader, tail: TailReader, pipeline: Pipeline,
        ranges: Sequence[SourceRange], progress: Mapping[str, Progress] | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._reader, self._tail = settings, reader, tail
        self._pipeline, self._ranges = pipeline, {of.partition: of for of in ranges}
        self._topology = Topology.of(pipeline)
        self._progress = progress or {}

    @property
    def ranges(self) -> list[SourceRange]:
        """What the decisions are about."""
        return [*self._ranges.values()]

    async def decisions(self) -> RecordedDecisions:
        """The decisions of the ranges. Raises NothingDecided, OtherStages, KafkaError."""
        topic, events = self._topology.decisions, self._topology.events
        builder = ColumnsBuilder(self._pipeline.weighting.inputs)
        foreign = read = 0
        starts = await self._starts(topic, decided_offset)
        async for part in topic_records(
            self._reader, topic, starts, progress=self._progress.get(topic)
        ):
            read += len(part.records)
            foreign += await asyncio.to_thread(self._take, builder, part, events)
        if not len(builder):
            raise NothingDecided(topic, read)
        columns = builder.columns()
        firsts = columns.firsts()
        return RecordedDecisions(firsts, foreign, len(columns) - len(firsts))

    def _take(self, builder: ColumnsBuilder, part: PartitionRecords, events: str) -> int:
        """Take in what is about the range; how many records are no decisions of the pipeline."""
        _, start, end = self._ranges[part.partition]
        foreign = 0
        for record in part.records:
            try:
                decision = decision_fields(record.value)
                source = decision["source"]
                if source["topic"] != events or source["partition"] != part.partition:
                    raise ValueError("about another topic's event")
                if start <= source["offset"] < end:
                    builder.add(decision, attempt_of(record.headers))
            except ValueError as exc:  # pydantic's too
                foreign += 1
                log.info("[%d]@%d is no decision: %s", part.partition, record.offset, exc)
        return foreign

    async def dead_letters(self, recorded: DecisionColumns) -> int:
        """How many events of the ranges are dead: those of them that no later attempt decided."""
        topic, dead = self._topology.dead_letters, set[tuple[int, int]]()
        starts = await self._starts(topic, buried_offset)
        async for part in topic_records(self._reader, topic, starts):
            _, start, end = self._ranges[part.partition]
            for record in part.records:
                offset = source_offset(record, buried_offset)
                if offset is not None and start <= offset < end:
                    dead.add((part.partition, offset))
        rows = np.flatnonzero(recorded.redriven)
        redriven = zip(
            recorded.partitions[rows].tolist(), recorded.offsets[rows].tolist(), strict=True
        )
        return len(dead.difference(redriven))

    async def outcomes(self, ids: Sequence[str]) -> Outcomes:
        """What came true of events with these *ids* (N), by all outcomes that there are.

        Of several about one event that of the highest rank counts. An id that several events have
        tells of none.
        """
        wanted = Counter(ids)
        known_of: dict[str, tuple[OutcomeRank, bool]] = {}
        topic, decoder = self._topology.outcomes, OutcomeDecoder(self._pipeline)
        if topic not in await topic_names(self._settings, [topic]):
            return Outcomes.unknown(len(ids))
        starts = await self._firsts(topic, range(self._topology.partitions))
        async for part in topic_records(
            self._reader, topic, starts, progress=self._progress.get(topic)
        ):
            decoded = decoder.decode(part.records, part.partition)
            said = zip(decoded.ids, decoded.ranks(), decoded.positive.tolist(), strict=True)
            for event_id, *outcome in said:
                before = known_of.get(event_id)
                if event_id in wanted and (before is None or outcome[0] > before[0]):
                    known_of[event_id] = (outcome[0], outcome[1])
        labels = {event_id: label for event_id, (_, label) in known_of.items()}
        sure = {event_id for event_id in labels if wanted[event_id] == 1}
        known = np.fromiter((event_id in sure for event_id in ids), np.bool_, len(ids))
        positive = np.fromiter(
            (event_id in sure and labels[event_id] for event_id in ids), np.bool_, len(ids)
        )
        ambiguous = sum(wanted[event_id] for event_id in labels if event_id not in sure)
        return Outcomes(known, positive, ambiguous)

    async def field(self, name: str, recorded: DecisionColumns) -> FieldValues:
        """The values of an event field, of *recorded* events that are still on their topic."""
        topic, schema = self._topology.events, self._pipeline.event
        decoder = EventDecoder(schema)
        numbers = np.unique(recorded.partitions).tolist()
        offsets = {p: recorded.offsets[recorded.partitions == p] for p in numbers}
        firsts = await self._firsts(topic, numbers)
        starts = {p: max(firsts[p], int(offsets[p].min())) for p in numbers}
        stops = {p: int(offsets[p].max()) + 1 for p in numbers}
        values: dict[int, list[tuple[Ints, NDArray[Any]]]] = {p: [] for p in numbers}
        async for part in topic_records(
            self._reader, topic, starts, stops=stops, progress=self._progress.get(topic)
        ):
            decoded = decoder.decode(part.records)
            at = np.fromiter((each.offset for each in part.records), np.int64, len(part.records))
            if len(decoded.valid):
                values[part.partition].append((at[decoded.valid], decoded.columns[name]))
        return FieldValues.of(recorded, values)

    async def _starts(self, topic: str, offset_of: OffsetOf) -> dict[int, int]:
        """Where the topic begins to tell of the ranges."""
        return {
            of.partition: await first_about(self._tail, topic, of, offset_of)
            for of in self._ranges.values()
        }

    async def _firsts(self, topic: str, numbers: Iterable[int]) -> dict[int, int]:
        await self._reader.partitions(topic)
        firsts = await self._reader.bounds([TopicPartition(topic, p) for p in numbers], "first")
        return {tp.partition: first for tp, first in firsts.items()}
